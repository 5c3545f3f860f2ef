#!/usr/bin/env node
// Builds the addon (and, in a clone, the native tests) with CMake through cmake-js.
//
//   node tools/build.mjs [--if-needed] [--cuda | --debug | --asan] [-DNAME=VALUE …]
//
// Each variant has its own CMake tree, so that none rebuilds another's objects:
//   release  build/cmake        -> build/Release/
//   cuda     build/cmake-cuda   -> build/Release/voicegrpo-cuda.node, beside the CPU's
//   debug    build/cmake-debug  -> build/Debug/
//   asan     build/cmake-asan   -> build/Asan/
// At install (--if-needed) VOICEGRPO_CUDA says whether the CUDA addon is built too: auto (default), on, off.
// Plain JavaScript on Node's own modules: it runs before anything is compiled, also inside an installed package.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { absolute, cudaPlan, findGpus, findNvcc } from './cuda.mjs';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const variants = {
  release: { tree: 'build/cmake', out: 'build/Release', config: 'Release', options: [] },
  debug: { tree: 'build/cmake-debug', out: 'build/Debug', config: 'Debug', options: [] },
  cuda: {
    tree: 'build/cmake-cuda',
    out: 'build/Release',
    config: 'Release',
    addon: 'voicegrpo-cuda.node',
    options: ['VOICEGRPO_CUDA=ON'],
  },
  asan: { tree: 'build/cmake-asan', out: 'build/Asan', config: 'Debug', options: ['VOICEGRPO_SANITIZE=ON'] },
};

class BuildFailure extends Error {}

function fail(message) {
  throw new BuildFailure(message);
}

function parseArguments(args) {
  const parsed = { variant: 'release', ifNeeded: false, options: [] };
  for (const arg of args) {
    if (arg === '--if-needed') parsed.ifNeeded = true;
    else if (arg === '--debug') parsed.variant = 'debug';
    else if (arg === '--cuda') parsed.variant = 'cuda';
    else if (arg === '--asan') parsed.variant = 'asan';
    else if (/^-D\w+=/.test(arg)) parsed.options.push(arg.slice(2));
    else fail(`unknown argument ${arg}; known are --if-needed, --cuda, --debug, --asan and -DNAME=VALUE`);
  }
  return parsed;
}

/** Every file whose change must lead to a new build. */
function* inputs() {
  for (const name of ['CMakeLists.txt', 'package.json', 'tools/build.mjs', 'tools/cuda.mjs'])
    yield path.join(root, name);
  for (const folder of ['cmake', 'native']) {
    for (const entry of fs.readdirSync(path.join(root, folder), { recursive: true, withFileTypes: true })) {
      const file = path.join(entry.parentPath ?? entry.path, entry.name);
      if (entry.isFile() && /\.(cpp|c|h|cu|cuh|cmake)$/.test(entry.name)) yield file;
      else if (entry.isDirectory()) yield file; // a file that went away changes its folder's time
    }
  }
}

function isFresh(addon) {
  if (!fs.existsSync(addon)) return false;
  const built = fs.statSync(addon).mtimeMs;
  for (const file of inputs()) if (fs.statSync(file).mtimeMs > built) return false;
  return true;
}

function works(command, args = ['--version']) {
  const result = spawnSync(command, args, { encoding: 'utf8' });
  return result.status === 0 ? result.stdout : null;
}

/** Names each missing tool with the way to get it; CMake's own messages for these are long and late. */
function checkTools() {
  const debian = fs.existsSync('/etc/debian_version');
  const how = (apt, other) => (debian ? `sudo apt-get install ${apt}` : other);
  const missing = [];

  const cmake = works('cmake');
  const version = cmake?.match(/(\d+)\.(\d+)/);
  if (!cmake) {
    missing.push(
      `CMake (3.18 or newer): ${how('cmake', 'https://cmake.org/download/, or `pip install cmake`, or `brew install cmake`')}`,
    );
  } else if (version && Number(version[1]) * 100 + Number(version[2]) < 318) {
    missing.push(`a newer CMake: found ${version[0]}, 3.18 is needed; \`pip install cmake\` gives a new one`);
  }
  const xcode = 'xcode-select --install';
  const compilers = process.env.CXX ? [process.env.CXX.split(' ')[0]] : ['c++', 'g++', 'clang++'];
  if (!compilers.some((name) => works(name))) {
    missing.push(
      `a C++17 compiler (looked for ${compilers.join(', ')}): ${how('g++', process.platform === 'darwin' ? xcode : 'install GCC 9 or newer, or Clang 10 or newer')}`,
    );
  }
  const cCompilers = process.env.CC ? [process.env.CC.split(' ')[0]] : ['cc', 'gcc', 'clang'];
  if (!cCompilers.some((name) => works(name))) {
    missing.push(
      `a C compiler (looked for ${cCompilers.join(', ')}): ${how('gcc', process.platform === 'darwin' ? xcode : 'install GCC or Clang')}`,
    );
  }
  if (!works('ninja') && !works('make')) {
    missing.push(`make or ninja: ${how('make', process.platform === 'darwin' ? xcode : 'install GNU make')}`);
  }
  if (missing.length > 0) {
    fail(
      `the addon is compiled on this machine, and something for that is missing:\n  - ${missing.join('\n  - ')}\nThen run: npm run build:native`,
    );
  }
}

function cmakeJs(args) {
  let bin;
  try {
    bin = createRequire(path.join(root, 'package.json')).resolve('cmake-js/bin/cmake-js');
  } catch {
    fail('cmake-js is not installed. Run: npm ci');
  }
  const result = spawnSync(process.execPath, [bin, ...args], { cwd: root, stdio: 'inherit' });
  if (result.status !== 0) {
    fail(
      `${args[0]} failed (exit code ${result.status}); the messages above say where. Node ${process.version}, ${os.platform()} ${os.arch()}.`,
    );
  }
}

function build({ variant, ifNeeded, options }) {
  const { tree, out, config, options: own, addon: file = 'voicegrpo.node' } = variants[variant];
  const addon = path.join(root, out, file);
  if (ifNeeded && isFresh(addon)) {
    process.stdout.write(`voicegrpo build: ${path.relative(root, addon)} is up to date\n`);
    return;
  }
  checkTools();

  const environment = (process.env.VOICEGRPO_CMAKE_OPTIONS ?? '').split(/\s+/).filter(Boolean);
  const defines = [
    `VOICEGRPO_OUTPUT_DIR=${path.join(root, out)}`,
    ...own,
    ...environment.map((o) => o.replace(/^-D/, '')),
    ...options,
  ];
  const common = ['--directory', root, '--out', path.join(root, tree), ...(config === 'Debug' ? ['--debug'] : [])];
  const wanted = JSON.stringify({ defines, node: process.version });
  const stamp = path.join(root, tree, 'voicegrpo-options.json');
  const configured =
    fs.existsSync(path.join(root, tree, 'CMakeCache.txt')) &&
    fs.existsSync(stamp) &&
    fs.readFileSync(stamp, 'utf8') === wanted;
  if (!configured) {
    // cmake-js picks a generator anew; a tree of another generator or place cannot be reused.
    fs.rmSync(path.join(root, tree, 'CMakeCache.txt'), { force: true });
    cmakeJs(['configure', ...common, ...defines.map((d) => `--CD${d}`)]);
    fs.writeFileSync(stamp, wanted);
  }
  cmakeJs(['build', ...common, '--parallel', String(os.availableParallelism())]);

  const now = new Date();
  fs.utimesSync(addon, now, now); // a build that had nothing to link is fresh all the same
  if (variant === 'release') {
    fs.copyFileSync(path.join(root, tree, 'compile_commands.json'), path.join(root, 'compile_commands.json'));
  }
}

/** The CUDA addon as VOICEGRPO_CUDA and this machine want it. At install a fault of it is only told where nobody asked for it. */
function buildCuda(parsed, setting) {
  const list = process.env.VOICEGRPO_CUDA_ARCHITECTURES;
  const plan = cudaPlan({ setting, list, nvcc: findNvcc(), gpus: findGpus() });
  if (!plan.build) {
    if (plan.fault) fail(`the CUDA addon cannot be built: ${plan.reason}`);
    process.stdout.write(`voicegrpo build: without CUDA: ${plan.reason}\n`);
    return;
  }
  const own = [`VOICEGRPO_CUDA_ARCHITECTURES=${plan.architectures}`, `CMAKE_CUDA_COMPILER=${absolute(plan.nvcc)}`];
  try {
    build({ ...parsed, variant: 'cuda', options: [...own, ...parsed.options] });
  } catch (error) {
    if (setting === 'on' || !(error instanceof BuildFailure)) throw error;
    process.stdout.write(
      `voicegrpo build: without CUDA: ${error.message}\nThe CPU addon is there. Try again with npm run build:cuda.\n`,
    );
  }
}

try {
  const parsed = parseArguments(process.argv.slice(2));
  if (parsed.variant === 'cuda') {
    buildCuda(parsed, 'on');
  } else {
    build(parsed);
    if (parsed.ifNeeded && parsed.variant === 'release') buildCuda(parsed, process.env.VOICEGRPO_CUDA || undefined);
  }
} catch (error) {
  if (!(error instanceof BuildFailure)) throw error;
  process.stderr.write(`voicegrpo build: ${error.message}\n`);
  process.exitCode = 1;
}
