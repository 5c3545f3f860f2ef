/** Audio files made to order, and measures of what comes out of them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type AudioStream, openAudio } from '../../src/audio/stream.js';
import { loadNative } from '../../src/native/load.js';
import { philox4x32 } from '../../src/random.js';

export const fixture = (name: string) => readFileSync(join('test', 'audio', name));

/** A fixture of 32-bit floats. */
export function floats(name: string): Float32Array {
  const bytes = fixture(name);
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

/** 32 random bits that depend on `index` alone. */
export const random = (index: number) => philox4x32([index, 0, 0, 0], [10, 0])[0];

export interface WavShape {
  rate?: number;
  channels?: number;
  bits?: number;
  /** 1 PCM, 3 float */
  encoding?: number;
  dataBytes?: number;
  /** With the longer format chunk of WAVE_FORMAT_EXTENSIBLE. */
  extensible?: boolean;
}

export function wav(data: Buffer, shape: WavShape = {}): Buffer {
  const { rate = 16000, channels = 1, bits = 16, encoding = 1, dataBytes = data.length, extensible = false } = shape;
  const format = Buffer.alloc(extensible ? 40 : 16);
  format.writeUInt16LE(extensible ? 0xfffe : encoding, 0);
  format.writeUInt16LE(channels, 2);
  format.writeUInt32LE(rate, 4);
  format.writeUInt32LE((rate * channels * (bits / 8)) >>> 0, 8);
  format.writeUInt16LE((channels * (bits / 8)) & 0xffff, 12);
  format.writeUInt16LE(bits, 14);
  if (extensible) {
    format.writeUInt16LE(22, 16);
    format.writeUInt16LE(bits, 18);
    format.writeUInt16LE(encoding, 24);
    format.write('000000001000800000aa00389b71', 26, 'hex');
  }
  const head = Buffer.alloc(20);
  head.write('RIFF', 0);
  head.writeUInt32LE((format.length + 20 + dataBytes) >>> 0, 4);
  head.write('WAVEfmt ', 8);
  head.writeUInt32LE(format.length, 16);
  const chunk = Buffer.alloc(8);
  chunk.write('data', 0);
  chunk.writeUInt32LE(dataBytes >>> 0, 4);
  return Buffer.concat([head, format, chunk, data]);
}

export function sine(frequency: number, rate: number, seconds = 1, amplitude = 0.5): Float32Array {
  return Float32Array.from(
    { length: Math.round(rate * seconds) },
    (_, i) => amplitude * Math.sin((2 * Math.PI * frequency * i) / rate),
  );
}

export function pcm16(samples: ArrayLike<number>): Buffer {
  return Buffer.from(Int16Array.from(samples, (x) => Math.round(x * 32767)).buffer);
}

export function float32(samples: ArrayLike<number>): Buffer {
  return Buffer.from(Float32Array.from(samples).buffer);
}

export const floatWav = (samples: ArrayLike<number>, shape: WavShape = {}) =>
  wav(float32(samples), { bits: 32, encoding: 3, ...shape });

/** FLAC of silence, mono at 16 kHz: frames of 65,535 samples that say "all zero", 14 bytes each. */
export function silentFlac(seconds: number): Buffer {
  const block = 65535;
  const total = seconds * 16000;
  const info = Buffer.alloc(42);
  info.write('fLaC', 0);
  info.writeUInt8(0x80, 4); // the last metadata block, STREAMINFO
  info.writeUIntBE(34, 5, 3);
  info.writeUInt16BE(block, 8);
  info.writeUInt16BE(block, 10);
  // 20 bits of rate, 3 of channels - 1, 5 of bits - 1, 36 of samples
  info.writeBigUInt64BE((16000n << 44n) | (0n << 41n) | (15n << 36n) | BigInt(total), 18);
  const frames = Array.from({ length: Math.ceil(total / block) }, (_, i) => {
    const samples = Math.min(block, total - i * block);
    const head = Buffer.from([0xff, 0xf8, 0x75, 0x08, ...utf8(i), (samples - 1) >> 8, (samples - 1) & 255]);
    const body = Buffer.concat([head, Buffer.from([crc(head, 8, 0x07), 0, 0, 0])]);
    const tail = Buffer.alloc(2);
    tail.writeUInt16BE(crc(body, 16, 0x8005));
    return Buffer.concat([body, tail]);
  });
  return Buffer.concat([info, ...frames]);
}

function utf8(value: number): number[] {
  if (value < 0x80) return [value];
  if (value < 0x800) return [0xc0 | (value >> 6), 0x80 | (value & 63)];
  return [0xe0 | (value >> 12), 0x80 | ((value >> 6) & 63), 0x80 | (value & 63)];
}

function crc(bytes: Uint8Array, bits: 8 | 16 | 32, polynomial: number): number {
  let value = 0n;
  const width = BigInt(bits);
  const mask = (1n << width) - 1n;
  for (const byte of bytes) {
    value ^= BigInt(byte) << (width - 8n);
    for (let bit = 0; bit < 8; bit++) {
      value = (value >> (width - 1n)) & 1n ? ((value << 1n) ^ BigInt(polynomial)) & mask : (value << 1n) & mask;
    }
  }
  return Number(value);
}

/** Byte ranges of the pages of an Ogg file. */
export function oggPages(bytes: Buffer): [number, number][] {
  const pages: [number, number][] = [];
  for (let at = 0; at + 27 <= bytes.length && bytes.toString('latin1', at, at + 4) === 'OggS'; ) {
    const segments = bytes.subarray(at + 27, at + 27 + bytes[at + 26]!);
    const end = at + 27 + segments.length + segments.reduce((sum, size) => sum + size, 0);
    if (end > bytes.length) break;
    pages.push([at, end]);
    at = end;
  }
  return pages;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, i) => {
  let value = i << 24;
  for (let bit = 0; bit < 8; bit++) value = value & 0x80000000 ? (value << 1) ^ 0x04c11db7 : value << 1;
  return value >>> 0;
});

/** Gives every page the checksum of what it now holds. */
export function repairOgg(bytes: Buffer): Buffer {
  for (const [begin, end] of oggPages(bytes)) {
    bytes.writeUInt32LE(0, begin + 22);
    let value = 0;
    for (let i = begin; i < end; i++) value = ((value << 8) ^ CRC_TABLE[(value >>> 24) ^ bytes[i]!]!) >>> 0;
    bytes.writeUInt32LE(value, begin + 22);
  }
  return bytes;
}

/** All samples of the file at its own rate, the channels averaged, as the addon decodes it. Not for Opus. */
export async function decode(bytes: Uint8Array, frames = 100_000) {
  using audio = await loadNative().openAudio(bytes);
  const parts: Float32Array[] = [];
  for (;;) {
    const { samples, ...level } = await audio.read({ frames });
    if (samples.length === 0) return { samples: concat(parts), ...audio.info, level };
    parts.push(samples);
  }
}

/** Everything a stream gives, at 16 kHz. */
export async function drain(stream: AudioStream): Promise<Float32Array> {
  const parts: Float32Array[] = [];
  for await (const piece of stream) parts.push(piece);
  return concat(parts);
}

export const read = async (bytes: Uint8Array) => drain(await openAudio(bytes));

export function concat(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Mono at `rate` to 16 kHz, in pieces of the given lengths, over and over. */
export async function resample(samples: Float32Array, rate: number, pieces: number[] = [samples.length]) {
  using resampler = loadNative().openResampler({ rate });
  const parts: Float32Array[] = [];
  for (let at = 0, i = 0; at < samples.length; i++) {
    const size = pieces[i % pieces.length]!;
    parts.push(await resampler.push(samples.subarray(at, at + size)));
    at += size;
  }
  parts.push(await resampler.finish());
  return concat(parts);
}

/** Largest difference; the lengths must be equal. */
export function worst(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`lengths ${a.length} and ${b.length}`);
  let most = 0;
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!));
  return most;
}

export const rmsOf = (samples: Float32Array) => Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length);
