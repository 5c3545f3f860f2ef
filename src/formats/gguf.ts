/**
 * Writing GGUF, version 3, little-endian (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
 *
 * Layout: 'GGUF', version, counts of tensors and values; each value as key, kind, content; each tensor as name, dimensions
 * (the fastest first), type, offset; zeros up to a multiple of 32; the tensors' bytes, each filled up to a multiple of 32.
 */
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncFolder } from '../run/files.js';
import { GGUF_TENSOR_TYPES, type GgufTensorType, tensorBytes } from './gguf-types.js';

const ALIGNMENT = 32;
/** gguf_type: the kinds of a value. */
const KIND = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const;

export type GgufValue =
  | { kind: 'u32' | 'i32' | 'f32'; value: number }
  | { kind: 'bool'; value: boolean }
  | { kind: 'string'; value: string }
  | { kind: 'strings'; value: readonly string[] }
  | { kind: 'f32s'; value: Float32Array }
  | { kind: 'i32s'; value: Int32Array }
  /** A value as another file has it: the number of its kind, and the bytes behind that. */
  | { kind: 'encoded'; type: number; value: Uint8Array };

export interface GgufTensor {
  name: string;
  /** The slowest dimension first, as PyTorch writes a shape: [out, in]. */
  shape: readonly number[];
  type: GgufTensorType;
  /** The tensor's bytes one piece after another. A piece is written before the next is asked for, so its memory may be the same. */
  pieces: () => AsyncIterable<Uint8Array>;
}

export interface GgufOptions {
  /** Called after each piece with bytes of tensors written and their sum. */
  progress?: ((written: number, total: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

const count = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);
const padded = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/**
 * Writes a GGUF file beside its place, syncs it and renames it into place. What stood there stays until the new file is
 * whole; a failure leaves nothing behind.
 *
 * @returns bytes of the file
 * @throws what `pieces` throws, the signal's reason, an error of the file system
 */
export async function writeGguf(
  path: string,
  values: ReadonlyMap<string, GgufValue>,
  tensors: readonly GgufTensor[],
  { progress, signal }: GgufOptions = {},
): Promise<number> {
  signal?.throwIfAborted();
  const temporary = `${path}.${process.pid}.tmp`;
  await rm(temporary, { force: true });
  const file = await open(temporary, 'wx');
  try {
    let bytes: number;
    try {
      bytes = await writeAll(file, values, tensors, { progress, signal });
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    syncFolder(dirname(path));
    return bytes;
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

async function writeAll(
  file: FileHandle,
  values: ReadonlyMap<string, GgufValue>,
  tensors: readonly GgufTensor[],
  { progress, signal }: GgufOptions,
): Promise<number> {
  const header = headerBytes(values, tensors);
  await writeBytes(file, header);
  const total = tensors.reduce((sum, { type, shape }) => sum + tensorBytes(type, count(shape)), 0);
  let written = 0;
  let end = header.length;
  for (const tensor of tensors) {
    const expected = tensorBytes(tensor.type, count(tensor.shape));
    let got = 0;
    for await (const piece of tensor.pieces()) {
      signal?.throwIfAborted();
      await writeBytes(file, piece);
      got += piece.length;
      progress?.(written + got, total);
    }
    if (got !== expected) throw new RangeError(`tensor ${tensor.name} has ${expected} bytes, ${got} came`);
    await writeBytes(file, new Uint8Array(padded(got) - got));
    written += got;
    end += padded(got);
  }
  signal?.throwIfAborted();
  return end;
}

async function writeBytes(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    at += (await file.write(bytes, at, bytes.length - at)).bytesWritten;
  }
}

/** All before the tensors' bytes, filled up to the alignment. */
function headerBytes(values: ReadonlyMap<string, GgufValue>, tensors: readonly GgufTensor[]): Buffer {
  const parts: Uint8Array[] = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(values.size)];
  for (const [key, value] of values) parts.push(text(key), ...valueBytes(value));
  let offset = 0;
  for (const { name, shape, type } of tensors) {
    const { id, block } = GGUF_TENSOR_TYPES[type];
    if ((shape.at(-1) as number) % block !== 0) throw new RangeError(`rows of ${name} are no multiple of ${block}`);
    parts.push(text(name), u32(shape.length), ...[...shape].reverse().map(u64), u32(id), u64(offset));
    offset += padded(tensorBytes(type, count(shape)));
  }
  const bytes = Buffer.concat(parts);
  return Buffer.concat([bytes, Buffer.alloc(padded(bytes.length) - bytes.length)]);
}

function valueBytes(value: GgufValue): Uint8Array[] {
  switch (value.kind) {
    case 'u32':
      return [u32(KIND.u32), u32(value.value)];
    case 'i32':
      return [u32(KIND.i32), raw(Int32Array.of(value.value))];
    case 'f32':
      return [u32(KIND.f32), raw(Float32Array.of(value.value))];
    case 'bool':
      return [u32(KIND.bool), Uint8Array.of(value.value ? 1 : 0)];
    case 'string':
      return [u32(KIND.string), text(value.value)];
    case 'strings':
      return [u32(KIND.array), u32(KIND.string), u64(value.value.length), Buffer.concat(value.value.map(text))];
    case 'f32s':
      return [u32(KIND.array), u32(KIND.f32), u64(value.value.length), raw(value.value)];
    case 'i32s':
      return [u32(KIND.array), u32(KIND.i32), u64(value.value.length), raw(value.value)];
    case 'encoded':
      return [u32(value.type), value.value];
  }
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function raw(values: Float32Array | Int32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** A string is its length in bytes and its UTF-8. */
function text(value: string): Buffer {
  const size = Buffer.byteLength(value);
  const bytes = Buffer.allocUnsafe(8 + size);
  bytes.writeBigUInt64LE(BigInt(size));
  bytes.write(value, 8);
  return bytes;
}
