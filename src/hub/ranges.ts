/** Parts of remote files that were read are kept on disk: a row group is fetched once, whatever is sampled from it later. */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { RandomAccess } from './client.js';

export interface CachedRanges extends RandomAccess {
  /** Bytes of [start, end) that would have to be fetched. */
  missing(start: number, end: number): number;
}

/**
 * @param source null: nothing can be fetched
 * @param folder of this content alone, so named by its etag
 * @param absent what to throw for bytes that are neither here nor to be fetched
 */
export function cachedRanges(
  size: number,
  source: RandomAccess | null,
  folder: string,
  absent: () => Error,
): CachedRanges {
  // One that a crash cut short is fetched anew.
  const covering = (start: number, end: number) =>
    stored(folder).find(
      (range) =>
        range.start <= start && end <= range.end && statSync(join(folder, range.name)).size === range.end - range.start,
    );
  return {
    size,
    missing: (start, end) => (covering(start, end) === undefined ? end - start : 0),
    async slice(start, end) {
      const known = covering(start, end);
      if (known !== undefined) {
        return readPart(join(folder, known.name), start - known.start, end - start);
      }
      if (source === null) {
        throw absent();
      }
      const bytes = await source.slice(start, end);
      mkdirSync(folder, { recursive: true });
      const temporary = join(folder, `${randomBytes(4).toString('hex')}.tmp`);
      writeFileSync(temporary, bytes);
      renameSync(temporary, join(folder, `${start}-${end}`));
      return bytes;
    },
  };
}

/** Parts of a file on disk. */
export async function localFile(path: string): Promise<CachedRanges> {
  const file = await open(path);
  const { size } = await file.stat();
  await file.close();
  return { size, missing: () => 0, slice: (start, end) => readPart(path, start, end - start) };
}

async function readPart(path: string, at: number, length: number): Promise<Uint8Array> {
  const file = await open(path);
  try {
    const bytes = new Uint8Array(length);
    let done = 0;
    while (done < length) {
      const { bytesRead } = await file.read(bytes, done, length - done, at + done);
      if (bytesRead === 0) {
        throw new Error(`${path} ends after ${at + done} bytes`);
      }
      done += bytesRead;
    }
    return bytes;
  } finally {
    await file.close();
  }
}

function stored(folder: string): { name: string; start: number; end: number }[] {
  if (!existsSync(folder)) {
    return [];
  }
  return readdirSync(folder).flatMap((name) => {
    const [, start, end] = /^(\d+)-(\d+)$/.exec(name) ?? [];
    return start === undefined ? [] : [{ name, start: Number(start), end: Number(end) }];
  });
}
