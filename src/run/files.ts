/** Files that are there whole or not at all. */
import { createHash } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

/** Writes, syncs and renames into place. */
export function writeFileAtomic(path: string, content: string | Uint8Array): void {
  replace(path, (temporary) => writeFileSynced(temporary, content));
  syncFolder(dirname(path));
}

/** Writes and renames into place: for what can be made again, and is too much to wait for the disk each time. */
export function writeFileRenamed(path: string, content: string | Uint8Array): void {
  replace(path, (temporary) => writeFileSync(temporary, content));
}

/** Nothing is left behind where it fails. */
function replace(path: string, write: (temporary: string) => void): void {
  const temporary = `${path}.tmp`;
  try {
    write(temporary);
    renameSync(temporary, path);
  } catch (error) {
    try {
      unlinkSync(temporary);
    } catch {
      // It was not made, or cannot be removed: the first error is the one to tell.
    }
    throw error;
  }
}

export function writeFileSynced(path: string, content: string | Uint8Array): void {
  const bytes = typeof content === 'string' ? Buffer.from(content, 'utf8') : content;
  const file = openSync(path, 'w');
  try {
    let at = 0;
    while (at < bytes.length) {
      at += writeSync(file, bytes, at, bytes.length - at);
    }
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Makes a rename in the folder outlast a power failure. */
export function syncFolder(path: string): void {
  const folder = openSync(path, 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/**
 * Writes a folder of files beside its place, syncs it and renames it into place. What stood there is removed after the
 * new folder is complete.
 */
export function writeFolderAtomic(path: string, files: ReadonlyMap<string, string | Uint8Array>): void {
  const temporary = `${path}.tmp`;
  const old = `${path}.old`;
  rmSync(temporary, { recursive: true, force: true });
  rmSync(old, { recursive: true, force: true });
  mkdirSync(temporary, { recursive: true });
  for (const [name, content] of files) {
    writeFileSynced(join(temporary, name), content);
  }
  syncFolder(temporary);
  try {
    renameSync(path, old);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
      throw error;
    }
  }
  renameSync(temporary, path);
  syncFolder(dirname(path));
  rmSync(old, { recursive: true, force: true });
}

export function sha256(bytes: string | Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

export function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
