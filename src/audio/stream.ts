/**
 * Audio of any length as mono 16 kHz pieces, in bounded memory.
 *
 * Level: nothing is changed where the file stays within full scale. Above it, samples are divided by the largest peak among all
 * channels: for float WAV the peak of the whole file, which is measured beforehand; for lossy formats, which overshoot a little,
 * the peak up to the end of the 30 s that a sample lies in. So clips of up to 30 s are scaled by their peak, a longer recording
 * needs no second pass, and in either case the result depends on the file alone.
 */
import type { Readable } from 'node:stream';
import { VoiceGrpoError } from '../errors.js';
import type { AudioFormat, AudioLevel, NativeAudio, NativeError } from '../native/addon.js';
import { loadNative } from '../native/load.js';
import { OpusFrames } from './opus.js';
import { type AudioSource, type OpenedSource, openSource, type SourceOptions } from './source.js';

export type { AudioFormat } from '../native/addon.js';
export type { AudioSource } from './source.js';

/** Whisper's sample rate, Hz. */
export const SAMPLE_RATE = 16000;
/** s of the file that are decoded at once, and scaled by one factor. */
const BLOCK = 30;

export interface AudioInfo {
  format: AudioFormat;
  /** Hz, of the file; Opus is always decoded at 48000. */
  sampleRate: number;
  channels: number;
  /** s, as the file's structure says; null where it does not (FLAC that was written to a pipe). */
  duration: number | null;
}

export interface AudioSummary {
  /** s, counted. */
  duration: number;
  /** Largest absolute sample of the file, 1 is full scale, before any scaling. */
  peak: number;
  /** Root mean square over all channels. */
  rms: number;
}

/** One way to decode: the addon's, or that of Opus. */
interface Frames {
  read(options: { frames: number }, signal?: AbortSignal): Promise<AudioLevel & { samples: Float32Array }>;
  close(): void;
}

/** An audio file that has been opened and found sound, as pieces of up to 30 s. It is read once. */
export class AudioStream implements AsyncIterable<Float32Array> {
  readonly info: AudioInfo;
  readonly #source: OpenedSource;
  readonly #frames: Frames;
  readonly #peak: number;
  readonly #signal: AbortSignal | undefined;
  #begun = false;
  #summary: AudioSummary | undefined;

  /** Use openAudio. */
  constructor(source: OpenedSource, audio: NativeAudio, signal?: AbortSignal) {
    const { format, sampleRate, channels, frames, peak } = audio.info;
    this.info = { format, sampleRate, channels, duration: frames === null ? null : frames / sampleRate };
    this.#source = source;
    this.#frames = format === 'opus' ? new OpusFrames(audio, source.name) : audio;
    this.#peak = peak ?? 0;
    this.#signal = signal;
  }

  /** The path, or what openAudio was told; for messages. */
  get name(): string {
    return this.#source.name;
  }

  /** SHA-256 of the file's bytes, hexadecimal. Reads all of the file, decodes nothing; until the stream is closed. */
  hash(): Promise<string> {
    return this.#source.hash();
  }

  /** What is known at the end. @throws VoiceGrpoError E_INTERNAL before the last piece has been read */
  get summary(): AudioSummary {
    if (!this.#summary) throw new VoiceGrpoError(`${this.name}: not read to its end yet`, { code: 'E_INTERNAL' });
    return this.#summary;
  }

  /**
   * Mono at 16 kHz, in [-1, 1]. The pieces together have round(frames · 16000 / rate) samples. Closes the stream at the end, on
   * an error, and when the loop is left early.
   *
   * @throws VoiceGrpoError E_AUDIO for what shows only in decoding: samples that are not numbers, fewer than were promised
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Float32Array, void, undefined> {
    if (this.#begun) throw new VoiceGrpoError(`${this.name}: is read only once`, { code: 'E_INTERNAL' });
    this.#begun = true;
    const { sampleRate, channels } = this.info;
    try {
      using resampler = loadNative().openResampler({ rate: sampleRate });
      for (;;) {
        const { samples, ...level } = await this.#read(BLOCK * sampleRate);
        if (samples.length === 0) {
          const rest = await resampler.finish();
          if (rest.length > 0) yield rest;
          this.#summary = {
            duration: level.frames / sampleRate,
            peak: level.peak,
            rms: Math.sqrt(level.squares / (level.frames * channels)),
          };
          return;
        }
        divide(samples, Math.max(this.#peak, level.peak));
        const piece = await resampler.push(samples);
        if (piece.length > 0) yield piece;
      }
    } finally {
      await this.close();
    }
  }

  /** Twice is fine. */
  async close(): Promise<void> {
    this.#frames.close();
    await this.#source.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #read(frames: number): Promise<AudioLevel & { samples: Float32Array }> {
    return this.#frames.read({ frames }, this.#signal).catch((error) => {
      throw named(error, this.name);
    });
  }
}

/**
 * Opens audio in any of the known formats, by content, and looks through its structure.
 *
 * @throws VoiceGrpoError E_AUDIO (or E_LIMIT) with a sentence that begins with the source's name
 */
export async function openAudio(source: AudioSource, options: SourceOptions = {}): Promise<AudioStream> {
  const opened = await openSource(source, options);
  try {
    return new AudioStream(opened, await loadNative().openAudio(opened.native, options.signal), options.signal);
  } catch (error) {
    await opened.close();
    throw named(error, opened.name);
  }
}

/** What expandInputs gives for one argument: '-' is stdin, anything else a path. */
export function openInput(
  input: string,
  { stdin = process.stdin, signal }: { stdin?: Readable; signal?: AbortSignal | undefined } = {},
): Promise<AudioStream> {
  return input === '-' ? openAudio(stdin, { name: '<stdin>', signal }) : openAudio(input, { signal });
}

function named(error: unknown, name: string): unknown {
  const { code, message, hint } = error as NativeError;
  if (code !== 'E_AUDIO' && code !== 'E_LIMIT') return error;
  return error instanceof VoiceGrpoError
    ? error
    : new VoiceGrpoError(`${name}: ${message}`, { code, hint, cause: error });
}

/** Brings samples back into full scale where their peak is above it. */
function divide(samples: Float32Array, peak: number): void {
  if (peak <= 1) return;
  for (let i = 0; i < samples.length; i++) samples[i] = samples[i]! / peak;
}
