/** An audio file to 16 kHz mono samples, with what is worth knowing about it. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import libsamplerate from '@alexanderolsen/libsamplerate-js';
import { problem, VoiceGrpoError } from '../errors.js';
import type { NativeError } from '../native/addon.js';
import { loadNative } from '../native/load.js';

/** Whisper's sample rate, Hz. */
export const SAMPLE_RATE = 16000;
/** Larger files are refused before they are read. */
const MAX_BYTES = 1024 ** 3;

export interface LoadedClip {
  file: string;
  /** SHA-256 of the file's bytes, hexadecimal. */
  hash: string;
  /** Mono at 16 kHz, in about [-1, 1]. */
  samples: Float32Array;
  /** s */
  duration: number;
  /** Hz, of the file */
  sampleRate: number;
  channels: number;
  format: string;
  /** Largest absolute sample of the file, 1 is full scale. */
  peak: number;
  /** Root mean square over all channels. */
  rms: number;
}

/** @throws VoiceGrpoError E_AUDIO (or E_LIMIT) with a sentence that names the file */
export async function loadClip(file: string): Promise<LoadedClip> {
  const bytes = await readBytes(file);
  const decoded = await loadNative()
    .decodeAudio(bytes)
    .catch((error: NativeError) => {
      throw new VoiceGrpoError(`${file}: ${error.message}`, { code: error.code, hint: error.hint, cause: error });
    });
  const { peak, rms } = level(decoded.samples);
  return {
    file,
    hash: createHash('sha256').update(bytes).digest('hex'),
    samples: await resample(mixDown(decoded.samples, decoded.channels), decoded.sampleRate),
    duration: decoded.samples.length / decoded.channels / decoded.sampleRate,
    sampleRate: decoded.sampleRate,
    channels: decoded.channels,
    format: decoded.format,
    peak,
    rms,
  };
}

async function readBytes(file: string): Promise<Uint8Array> {
  const next = 'Give a WAV, MP3, FLAC or Ogg Vorbis file.';
  try {
    const bytes = await readFile(file);
    if (bytes.length <= MAX_BYTES) return bytes;
    throw problem({
      code: 'E_AUDIO',
      where: file,
      expected: 'at most 1 GiB',
      got: `${bytes.length} bytes`,
      next: 'Cut it into shorter files.',
    });
  } catch (error) {
    const got: Record<string, string> = {
      ENOENT: 'nothing: no such file',
      EISDIR: 'a folder',
      EACCES: 'a file that may not be read',
      ERR_FS_FILE_TOO_LARGE: 'more than 2 GiB',
    };
    const what = got[(error as NodeJS.ErrnoException).code ?? ''];
    if (!what) throw error;
    throw problem({ code: 'E_AUDIO', where: file, expected: 'an audio file', got: what, next });
  }
}

/** @param samples [frames × channels], interleaved */
export function mixDown(samples: Float32Array, channels: number): Float32Array {
  if (channels === 1) return samples;
  const mono = new Float32Array(samples.length / channels);
  for (let frame = 0; frame < mono.length; frame++) {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += samples[frame * channels + c]!;
    mono[frame] = sum / channels;
  }
  return mono;
}

/**
 * Mono at any rate to 16 kHz with libsamplerate's best windowed-sinc filter: flat to 7 kHz within 0.1 dB, aliases below -80 dB
 * (measured in test/10.audio.test.ts).
 */
export async function resample(samples: Float32Array, rate: number): Promise<Float32Array> {
  if (rate === SAMPLE_RATE) return samples;
  const length = Math.max(1, Math.round((samples.length * SAMPLE_RATE) / rate));
  // The filter looks ahead; zeros behind the end bring out what it still holds.
  const padded = new Float32Array(samples.length + Math.ceil(rate / 10));
  padded.set(samples);
  const converter = await libsamplerate.create(1, rate, SAMPLE_RATE, {
    converterType: libsamplerate.ConverterType.SRC_SINC_BEST_QUALITY,
  });
  try {
    const converted = converter.full(padded);
    const result = new Float32Array(length);
    result.set(converted.subarray(0, length));
    return result;
  } finally {
    converter.destroy();
  }
}

function level(samples: Float32Array): { peak: number; rms: number } {
  let peak = 0;
  let sum = 0;
  for (const sample of samples) {
    const size = Math.abs(sample);
    if (size > peak) peak = size;
    sum += sample * sample;
  }
  return { peak, rms: Math.sqrt(sum / samples.length) };
}
