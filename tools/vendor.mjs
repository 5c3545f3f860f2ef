#!/usr/bin/env node
// Before `npm pack`: copies what the build needs of the source carrier (nodejs-whisper, a development dependency) to vendor/, so
// that a packed tarball installs and builds without it. After packing, --clean takes it away, so that a clone builds from the
// carrier that package.json pins. --list prints the parts and fails when the carrier lacks one.
import { cpSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const source = path.join(root, 'node_modules', 'nodejs-whisper', 'cpp', 'whisper.cpp');
const target = path.join(root, 'vendor', 'whisper.cpp');

// ggml's CPU and CUDA backends; miniaudio.h and stb_vorbis.c carry their licences at their ends.
const PARTS = [
  'LICENSE',
  'AUTHORS',
  'CMakeLists.txt',
  'cmake',
  'include',
  'src/CMakeLists.txt',
  'src/whisper.cpp',
  'src/whisper-arch.h',
  'src/parakeet.cpp', // not built, but src/CMakeLists.txt names it
  'src/parakeet-arch.h',
  'ggml/CMakeLists.txt',
  'ggml/cmake',
  'ggml/include',
  'ggml/src',
  'examples/miniaudio.h',
  'examples/stb_vorbis.c',
];
const BACKENDS = new Set(['ggml-cpu', 'ggml-cuda']);

if (process.argv.includes('--list')) {
  const missing = PARTS.filter((part) => !existsSync(path.join(source, part)));
  process.stdout.write(`${PARTS.join('\n')}\n`);
  if (missing.length > 0) throw new Error(`The carrier lacks ${missing.join(', ')}`);
  process.exit(0);
}
rmSync(path.join(root, 'vendor'), { recursive: true, force: true });
if (!process.argv.includes('--clean')) {
  if (!existsSync(source)) {
    process.stderr.write(`No source carrier at ${source}. Run: npm ci\n`);
    process.exit(1);
  }
  for (const part of PARTS) {
    mkdirSync(path.dirname(path.join(target, part)), { recursive: true });
    cpSync(path.join(source, part), path.join(target, part), {
      recursive: true,
      filter: (file) => {
        const backend = /ggml[/\\]src[/\\](ggml-[\w-]+)/.exec(path.relative(source, file));
        return !backend || backend[1].includes('.') || !isFolder(backend[1]) || BACKENDS.has(backend[1]);
      },
    });
  }
}

function isFolder(name) {
  return existsSync(path.join(source, 'ggml', 'src', name, 'CMakeLists.txt'));
}
