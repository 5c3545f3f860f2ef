/**
 * Zip archives as torch.save writes them: which bytes of the file are which entry. Nothing is unpacked.
 *
 * PKWARE's APPNOTE.TXT, 4.3 and 4.5, narrowed to what PyTorch writes (caffe2/serialize/inline_container.cc): one part, entries
 * stored and not encrypted, no comment, nothing before the first entry or behind the last record. With that no entry can hold
 * more than the file does, and a reader that takes offsets from the directory agrees with one that walks the local headers.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { problem, type VoiceGrpoError } from '../errors.js';
import { quoted } from './safetensors.js';

const END = 0x06054b50;
const END_BYTES = 22;
const END_64 = 0x06064b50;
const END_64_BYTES = 56;
const LOCATOR_64 = 0x07064b50;
const LOCATOR_64_BYTES = 20;
const CENTRAL = 0x02014b50;
const CENTRAL_BYTES = 46;
const LOCAL = 0x04034b50;
const LOCAL_BYTES = 30;
const EXTRA_64 = 0x0001;
const FULL_16 = 0xffff;
const FULL_32 = 0xffffffff;

/** An entry a tensor: the largest Whisper has 1,259, a training checkpoint with Adam's state three times as many. */
const MAX_ENTRIES = 100_000;
const MAX_DIRECTORY_BYTES = 32 * 2 ** 20;
const MAX_NAME_BYTES = 1024;
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A file that is read by byte ranges. */
export class FileBytes {
  readonly #descriptor: number;
  /** bytes */
  readonly size: number;

  /** @throws NodeJS.ErrnoException where the file cannot be opened */
  constructor(readonly path: string) {
    this.#descriptor = openSync(path, 'r');
    this.size = fstatSync(this.#descriptor).size;
  }

  /**
   * @param into filled instead of a new buffer, from its beginning; at least `bytes` long
   * @throws VoiceGrpoError E_MODEL where the file ends before
   */
  read(at: number, bytes: number, into?: Buffer): Buffer {
    // Before the buffer is made: a file can claim any size.
    if (!(at >= 0 && bytes >= 0 && at + bytes <= this.size)) throw this.#ended(at, bytes);
    const buffer = into ?? Buffer.allocUnsafe(bytes);
    for (let done = 0; done < bytes; ) {
      const count = readSync(this.#descriptor, buffer, done, bytes - done, at + done);
      if (count === 0) throw this.#ended(at, bytes);
      done += count;
    }
    return buffer.subarray(0, bytes);
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #ended(at: number, bytes: number): VoiceGrpoError {
    return problem({
      code: 'E_MODEL',
      expected: `${bytes} bytes at offset ${at}`,
      where: this.path,
      got: `a file of ${this.size} bytes`,
      next: 'Copy or download the file again.',
    });
  }
}

export interface ZipEntry {
  name: string;
  /** First byte of the content in the file. */
  offset: number;
  /** bytes */
  size: number;
  /** 0 where the writer left it out, as torch.save does after `torch.serialization.set_crc32_options(False)`. */
  crc32: number;
}

/**
 * The entries of the archive by their names, in the order of the directory.
 *
 * @throws VoiceGrpoError E_MODEL for an archive that torch.save does not write: damaged, with entries that overlap, lie
 *   outside, are compressed or encrypted, or have one name twice
 */
export function readZipDirectory(file: FileBytes): Map<string, ZipEntry> {
  const { start, bytes, entries } = findDirectory(file);
  const directory = file.read(start, bytes);
  const found = new Map<string, ZipEntry>();
  const local: { name: string; start: number; end: number }[] = [];
  let at = 0;
  for (let i = 0; i < entries; i++) {
    if (at + CENTRAL_BYTES > bytes || directory.readUInt32LE(at) !== CENTRAL) {
      throw damaged(file, `a directory that ends after ${i} of ${entries} entries`);
    }
    const { header, next } = centralHeader(file, directory, at);
    if (found.has(header.name)) throw damaged(file, `two entries named ${quoted(header.name)}`);
    const entry = locate(file, header, start);
    found.set(entry.name, entry);
    local.push({ name: entry.name, start: header.local, end: entry.offset + entry.size });
    at = next;
  }
  if (at !== bytes) throw damaged(file, `${bytes - at} bytes in the directory behind its last entry`);
  local.sort((a, b) => a.start - b.start);
  for (const [i, { name, end }] of local.entries()) {
    const following = local[i + 1];
    if (following && end > following.start) {
      throw damaged(file, `entries that overlap, ${quoted(name)} and ${quoted(following.name)}`);
    }
  }
  if (local[0]?.start !== 0) throw damaged(file, 'something before the first entry');
  return found;
}

function damaged(file: FileBytes, got: string): VoiceGrpoError {
  return problem({
    code: 'E_MODEL',
    expected: 'a zip archive as torch.save writes it',
    where: file.path,
    got,
    next: 'Copy or download the file again, or save it again with torch.save.',
  });
}

/** The directory's place, from the records at the end of the file. */
function findDirectory(file: FileBytes): { start: number; bytes: number; entries: number } {
  if (file.size < END_BYTES) throw damaged(file, `only ${file.size} bytes`);
  const endAt = file.size - END_BYTES;
  const end = file.read(endAt, END_BYTES);
  if (end.readUInt32LE(0) !== END || end.readUInt16LE(20) !== 0) {
    throw damaged(file, 'a file that does not end with a zip directory, as a truncated one does');
  }
  const short = [end.readUInt16LE(10), end.readUInt32LE(12), end.readUInt32LE(16)] as const;
  if (end.readUInt16LE(4) !== 0 || end.readUInt16LE(6) !== 0 || end.readUInt16LE(8) !== short[0]) {
    throw damaged(file, 'one part of several');
  }
  const long = findDirectory64(file, endAt);
  const full = [FULL_16, FULL_32, FULL_32];
  if (long ? short.some((value, i) => value !== full[i] && value !== long.values[i]) : short.includes(FULL_32)) {
    throw damaged(file, 'zip64 records that contradict the others');
  }
  const [entries, bytes, start] = long?.values ?? short;
  if (entries > MAX_ENTRIES || bytes > MAX_DIRECTORY_BYTES) {
    throw damaged(file, `a directory of ${entries} entries and ${bytes} bytes`);
  }
  if (entries === 0) throw damaged(file, 'an empty archive');
  if (start + bytes !== (long?.at ?? endAt)) throw damaged(file, 'a directory that is not where the file says');
  return { start, bytes, entries };
}

/** What the zip64 record says, if there is one, and where it lies: directly before its locator. */
function findDirectory64(file: FileBytes, endAt: number) {
  const locatorAt = endAt - LOCATOR_64_BYTES;
  if (locatorAt < END_64_BYTES) return null;
  const locator = file.read(locatorAt, LOCATOR_64_BYTES);
  if (locator.readUInt32LE(0) !== LOCATOR_64) return null;
  const at = locatorAt - END_64_BYTES;
  const record = file.read(at, END_64_BYTES);
  const wide = (offset: number) => Number(record.readBigUInt64LE(offset));
  if (
    Number(locator.readBigUInt64LE(8)) !== at ||
    locator.readUInt32LE(4) !== 0 ||
    locator.readUInt32LE(16) !== 1 ||
    record.readUInt32LE(0) !== END_64 ||
    wide(4) !== END_64_BYTES - 12 ||
    record.readUInt32LE(16) !== 0 ||
    record.readUInt32LE(20) !== 0 ||
    wide(24) !== wide(32)
  ) {
    throw damaged(file, 'a zip64 record that is not where its locator says');
  }
  return { at, values: [wide(32), wide(40), wide(48)] as const };
}

interface Header {
  name: string;
  flags: number;
  size: number;
  crc32: number;
  /** Where the local header begins. */
  local: number;
}

function centralHeader(file: FileBytes, directory: Buffer, at: number): { header: Header; next: number } {
  const nameBytes = directory.readUInt16LE(at + 28);
  const extraBytes = directory.readUInt16LE(at + 30);
  const extraAt = at + CENTRAL_BYTES + nameBytes;
  const next = extraAt + extraBytes + directory.readUInt16LE(at + 32);
  if (next > directory.length) throw damaged(file, 'an entry that ends behind the directory');
  const name = entryName(file, directory.subarray(at + CENTRAL_BYTES, extraAt));
  const flags = directory.readUInt16LE(at + 8);
  if ((flags & 0x2041) !== 0) throw damaged(file, `an encrypted entry, ${quoted(name)}`);
  const method = directory.readUInt16LE(at + 10);
  if (method !== 0) {
    throw damaged(file, `a compressed entry, ${quoted(name)} (method ${method}), which torch.save never writes`);
  }
  // In this order, each only where the field before is full (APPNOTE 4.5.3).
  let [size, packed, local] = [24, 20, 42].map((field) => directory.readUInt32LE(at + field)) as [
    number,
    number,
    number,
  ];
  const wide = wideValues(directory.subarray(extraAt, extraAt + extraBytes));
  const take = (value: number) => {
    if (value !== FULL_32) return value;
    const full = wide.shift();
    if (full === undefined) throw damaged(file, `no zip64 sizes for ${quoted(name)}`);
    return full;
  };
  size = take(size);
  packed = take(packed);
  local = take(local);
  if (packed !== size)
    throw damaged(file, `two sizes for the stored entry ${quoted(name)}, ${packed} and ${size} bytes`);
  return { header: { name, flags, size, crc32: directory.readUInt32LE(at + 16), local }, next };
}

function entryName(file: FileBytes, bytes: Buffer): string {
  if (bytes.length === 0 || bytes.length > MAX_NAME_BYTES) throw damaged(file, `a name of ${bytes.length} bytes`);
  try {
    return UTF8.decode(bytes);
  } catch {
    throw damaged(file, `a name that is not UTF-8, ${quoted(bytes.toString('latin1'))}`);
  }
}

/** The 8-byte numbers of the zip64 field among an entry's extra fields. */
function wideValues(extra: Buffer): number[] {
  for (let at = 0; at + 4 <= extra.length; ) {
    const bytes = extra.readUInt16LE(at + 2);
    if (extra.readUInt16LE(at) === EXTRA_64 && at + 4 + bytes <= extra.length) {
      return Array.from({ length: Math.floor(bytes / 8) }, (_, i) => Number(extra.readBigUInt64LE(at + 4 + 8 * i)));
    }
    at += 4 + bytes;
  }
  return [];
}

/** Reads the local header, which must say the same, for its length: the content lies behind it and before the directory. */
function locate(file: FileBytes, { name, flags, size, crc32, local }: Header, directoryAt: number): ZipEntry {
  if (!(local + LOCAL_BYTES <= directoryAt)) throw damaged(file, `an entry outside the file, ${quoted(name)}`);
  const header = file.read(local, LOCAL_BYTES);
  const nameBytes = header.readUInt16LE(26);
  const offset = local + LOCAL_BYTES + nameBytes + header.readUInt16LE(28);
  if (header.readUInt32LE(0) !== LOCAL) throw damaged(file, `no header where ${quoted(name)} should be`);
  if (!(offset + size <= directoryAt)) {
    throw damaged(file, `an entry past the end, ${quoted(name)} with ${size} bytes at offset ${offset}`);
  }
  const same = file.read(local + LOCAL_BYTES, nameBytes).equals(Buffer.from(name));
  // Sizes of 0 with flag 3: they follow the content. Full ones: they are in an extra field.
  const sizes = [header.readUInt32LE(18), header.readUInt32LE(22)];
  const agree = sizes.every((value) => value === size || value === FULL_32 || (value === 0 && (flags & 8) !== 0));
  if (!same || !agree || header.readUInt16LE(6) !== flags || header.readUInt16LE(8) !== 0) {
    throw damaged(file, `two different headers for ${quoted(name)}`);
  }
  return { name, offset, size, crc32 };
}
