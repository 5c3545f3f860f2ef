/**
 * Pages are checked before they are decoded. A decoder believes their headers and the runs inside: a few bytes could make it fill
 * arrays of 2^31 values.
 */
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import type { CompressionCodec, Compressors } from 'hyparquet';
import { Encodings } from 'hyparquet/src/constants.js';
import { decompressZstd, compressors as others } from 'hyparquet-compressors';
import { asStruct, asStructs, countOf, Damage, isCount, readStruct, type Struct } from './parquet-thrift.js';

/** Pages may be this many times what they are compressed, or this large: audio never is, a decompression bomb is. */
const MAX_RATIO = 24;
const SMALL = 64 * 2 ** 20;
/** Pages read at once, bytes. */
export const MAX_BYTES = 2 ** 30;
/** A dictionary may have entries that no row has, but not more than this. */
const MAX_ENTRIES = 2 ** 20;

/** Not LZ4: a few bytes of it can keep its decoder busy for a long time. */
export const COMPRESSORS: Compressors = {
  SNAPPY: others.SNAPPY!,
  GZIP: (input, length) => gunzipSync(input, { maxOutputLength: Math.max(1, length) }),
  BROTLI: (input, length) => brotliDecompressSync(input, { maxOutputLength: Math.max(1, length) }),
  ZSTD: (input, length) => decompressZstd(input, new Uint8Array(length)),
};

/** What the footer says of the pages of a column in a row group. */
export interface PagesOf {
  codec: CompressionCodec;
  /** Bits of a definition level; 0: no value can be missing. */
  levelBits: number;
  rows: number;
}

/**
 * The number of values in pages.
 *
 * @throws Damage unless `bytes` are whole pages that hold no more than they may
 */
export function checkPages(bytes: Uint8Array, { codec, levelBits, rows }: PagesOf): number {
  if (codec !== 'UNCOMPRESSED' && COMPRESSORS[codec] === undefined) {
    throw new Damage(`pages compressed with ${codec ?? 'something unknown'}, which cannot be read`);
  }
  const plain = (body: Uint8Array, length: number): Uint8Array =>
    codec === 'UNCOMPRESSED' ? body : COMPRESSORS[codec]!(body, length);
  const most = Math.min(MAX_BYTES, Math.max(SMALL, MAX_RATIO * bytes.length));
  let values = 0;
  let total = 0;
  for (let at = 0; at < bytes.length; ) {
    const { value: header, end } = readStruct(bytes, at);
    const kind = header[1];
    const stored = countOf(header[3], bytes.length - end, 'bytes in a page');
    const size = countOf(header[2], most - total, 'bytes in a page once decompressed');
    const body = bytes.subarray(end, end + stored);
    at = end + stored;
    total += size;
    if (kind === 2) {
      countOf(asStruct(header[7])[1], MAX_ENTRIES, 'values in a dictionary');
    } else if (kind === 0) {
      const { 1: claimed, 2: encoding } = asStruct(header[5]);
      const count = countOf(claimed, rows - values, 'values in a page');
      values += count;
      const page = plain(body, size);
      let place = 0;
      if (levelBits > 0) {
        checkRuns(page, 4, levelBits, count);
        place = 4 + new DataView(page.buffer, page.byteOffset, page.byteLength).getUint32(0, true);
      }
      // Where one entry is all there is, its number takes no bits, and no run follows.
      if (isDictionary(encoding) && page[place] !== 0) {
        checkRuns(page, place + 1, page[place], count);
      }
    } else if (kind === 3) {
      const { 1: claimed, 2: nulls, 3: own, 4: encoding, 5: levels, 6: repeats, 7: compressed } = asStruct(header[8]);
      const count = countOf(claimed, rows - values, 'values in a page');
      values += count;
      if (!isCount(nulls, count) || own !== count || !isCount(levels, stored) || !isCount(repeats, stored - levels)) {
        throw new Damage('a page whose header contradicts itself');
      }
      if (levelBits > 0) {
        checkRuns(body, repeats, levelBits, count);
      }
      const rest = body.subarray(levels + repeats);
      if (isDictionary(encoding)) {
        const page = compressed === false ? rest : plain(rest, size - levels - repeats);
        checkRuns(page, 1, page[0], count);
      }
    } else {
      throw new Damage('a page of an unknown kind');
    }
  }
  return values;
}

/** @throws Damage for an encoding whose own headers could claim anything: nothing spoken is stored in one */
function isDictionary(encoding: unknown): boolean {
  const name = Encodings[Number(encoding)];
  if (name !== 'PLAIN' && name !== 'PLAIN_DICTIONARY' && name !== 'RLE_DICTIONARY') {
    throw new Damage(
      `pages in ${name === undefined ? 'an unknown encoding' : `the encoding ${name}`}, which cannot be read`,
    );
  }
  return name !== 'PLAIN';
}

/** Runs of equal numbers and of packed ones: together they have to be no more than `count`, which the last packed one may round up. */
function checkRuns(bytes: Uint8Array, start: number, bits: number | undefined, count: number): void {
  if (!isCount(bits, 32)) {
    throw new Damage(bits === undefined ? 'a page that is cut off' : `numbers of ${bits} bits`);
  }
  let at = start;
  for (let left = count; left > 0 && at < bytes.length; ) {
    let head = 0;
    for (let factor = 1; ; factor *= 128) {
      const next = bytes[at++] ?? 0;
      head += (next & 0x7f) * factor;
      if (next < 0x80) {
        break;
      }
      if (factor > 2 ** 27) {
        throw new Damage('a run without an end');
      }
    }
    const packed = head % 2 === 1;
    const half = Math.floor(head / 2);
    const length = packed ? half * 8 : half;
    if (length === 0 || length > (packed ? left + 7 : left) || (packed && bits === 0 && length < left)) {
      throw new Damage(`a run of ${length} values where ${left} are left`);
    }
    at += packed ? half * bits : Math.ceil(bits / 8);
    left -= length;
  }
}

/** @throws Damage unless the pages that an offset index names follow one another inside [start, end) */
export function checkIndex(bytes: Uint8Array, [start, end]: readonly [number, number], rows: number): void {
  const pages: Struct[] = asStructs(readStruct(bytes).value[1]);
  let [byte, row] = [start, 0];
  for (const [i, { 1: offset, 2: size, 3: first }] of pages.entries()) {
    if (
      !(isCount(offset, end) && offset >= byte && isCount(size, end - offset)) ||
      !(isCount(first, rows) && (i === 0 ? first === 0 : first >= row))
    ) {
      throw new Damage('an index of pages that contradicts itself');
    }
    [byte, row] = [offset + size, first];
  }
  if (pages.length === 0) {
    throw new Damage('an index of no pages');
  }
}
