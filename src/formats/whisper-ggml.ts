/**
 * Whisper in ggml's format, the files that whisper.cpp and all that is built on it read, from anybody's checkpoint.
 *
 * The layout is that of whisper.cpp 1.9 (src/whisper.cpp, whisper_model_load): magic number, eleven hyper-parameters, mel filters,
 * tokens, then tensors until the end of the file. Types are as in its converter (models/convert-pt-to-ggml.py), weights of two and
 * three dimensions float16 and the rest float32, and as in its examples/quantize: of two dimensions quantized, from float16.
 */
import { closeSync, fsyncSync, openSync, realpathSync, renameSync, rmSync, statSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { problem } from '../errors.js';
import { syncFolder } from '../run/files.js';
import { decodeFloats, encodeFloats } from './gguf-types.js';
import { melFilters, SPECTRUM_BINS } from './mel-filters.js';
import { quoted } from './safetensors.js';
import { type ElementType, product, type StoredTensor } from './torch-checkpoint.js';
import { openWhisperCheckpoint, type WhisperDimensions } from './whisper-checkpoint.js';
import { whisperVocabulary } from './whisper-vocabulary.js';

export const WHISPER_TYPES = ['f16', 'f32', 'q8_0', 'q5_1'] as const;
export type WhisperType = (typeof WHISPER_TYPES)[number];

export interface ConvertWhisperOptions {
  /** How weights are stored; f16. */
  type?: WhisperType;
  /** Told bytes written of all. */
  progress?: ((bytes: number, of: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface ConvertedWhisper {
  dims: WhisperDimensions;
  /** Whether the checkpoint said no dimensions, so that they were inferred from shapes. */
  inferred: boolean;
  type: WhisperType;
  tensors: number;
  /** Numbers in all tensors. */
  parameters: number;
  /** Size of the file. */
  bytes: number;
}

const MAGIC = 0x67676d6c;
/** ggml_ftype of the file (ggml.h), with GGML_QNT_VERSION 2 in thousands where it is quantized. */
const FILE_TYPES: Readonly<Record<WhisperType, number>> = { f32: 0, f16: 1, q8_0: 2007, q5_1: 2009 };
/** ggml_type of a tensor, numbers and bytes of a block. */
const TENSOR_TYPES = {
  f32: { id: 0, block: 1, bytes: 4 },
  f16: { id: 1, block: 1, bytes: 2 },
  q5_1: { id: 7, block: 32, bytes: 24 },
  q8_0: { id: 8, block: 32, bytes: 34 },
} as const;
/** whisper.cpp reads these as float32, whatever the rest is. */
const FULL = new Set([
  'encoder.positional_embedding',
  'decoder.positional_embedding',
  'encoder.conv1.bias',
  'encoder.conv2.bias',
]);

/**
 * Writes a checkpoint (openWhisperCheckpoint says which are read) as a ggml file. The tensors pass one after another, a few
 * megabytes at a time. The file appears under its name when it is whole and synced; after a failure nothing is left.
 *
 * From openai-whisper's own checkpoints come the bytes that whisper.cpp's converter writes, and quantized those that its quantize
 * makes of them.
 *
 * @throws VoiceGrpoError E_MODEL for a checkpoint that cannot be read, NaN, infinity, and numbers too large for float16;
 *   the signal's reason; NodeJS.ErrnoException where the output cannot be written
 */
export async function convertWhisper(
  path: string,
  output: string,
  { type = 'f16', progress, signal }: ConvertWhisperOptions = {},
): Promise<ConvertedWhisper> {
  signal?.throwIfAborted();
  const checkpoint = await openWhisperCheckpoint(path);
  const { dims, inferred, tensors } = checkpoint;
  const temporary = `${output}.${process.pid}.tmp`;
  try {
    checkOutput(checkpoint.files, output);
    if (dims.n_audio_state % 32 !== 0 && (type === 'q8_0' || type === 'q5_1')) {
      throw problem({
        code: 'E_MODEL',
        expected: `a width that is a multiple of 32 for ${type}`,
        where: path,
        got: String(dims.n_audio_state),
        next: 'Convert it as f16.',
      });
    }
    const head = header(dims, type);
    const total = [...tensors].reduce((all, [name, tensor]) => all + layout(name, tensor, type).bytes, head.length);
    rmSync(temporary, { force: true });
    const file = openSync(temporary, 'wx');
    try {
      let done = 0;
      const write = async (bytes: Uint8Array) => {
        for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, bytes.length - at);
        done += bytes.length;
        progress?.(done, total);
        await turn();
        signal?.throwIfAborted();
      };
      await write(head);
      for (const [name, tensor] of tensors) {
        await write(layout(name, tensor, type).head);
        for (const bytes of encoded(path, name, tensor, type)) await write(bytes);
      }
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, output);
    syncFolder(dirname(output));
    const parameters = [...tensors.values()].reduce((all, { shape }) => all + product(shape), 0);
    return { dims, inferred, type, tensors: tensors.size, parameters, bytes: total };
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  } finally {
    checkpoint.close();
  }
}

function checkOutput(files: readonly string[], output: string): void {
  const found = statSync(output, { throwIfNoEntry: false });
  if (!found) return;
  const got = found.isDirectory()
    ? 'a folder'
    : files.some((file) => realpathSync(file) === realpathSync(output))
      ? 'the checkpoint itself'
      : null;
  if (got === null) return;
  throw problem({
    code: 'E_USAGE',
    expected: 'a file to write',
    where: output,
    got,
    next: 'Name another file, for instance ggml-model.bin.',
  });
}

/** Everything before the tensors. */
function header(dims: WhisperDimensions, type: WhisperType): Buffer {
  const words = whisperVocabulary(dims.n_vocab);
  const filters = melFilters(dims.n_mels);
  return Buffer.concat([
    integers(
      MAGIC,
      ...[dims.n_vocab, dims.n_audio_ctx, dims.n_audio_state, dims.n_audio_head, dims.n_audio_layer],
      ...[dims.n_text_ctx, dims.n_text_state, dims.n_text_head, dims.n_text_layer, dims.n_mels],
      ...[FILE_TYPES[type], dims.n_mels, SPECTRUM_BINS],
    ),
    Buffer.from(filters.buffer),
    integers(words.length),
    ...words.flatMap((word) => [integers(word.length), word]),
  ]);
}

function integers(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeInt32LE(value, 4 * i);
  return bytes;
}

function typeOf(name: string, { shape }: StoredTensor, type: WhisperType): WhisperType {
  if (type === 'f32' || shape.length < 2 || FULL.has(name)) return 'f32';
  return shape.length === 2 ? type : 'f16';
}

/** What stands before a tensor's numbers, and the size of both. */
function layout(name: string, tensor: StoredTensor, type: WhisperType): { head: Buffer; bytes: number } {
  const { id, block, bytes } = TENSOR_TYPES[typeOf(name, tensor, type)];
  // A convolution's bias is added to [width, time]: [width, 1].
  const shape = /^encoder\.conv\d\.bias$/.test(name) ? [...tensor.shape, 1] : tensor.shape;
  const text = Buffer.from(name);
  const head = Buffer.concat([integers(shape.length, text.length, id, ...[...shape].reverse()), text]);
  return { head, bytes: head.length + (product(shape) / block) * bytes };
}

/** The tensor's numbers in the file's type; each piece is valid until the next one is asked for. */
function* encoded(path: string, name: string, tensor: StoredTensor, type: WhisperType): Generator<Uint8Array> {
  const target = typeOf(name, tensor, type);
  const fail = (got: string, next: string) =>
    problem({ code: 'E_MODEL', expected: `finite weights that ${target} can hold`, where: path, got, next });
  let values = new Float32Array();
  for (const chunk of tensor.chunks()) {
    const count = decodedLength(tensor.type, chunk);
    if (values.length !== count) values = new Float32Array(count);
    if (!decode(tensor.type, chunk, values, target !== 'f32')) {
      throw fail(`NaN or infinity in ${quoted(name)}`, 'The training diverged; take an earlier checkpoint.');
    }
    const bytes = encode(target, values);
    if (!bytes) throw fail(`larger ones in ${quoted(name)}`, 'Convert it as f32.');
    yield bytes;
  }
}

const decodedLength = (type: ElementType, { length }: Buffer): number =>
  length / (type === 'f64' ? 8 : type === 'f32' ? 4 : 2);

/**
 * Stored numbers as float32.
 *
 * @param again whether they will be rounded to float16: float64 is then rounded so that both roundings together are one
 * @returns false if NaN or infinity is among them
 */
function decode(type: ElementType, bytes: Buffer, values: Float32Array, again: boolean): boolean {
  switch (type) {
    case 'f16':
      return decodeFloats('F16', bytes, values);
    case 'bf16':
      return decodeFloats('BF16', bytes, values);
    case 'f32':
      return decodeFloats('F32', bytes, values);
    case 'f64':
      return decodeDoubles(bytes, values, again);
    default:
      throw new TypeError(`weights of ${type}`);
  }
}

/** Rounds to the nearest, or, `odd`, towards zero with the last bit set where that was not exact (Boldo and Melquiond, 2008). */
function decodeDoubles(bytes: Buffer, values: Float32Array, odd: boolean): boolean {
  const doubles = new Float64Array(bytes.buffer, bytes.byteOffset, values.length);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  let finite = true;
  for (let i = 0; i < values.length; i++) {
    const value = doubles[i] as number;
    values[i] = value;
    const rounded = values[i] as number;
    if (rounded - rounded !== 0) finite = false;
    if (!odd || rounded === value) continue;
    if (Math.abs(rounded) > Math.abs(value)) bits[i] = (bits[i] as number) - 1;
    bits[i] = (bits[i] as number) | 1;
  }
  return finite;
}

/** @returns null if a number is too large for the type */
function encode(type: WhisperType, values: Float32Array): Uint8Array | null {
  const { block, bytes: size } = TENSOR_TYPES[type];
  const bytes = new Uint8Array((values.length / block) * size);
  if (type === 'f32') return encodeFloats('f32', values, bytes) ? bytes : null;
  if (type === 'f16') return encodeFloats('f16', values, bytes) ? bytes : null;
  // As in whisper.cpp, where a float16 file is quantized.
  const halves = new Uint8Array(2 * values.length);
  if (!encodeFloats('f16', values, halves)) return null;
  decodeFloats('F16', halves, values);
  if (type === 'q8_0') return encodeFloats('q8_0', values, bytes) ? bytes : null;
  encodeQ5(values, bytes);
  return bytes;
}

/**
 * A block of 32 numbers is a float16 step, (largest - smallest) / 31, the smallest as float16, and how many steps each is above
 * it: the 32 fifth bits, then the lower four of numbers i and i + 16 in one byte. quantize_row_q5_1_ref in ggml-quants.c, all in float32.
 */
function encodeQ5(values: Float32Array, bytes: Uint8Array): void {
  const { block, bytes: size } = TENSOR_TYPES.q5_1;
  const scales = new Float32Array((values.length / block) * 2);
  const view = new DataView(bytes.buffer);
  for (let from = 0, to = 0; from < values.length; from += block, to += size) {
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (let i = from; i < from + block; i++) {
      const value = values[i] as number;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    const step = Math.fround(Math.fround(high - low) / 31);
    const inverse = step === 0 ? 0 : Math.fround(1 / step);
    scales[to / 12] = step;
    scales[to / 12 + 1] = low;
    let fifth = 0;
    for (let i = 0; i < block; i++) {
      const steps = Math.fround(Math.fround((values[from + i] as number) - low) * inverse);
      const count = Math.trunc(Math.fround(steps + 0.5));
      fifth |= ((count >>> 4) & 1) << i;
      const at = to + 8 + (i & 15);
      bytes[at] = i < 16 ? count & 15 : (bytes[at] as number) | ((count & 15) << 4);
    }
    view.setUint32(to + 4, fifth >>> 0, true);
  }
  const halves = new Uint8Array(2 * scales.length);
  encodeFloats('f16', scales, halves);
  for (let to = 0; to < bytes.length; to += size) bytes.set(halves.subarray(to / 6, to / 6 + 4), to);
}
