/**
 * Numbers as weights are stored: float32, float16, bfloat16, and ggml's Q8_0.
 *
 * Everything is little-endian, as in safetensors and GGUF and on every machine that the addon is built for.
 */

/** Safetensors' names of the types that weights have. */
export type FloatDtype = 'F32' | 'F16' | 'BF16';
/** Types that numbers are written as here. */
export type PlainType = 'f32' | 'f16' | 'bf16' | 'q8_0';
/** Types of a GGUF tensor, by ggml's names; those that are not plain are quantized by the addon. */
export type GgufTensorType = PlainType | 'q5_0' | 'q4_K' | 'q6_K';

export const FLOAT_BYTES: Readonly<Record<FloatDtype, number>> = { F32: 4, F16: 2, BF16: 2 };

/** ggml_type, values of a block, bytes of a block (ggml.h, ggml-common.h). */
export const GGUF_TENSOR_TYPES: Readonly<Record<GgufTensorType, { id: number; block: number; bytes: number }>> = {
  f32: { id: 0, block: 1, bytes: 4 },
  f16: { id: 1, block: 1, bytes: 2 },
  q5_0: { id: 6, block: 32, bytes: 22 },
  q8_0: { id: 8, block: 32, bytes: 34 },
  q4_K: { id: 12, block: 256, bytes: 144 },
  q6_K: { id: 14, block: 256, bytes: 210 },
  bf16: { id: 30, block: 1, bytes: 2 },
};

/** llama_ftype (llama.h): what most tensors of a file are. */
export const GGUF_FILE_TYPES: Readonly<Record<PlainType | 'q4_k_m', number>> = {
  ...{ f32: 0, f16: 1, q8_0: 7, q4_k_m: 15, bf16: 32 },
};

/** Bytes that `count` values take; `count` is a multiple of the type's block. */
export function tensorBytes(type: GgufTensorType, count: number): number {
  const { block, bytes } = GGUF_TENSOR_TYPES[type];
  return (count / block) * bytes;
}

/**
 * Stored numbers as float32, which holds each of these types exactly.
 *
 * @param bytes [values.length × size of the type], beginning at a multiple of 4 of its buffer
 * @returns false if NaN or infinity is among them
 */
export function decodeFloats(dtype: FloatDtype, bytes: Uint8Array, values: Float32Array): boolean {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  if (dtype === 'F32') {
    bits.set(new Uint32Array(bytes.buffer, bytes.byteOffset, values.length));
  } else {
    const stored = new Uint16Array(bytes.buffer, bytes.byteOffset, values.length);
    halves ??= new Float32Array(65536).map((_, half) => halfValue(half));
    if (dtype === 'BF16') for (let i = 0; i < bits.length; i++) bits[i] = (stored[i] as number) << 16;
    else for (let i = 0; i < bits.length; i++) values[i] = halves[stored[i] as number] as number;
  }
  for (let i = 0; i < bits.length; i++) {
    if (((bits[i] as number) & 0x7f800000) === 0x7f800000) return false;
  }
  return true;
}

/**
 * float32 in a type of GGUF, to the nearest (ties to even), as ggml's reference code rounds.
 *
 * @param values finite; for q8_0 a multiple of 32 of them, blocks within a row of the tensor
 * @param bytes [tensorBytes(type, values.length)], beginning at a multiple of 4 of its buffer
 * @returns false if one of them is too large for the type
 */
export function encodeFloats(type: PlainType, values: Float32Array, bytes: Uint8Array): boolean {
  if (type === 'q8_0') return encodeQ8(values, bytes);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  if (type === 'f32') {
    new Uint32Array(bytes.buffer, bytes.byteOffset, values.length).set(bits);
    return true;
  }
  const out = new Uint16Array(bytes.buffer, bytes.byteOffset, values.length);
  const infinity = type === 'f16' ? 0x7c00 : 0x7f80;
  let finite = true;
  for (let i = 0; i < bits.length; i++) {
    const bit = bits[i] as number;
    const half = type === 'f16' ? halfBits(bit) : (bit + 0x7fff + ((bit >>> 16) & 1)) >>> 16;
    if ((half & 0x7fff) === infinity) finite = false;
    out[i] = half;
  }
  return finite;
}

/**
 * A block of 32 values is a float16 scale, its largest magnitude / 127, and 32 signed bytes; quantize_row_q8_0_ref in
 * ggml-quants.c, where scale and quotients are float32 and ties go away from zero.
 */
function encodeQ8(values: Float32Array, bytes: Uint8Array): boolean {
  const { block, bytes: size } = GGUF_TENSOR_TYPES.q8_0;
  let finite = true;
  for (let from = 0, to = 0; from < values.length; from += block, to += size) {
    let largest = 0;
    for (let i = from; i < from + block; i++) {
      const magnitude = Math.abs(values[i] as number);
      if (magnitude > largest) largest = magnitude;
    }
    const scale = Math.fround(largest / 127);
    const half = halfBits(bitsOf(scale));
    if (half === 0x7c00) finite = false;
    bytes[to] = half & 0xff;
    bytes[to + 1] = half >>> 8;
    // The inverse of a scale below 2^-128 is infinite. Such a scale is 0 in float16, so the bytes do not matter.
    const inverse = Math.fround(1 / scale) === Number.POSITIVE_INFINITY ? 0 : Math.fround(1 / scale);
    for (let i = 0; i < block; i++) {
      const quotient = Math.fround((values[from + i] as number) * inverse);
      bytes[to + 2 + i] = Math.trunc(quotient + (quotient < 0 ? -0.5 : 0.5));
    }
  }
  return finite;
}

/** The numbers of whole blocks, as ggml reads them. @param values [bytes.length / 34 × 32] */
export function decodeQ8(bytes: Uint8Array, values: Float32Array): void {
  const { block, bytes: size } = GGUF_TENSOR_TYPES.q8_0;
  const signed = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let from = 0, to = 0; to < values.length; from += size, to += block) {
    const scale = halfValue((bytes[from] as number) | ((bytes[from + 1] as number) << 8));
    for (let i = 0; i < block; i++) values[to + i] = scale * (signed[from + 2 + i] as number);
  }
}

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);
function bitsOf(value: number): number {
  scratch[0] = value;
  return scratchBits[0] as number;
}

/** The nearest float16 of a finite float32, both as bits; infinity from 65520 on. */
function halfBits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) {
    return sign | ((magnitude + 0xfff + ((magnitude >>> 13) & 1) - 0x38000000) >>> 13);
  }
  // Below 2^-14 float16 counts in 2^-24; up to 2^-25 that is none.
  if (magnitude <= 0x33000000) return sign;
  const shift = 126 - (magnitude >>> 23);
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const count = mantissa >>> shift;
  const rest = mantissa & ((1 << shift) - 1);
  const middle = 1 << (shift - 1);
  return sign | (count + (rest > middle || (rest === middle && (count & 1) === 1) ? 1 : 0));
}

/** Every float16 by its bits, made when the first is read. */
let halves: Float32Array | undefined;
function halfValue(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 31;
  const mantissa = half & 1023;
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25));
}
