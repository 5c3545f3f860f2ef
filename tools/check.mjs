#!/usr/bin/env node
// Types, lint and format of everything: `npm run check`. `npm run format` (--write) repairs what a tool can repair.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const write = process.argv.includes('--write');
const bin = (name) => path.join(root, 'node_modules', '.bin', name);

function nativeFiles() {
  return readdirSync(path.join(root, 'native'), { recursive: true })
    .filter((name) => /\.(cpp|c|h|cu)$/.test(name))
    .map((name) => path.join('native', name))
    .sort();
}

/** clang-format's own binary: the npm package carries one for each platform, pinned by the lock file. */
function clangFormat() {
  const folder = path.join(
    path.dirname(createRequire(import.meta.url).resolve('clang-format-node/package.json')),
    'bin',
  );
  const file = path.join(
    folder,
    `cfn-${process.platform}-${process.arch}`,
    `clang-format${process.platform === 'win32' ? '.exe' : ''}`,
  );
  return existsSync(file) ? file : null;
}

const steps = [
  { name: 'biome', command: bin('biome'), args: write ? ['check', '--write'] : ['check', '--error-on-warnings'] },
  {
    name: 'clang-format',
    command: clangFormat(),
    args: [...(write ? ['-i'] : ['--dry-run', '-Werror']), ...nativeFiles()],
  },
  ...(write
    ? []
    : ['tsconfig.json', 'web/tsconfig.json'].map((project) => ({
        name: `tsc ${project}`,
        command: bin('tsc'),
        args: ['--noEmit', '-p', project],
      }))),
];

const failed = [];
for (const { name, command, args } of steps) {
  if (command === null) {
    process.stdout.write(
      `${name}: NOT CHECKED, clang-format-node has no binary for ${process.platform} ${process.arch}\n`,
    );
    continue;
  }
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  process.stdout.write(`${name}: ${status === 0 ? 'ok' : `failed${error ? ` (${error.message})` : ''}`}\n`);
  if (status !== 0) failed.push(name);
}
if (failed.length > 0) {
  process.stdout.write(`check failed: ${failed.join(', ')}${write ? '' : '; npm run format repairs formatting'}\n`);
  process.exitCode = 1;
}
