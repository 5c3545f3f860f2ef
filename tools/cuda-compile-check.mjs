// Compiles the CUDA addon and every kernel of ours on a machine without a GPU. Nothing is run on one. Not part of CI.
//
//   tools/cuda-compile-check [--toolchain DIR] [--kernels-only] [--architectures 75,80,86,89,90,120]
//
// The compiler comes from PyPI (839 MB), into DIR (default: build/cuda-toolchain), where it stays for the next time. The addon is
// built for sm_90, which compiles ggml-cuda once (tens of minutes on two cores); each kernel for every architecture. Prints a table;
// exit code 1 when a line of it failed.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const { values: flags } = parseArgs({
  options: {
    toolchain: { type: 'string', default: path.join(root, 'build', 'cuda-toolchain') },
    architectures: { type: 'string', default: '75,80,86,89,90,120' },
    'kernels-only': { type: 'boolean', default: false },
  },
});
const WHEELS = [
  'nvidia-cuda-nvcc==13.0.88',
  'nvidia-cuda-crt==13.0.88',
  'nvidia-nvvm==13.0.88',
  'nvidia-cuda-runtime==13.0.*',
  'nvidia-cuda-cccl==13.0.*',
  'nvidia-cublas==13.0.*',
];
const ADDON_ARCHITECTURE = '90';
const table = [];

function line(what, ok, seconds, remark = '') {
  table.push({ what, ok, seconds, remark });
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${what} ${seconds.toFixed(1)} s ${remark}`);
}

function timed(command, args, options = {}) {
  const start = performance.now();
  const result = spawnSync(command, args, { cwd: root, encoding: 'utf8', ...options });
  return { ...result, seconds: (performance.now() - start) / 1000 };
}

/** The toolkit's root in the folder: a compiler as CMake expects it. */
function toolchain(folder) {
  const cuda = path.join(folder, 'nvidia', 'cu13');
  if (!fs.existsSync(path.join(cuda, 'bin', 'nvcc'))) {
    const python = process.env.PYTHON ?? 'python3';
    const { status, seconds } = timed(python, ['-m', 'pip', 'install', '--no-deps', '--target', folder, ...WHEELS], {
      stdio: 'inherit',
    });
    line('compiler from PyPI', status === 0, seconds);
    if (status !== 0) return null;
  }
  // The wheels have lib/ and numbered libraries alone.
  const link = (target, name) => {
    if (!fs.existsSync(name)) fs.symlinkSync(target, name);
  };
  link('lib', path.join(cuda, 'lib64'));
  for (const name of ['cudart', 'cublas', 'cublasLt']) {
    link(`lib${name}.so.13`, path.join(cuda, 'lib', `lib${name}.so`));
  }
  return cuda;
}

function kernels(nvcc) {
  const folder = path.join(root, 'native', 'cuda');
  const files = fs.readdirSync(folder).filter((name) => name.endsWith('.cu'));
  if (files.length === 0) line('kernels of native/cuda', false, 0, 'none found');
  const carrier = ['vendor', path.join('node_modules', 'nodejs-whisper', 'cpp')]
    .map((one) => path.join(root, one, 'whisper.cpp'))
    .find((one) => fs.existsSync(one));
  const includes = ['native/core', 'native/cuda'].map((one) => path.join(root, one));
  if (carrier !== undefined) includes.push(path.join(carrier, 'ggml', 'include'), path.join(carrier, 'ggml', 'src'));
  for (const file of files) {
    for (const architecture of flags.architectures.split(',')) {
      const { status, stderr, seconds } = timed(nvcc, [
        ...['-std=c++17', '-O3', '-DVOICEGRPO_CUDA', '-cubin', `-arch=sm_${architecture}`, '-o', '/dev/null'],
        ...includes.flatMap((one) => ['-I', one]),
        ...['-Xptxas', '-v', path.join(folder, file)],
      ]);
      // Spilled registers are no failure, and worth a look.
      const spills = [...stderr.matchAll(/(\d+) bytes spill stores/g)].reduce((sum, [, n]) => sum + Number(n), 0);
      const remark =
        status === 0 ? (spills > 0 ? `spills ${spills} bytes` : '') : stderr.trim().split('\n').slice(0, 3).join(' | ');
      line(`${file} sm_${architecture}`, status === 0, seconds, remark);
    }
  }
}

function addon(nvcc) {
  const { status, seconds } = timed(process.execPath, [path.join(root, 'tools', 'build.mjs'), '--cuda'], {
    stdio: 'inherit',
    env: { ...process.env, CUDACXX: nvcc, VOICEGRPO_CUDA_ARCHITECTURES: ADDON_ARCHITECTURE },
  });
  const file = path.join(root, 'build', 'Release', 'voicegrpo-cuda.node');
  const size = status === 0 ? `${(fs.statSync(file).size / 1e6).toFixed(0)} MB` : '';
  line(`voicegrpo-cuda.node sm_${ADDON_ARCHITECTURE}`, status === 0, seconds, size);
  if (status !== 0) return;
  // Without a driver it must load all the same, and say that none is there; every symbol is looked up now.
  const probe = timed(process.execPath, [
    '-e',
    `const os = require('node:os'), m = { exports: {} }; process.dlopen(m, ${JSON.stringify(file)}, os.constants.dlopen.RTLD_NOW); console.log(JSON.stringify(m.exports.devices()))`,
  ]);
  const said = probe.status === 0 ? JSON.parse(probe.stdout) : null;
  const good = said !== null && said.runtime >= 12000 && typeof said.driver === 'number';
  line(
    'it loads, all symbols bound',
    good,
    probe.seconds,
    good
      ? `driver ${said.driver}, ${said.devices.length} devices`
      : probe.stderr.trim().split('\n').slice(0, 6).join(' | '),
  );
}

const cuda = toolchain(path.resolve(flags.toolchain));
if (cuda !== null) {
  const nvcc = path.join(cuda, 'bin', 'nvcc');
  kernels(nvcc);
  if (!flags['kernels-only']) addon(nvcc);
}
const width = Math.max(...table.map(({ what }) => what.length));
console.log('\nCUDA: compiled, not run');
for (const { what, ok, seconds, remark } of table) {
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${what.padEnd(width)} ${seconds.toFixed(1).padStart(8)} s  ${remark}`);
}
process.exit(table.every(({ ok }) => ok) ? 0 : 1);
