/**
 * Safetensors: whole files of float32, as an adapter and its optimizer state are, and the headers of files of any size.
 *
 * Layout (https://github.com/huggingface/safetensors): u64 little-endian length of the header, the header as JSON
 * {"name": {"dtype", "shape", "data_offsets"}, "__metadata__": {…}}, then the tensors' bytes. The header is padded with
 * spaces so that the bytes start at a multiple of 8.
 */
import { open } from 'node:fs/promises';

export interface Tensor {
  shape: readonly number[];
  data: Float32Array;
}

/** The bytes of a file that holds `tensors`, in the order of their names, so that equal tensors give equal bytes. */
export function writeSafetensors(
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Record<string, string> = {},
): Uint8Array {
  const sorted = [...tensors].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [name, { shape, data }] of sorted) {
    const count = shape.reduce((product, size) => product * size, 1);
    if (count !== data.length) {
      throw new RangeError(
        `tensor '${name}': shape [${shape.join(', ')}] has ${count} numbers, data has ${data.length}`,
      );
    }
  }
  const header = safetensorsHeader(
    sorted.map(([name, { shape, data }]) => ({ name, dtype: 'F32', shape, bytes: data.byteLength })),
    metadata,
  );
  const bodies = sorted.map(([, { data }]) => Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  return Buffer.concat([header, ...bodies]);
}

/** All before the tensors' bytes, which follow in the order given. */
export function safetensorsHeader(
  tensors: readonly { name: string; dtype: string; shape: readonly number[]; bytes: number }[],
  metadata: Record<string, string>,
): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const { name, dtype, shape, bytes } of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes] };
    offset += bytes;
  }
  const text = Buffer.from(JSON.stringify(header), 'utf8');
  const length = Math.ceil(text.length / 8) * 8;
  const first = Buffer.alloc(8 + length, ' ');
  first.writeBigUInt64LE(BigInt(length), 0);
  text.copy(first, 8);
  return first;
}

/**
 * Reads what `writeSafetensors` and PEFT's float32 adapters write.
 *
 * @throws Error with a plain sentence for anything that is not such a file
 */
export function readSafetensors(bytes: Uint8Array): { tensors: Map<string, Tensor>; metadata: Record<string, string> } {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerLength = headerLengthOf(buffer, buffer.length);
  const body = buffer.subarray(8 + headerLength);
  const { entries, metadata } = parseHeader(buffer.subarray(8, 8 + headerLength), body.length);
  const tensors = new Map<string, Tensor>();
  for (const [name, { dtype, shape, start, end }] of entries) {
    if (dtype !== 'F32') {
      throw new Error(`tensor ${quoted(name)} has type ${dtype}; only F32 is read here`);
    }
    const data = new Float32Array((end - start) / 4);
    Buffer.from(data.buffer).set(body.subarray(start, end));
    tensors.set(name, { shape, data });
  }
  return { tensors, metadata };
}

/** Where a tensor lies in its file. */
export interface TensorEntry {
  dtype: string;
  shape: readonly number[];
  /** Bytes from `start` up to `end`, in `readSafetensorsHeader` from the beginning of the file. */
  start: number;
  end: number;
}

/**
 * Reads the header of a file of any size and none of its tensors.
 *
 * @throws Error with a plain sentence for anything that the format does not allow: safetensors' own checks
 *   (https://github.com/huggingface/safetensors#format), and names that stand there twice
 */
export async function readSafetensorsHeader(path: string): Promise<Map<string, TensorEntry>> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const first = Buffer.alloc(8);
    const { bytesRead } = await file.read(first, 0, 8, 0);
    const header = Buffer.alloc(headerLengthOf(first.subarray(0, bytesRead), size));
    for (let at = 0; at < header.length; ) {
      const { bytesRead: more } = await file.read(header, at, header.length - at, 8 + at);
      if (more === 0) throw new Error('it ends inside of the header');
      at += more;
    }
    const begin = 8 + header.length;
    const { entries } = parseHeader(header, size - begin);
    for (const entry of entries.values()) {
      entry.start += begin;
      entry.end += begin;
    }
    return entries;
  } finally {
    await file.close();
  }
}

/** As in safetensors' own reader. */
const MAX_HEADER = 100_000_000;
/** Commas and brackets of a header; a tensor has about ten, a model fewer than 2,000 tensors. */
const MAX_HEADER_VALUES = 1_000_000;
/** Bits of a number, by safetensors' names. */
const BITS: Readonly<Record<string, number>> = {
  ...{
    F4: 4,
    F6_E2M3: 6,
    F6_E3M2: 6,
    F8_E5M2: 8,
    F8_E4M3: 8,
    F8_E8M0: 8,
    BF16: 16,
    F16: 16,
    F32: 32,
    F64: 64,
    C64: 64,
  },
  ...{ BOOL: 8, U8: 8, I8: 8, U16: 16, I16: 16, U32: 32, I32: 32, U64: 64, I64: 64 },
};

function headerLengthOf(first: Buffer, size: number): number {
  if (size < 8 || first.length < 8) {
    throw new Error(`a safetensors file has at least 8 bytes, this one ${size}`);
  }
  const headerLength = first.readBigUInt64LE(0);
  if (headerLength > BigInt(size - 8)) {
    throw new Error(`the header should have ${headerLength} bytes, but only ${size - 8} follow`);
  }
  if (headerLength > MAX_HEADER) {
    throw new Error(`the header should have ${headerLength} bytes, more than the ${MAX_HEADER} that are allowed`);
  }
  return Number(headerLength);
}

function parseHeader(
  bytes: Uint8Array,
  bodyLength: number,
): { entries: Map<string, TensorEntry>; metadata: Record<string, string> } {
  let header: unknown;
  try {
    header = parseJson(bytes, { depth: 3, values: MAX_HEADER_VALUES });
  } catch (error) {
    throw new Error(`the header ${(error as Error).message}`);
  }
  if (header === null || typeof header !== 'object' || Array.isArray(header)) {
    throw new Error('the header is not a JSON object');
  }
  const entries = new Map<string, TensorEntry>();
  let metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') metadata = value as Record<string, string>;
    else entries.set(name, parseEntry(name, value));
  }
  // The tensors fill the rest of the file without a gap, so nothing can hide in it and none lies in another.
  let at = 0;
  const placed = [...entries].sort(([, a], [, b]) => a.start - b.start || a.end - b.end);
  for (const [name, { start, end }] of placed) {
    if (end > bodyLength) {
      throw new Error(`tensor ${quoted(name)} should lie at bytes ${start} to ${end}, but only ${bodyLength} follow`);
    }
    if (start !== at) {
      throw new Error(`tensor ${quoted(name)} begins at byte ${start}, expected ${at}, the end of the one before it`);
    }
    at = end;
  }
  if (at !== bodyLength) throw new Error(`the tensors end at byte ${at}, but ${bodyLength} follow the header`);
  return { entries, metadata };
}

function parseEntry(name: string, value: unknown): TensorEntry {
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
  const isCount = (x: unknown): x is number => Number.isSafeInteger(x) && (x as number) >= 0;
  if (typeof dtype !== 'string' || !Object.hasOwn(BITS, dtype)) {
    throw new Error(`tensor ${quoted(name)} has the unknown type ${quoted(String(dtype))}`);
  }
  if (
    !Array.isArray(shape) ||
    !shape.every(isCount) ||
    !Array.isArray(offsets) ||
    offsets.length !== 2 ||
    !offsets.every(isCount)
  ) {
    throw new Error(`tensor ${quoted(name)} has no proper shape or offsets`);
  }
  const [start, end] = offsets as [number, number];
  const bytes = (shape.reduce((product, size) => product * size, 1) * (BITS[dtype] as number)) / 8;
  if (end - start !== bytes) {
    throw new Error(
      `tensor ${quoted(name)} lies at bytes ${start} to ${end}, but its shape [${shape.slice(0, 8).join(', ')}] takes ${bytes}`,
    );
  }
  return { dtype, shape, start, end };
}

/** A name from a file, made fit for a sentence: printable, in quotation marks, not longer than a line. */
export function quoted(text: string): string {
  const shown = [...text.slice(0, 80)].map((c) =>
    /[\x20-\x7e]/.test(c) ? c : `\\u{${c.codePointAt(0)?.toString(16)}}`,
  );
  return `'${shown.join('')}${text.length > 80 ? '…' : ''}'`;
}

export interface JsonLimits {
  /** How deep objects and arrays may lie in each other. */
  depth: number;
  /** How many commas and brackets there may be: what bounds the memory that the result takes. */
  values: number;
}

/**
 * JSON that somebody else wrote: JSON.parse, with bounds, and without the choice it makes where a key stands in an object twice.
 *
 * @param bytes UTF-8
 * @throws Error whose message goes on after the name of the text: 'is not JSON', 'has the key 'a' twice', …
 */
export function parseJson(bytes: Uint8Array, { depth, values }: JsonLimits): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new Error('is not UTF-8');
  }
  checkJson(text, { depth, values });
  return parsed(text);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error('is not JSON');
  }
}

/** Bounds and doubled keys; what else can be wrong is left to JSON.parse. */
function checkJson(text: string, { depth, values }: JsonLimits): void {
  /** The keys of each object that is open, null for an array. */
  const open: (Set<string> | null)[] = [];
  let count = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '"') {
      const begin = at++;
      while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
      let next = at + 1;
      while (/\s/.test(text[next] ?? '')) next++;
      const keys = open.at(-1);
      if (text[next] !== ':' || !keys) continue;
      const key = parsed(text.slice(begin, at + 1)) as string;
      if (keys.has(key)) throw new Error(`has the key ${quoted(key)} twice`);
      keys.add(key);
    } else if (character === '{' || character === '[') {
      if (open.length === depth) throw new Error(`is nested deeper than ${depth}`);
      open.push(character === '{' ? new Set() : null);
      count++;
    } else if (character === '}' || character === ']') open.pop();
    else if (character === ',') count++;
    if (count > values) throw new Error(`has more than ${values} values`);
  }
}
