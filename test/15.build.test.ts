/** What someone reads whose addon is missing or broken, whose machine lacks a tool, or whose whisper.cpp is another one. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { presentError, VoiceGrpoError } from '../src/errors.js';
import { loadNative } from '../src/native/load.js';

const folder = mkdtempSync(join(tmpdir(), 'voicegrpo-build-'));
const root = resolve('.');

function run(command: string, args: string[], env: NodeJS.ProcessEnv = process.env) {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', env });
  return { status, output: `${stdout}${stderr}`, stderr };
}

const transcribe = (env: NodeJS.ProcessEnv) =>
  run(process.execPath, ['--import', 'tsx', 'src/cli.ts', 'transcribe', 'assets/clips/ifeval/000.ogg'], {
    ...process.env,
    ...env,
  });

test('the addon names its versions', () => {
  const version = loadNative().version();
  const { version: own } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
  assert.equal([version.addon, version.whisper, version.ggml], [own, '1.9.1', '0.15.1']);
  assert.ok(['avx512', 'avx2', 'neon', 'portable'].includes(version.cpu), version.cpu);
});

test('a missing addon: the path that was tried and the command', () => {
  const { status, stderr } = transcribe({ VOICEGRPO_ADDON: join(folder, 'none.node') });
  assert.is(status, 1);
  assert.ok(stderr.includes(`${join(folder, 'none.node')}: no such file`), stderr);
  assert.not.ok(/^\s+at /m.test(stderr), stderr);
});

test('a broken addon: the path and what is wrong with it', () => {
  const broken = join(folder, 'broken.node');
  writeFileSync(broken, 'not a shared library');
  const { status, stderr } = transcribe({ VOICEGRPO_ADDON: broken });
  assert.is(status, 1);
  assert.ok(stderr.includes(`${broken}: `) && /run: /.test(stderr), stderr);
});

test('an unknown build is named with the known ones', () => {
  const { status, stderr } = transcribe({ VOICEGRPO_ADDON: '', VOICEGRPO_BUILD: 'fast' });
  assert.is(status, 2);
  assert.match(stderr, 'release, debug or asan');
});

test('a build without its tools says which and how to get them', () => {
  const bin = join(folder, 'empty-path');
  mkdirSync(bin);
  symlinkSync(process.execPath, join(bin, 'node'));
  const { status, output } = run(process.execPath, ['tools/build.mjs'], { PATH: bin, HOME: folder });
  assert.is(status, 1);
  for (const part of ['CMake', 'C++17 compiler', 'make or ninja', 'npm run build:native']) assert.match(output, part);
});

test('a build that is up to date is not made again', () => {
  const { status, output } = run(process.execPath, ['tools/build.mjs', '--if-needed']);
  assert.is(status, 0);
  assert.ok(/up to date/.test(output) || /CMD BUILD/.test(output), output);
  const again = run(process.execPath, ['tools/build.mjs', '--if-needed']);
  assert.match(again.output, 'up to date');
});

test('CMake refuses another whisper.cpp, and says where none was found', () => {
  const carrier = join(folder, 'whisper.cpp');
  for (const path of ['src', 'ggml']) mkdirSync(join(carrier, path), { recursive: true });
  writeFileSync(join(carrier, 'src', 'whisper.cpp'), '');
  writeFileSync(join(carrier, 'CMakeLists.txt'), 'project("whisper.cpp" VERSION 1.7.0)\n');
  writeFileSync(
    join(carrier, 'ggml', 'CMakeLists.txt'),
    'set(GGML_VERSION_MAJOR 0)\nset(GGML_VERSION_MINOR 9)\nset(GGML_VERSION_PATCH 4)\n',
  );
  const configure = (dir: string, tree: string) =>
    run('cmake', ['-S', root, '-B', join(folder, tree), `-DVOICEGRPO_WHISPER_CPP_DIR=${dir}`]);
  const wrong = configure(carrier, 'wrong');
  assert.ok(wrong.status !== 0);
  assert.match(wrong.output.replace(/\s+/g, ' '), 'found whisper.cpp 1.7.0 with ggml 0.9.4');
  const none = configure(join(folder, 'nothing-here'), 'none');
  assert.ok(none.status !== 0);
  assert.match(none.output, 'nothing-here');
  assert.match(none.output, 'npm ci');
});

test('node-gyp leads to the same build', () => {
  const gyp = readFileSync('binding.gyp', 'utf8').replace(/^#.*$/gm, '');
  const { targets } = JSON.parse(gyp) as {
    targets: { type: string; actions: { action: string[]; outputs: string[] }[] }[];
  };
  const [action] = targets[0]!.actions;
  assert.is(targets[0]!.type, 'none');
  assert.equal(action!.action, ['node', '<(module_root_dir)/tools/build.mjs']);
  assert.equal(action!.outputs, ['<(module_root_dir)/build/Release/voicegrpo.node']);
});

test('the package holds what a build without the carrier needs', () => {
  const listing = run(process.execPath, ['tools/vendor.mjs', '--list']);
  assert.is(listing.status, 0);
  for (const part of ['LICENSE', 'src/whisper.cpp', 'ggml/src', 'examples/miniaudio.h', 'examples/stb_vorbis.c']) {
    assert.match(listing.output, part);
  }
  const { files } = JSON.parse(readFileSync('package.json', 'utf8')) as { files: string[] };
  for (const part of ['vendor', 'native', 'CMakeLists.txt', 'cmake', 'tools/build.mjs', 'dist', 'assets', 'configs']) {
    assert.ok(files.includes(part), part);
  }
});

test('errors become sentences with exit codes; a defect keeps its stack', () => {
  const shown = presentError(new VoiceGrpoError('expected a, got b', { code: 'E_CONFIG', hint: 'type c' }));
  assert.equal(shown, { text: 'Expected a, got b.\nType c.', exitCode: 2 });
  const native = (code: string) => presentError(Object.assign(new Error('it broke'), { code, hint: '' }));
  assert.equal(
    ['E_AUDIO', 'E_MODEL', 'E_LIMIT', 'E_NUMERIC', 'E_INTERNAL'].map((code) => native(code).exitCode),
    [3, 3, 1, 1, 1],
  );
  assert.is(native('E_MODEL').text, 'It broke.');
  assert.match(native('E_INTERNAL').text, /\n\s+at /);
  assert.match(presentError(new TypeError('x is not a function')).text, 'defect of voicegrpo');
  assert.is(presentError('a string').exitCode, 1);
});

test.run();
