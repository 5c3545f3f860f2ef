#!/usr/bin/env node
// Makes `npx voicegrpo …` work in a clone: npm links the commands of dependencies, not those of the package it stands in.
import { chmodSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const folder = path.join(root, 'node_modules', '.bin');
const link = path.join(folder, 'voicegrpo');

chmodSync(path.join(root, 'dist', 'cli.js'), 0o755);
mkdirSync(folder, { recursive: true });
rmSync(link, { force: true });
if (process.platform === 'win32') {
  writeFileSync(`${link}.cmd`, '@node "%~dp0\\..\\..\\dist\\cli.js" %*\r\n');
} else {
  symlinkSync(path.join('..', '..', 'dist', 'cli.js'), link);
}
