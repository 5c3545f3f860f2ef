/**
 * Whisper as a library:
 *
 *     using whisper = await Whisper.open('base');
 *     const { text } = await whisper.transcribe('recording.mp3');
 *     for await (const { start, end, text } of whisper.segments('recording.mp3')) console.log(start, end, text);
 */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { Readable } from 'node:stream';
import { problem, VoiceGrpoError } from './errors.js';
import { Hub } from './hub/client.js';
import { type HubEnvironment, hubEnvironment } from './hub/environment.js';
import { lineStream } from './library/lines.js';
import type { NativeWhisper, WhisperWord } from './native/addon.js';
import { loadNative } from './native/load.js';
import { modelFile } from './run/inputs.js';
import { Progress } from './run/progress.js';
import { Slots } from './slots.js';
import { checkDecoding, type Decoding, decodingOf } from './transcription/decoding.js';
import { type Heard, type HeardSegment, hear, type Listen } from './transcription/hearing.js';
import { openRecording } from './transcription/recording.js';
import { SharedThreads } from './transcription/shared-threads.js';

export interface WhisperOpenOptions {
  /** Threads of all calls together: one that is alone has all of them. Default: one for each processor. */
  threads?: number | undefined;
  /**
   * Pieces of audio that are worked on at the same time; further calls wait for their turn. Each takes its own working memory.
   * Default 1.
   */
  parallel?: number | undefined;
  /** Where models of the hub come from. Default: what the environment says. */
  hub?: HubEnvironment | undefined;
  /** Is told what is fetched or converted, a line at a time. */
  onNote?: ((line: string) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** How to listen; what is left out has the default of `voicegrpo transcribe`. */
export interface TranscribeOptions extends Partial<Decoding> {
  /** Path of a Silero model in ggml's format: only what it takes for speech is heard. */
  vadModel?: string | undefined;
  /** What the audio is called in messages. Default: the path, '<bytes>' or '<stream>'. */
  name?: string | undefined;
}

/**
 * Samples (mono, 16 kHz, in [-1, 1]), the path of an audio file, the bytes of one, or a stream of them. Files are WAV, MP3, FLAC, Ogg
 * Vorbis or Opus, known by their content.
 *
 * Samples are not copied as a whole: the addon copies each piece, of about 30 s, when its turn comes. So do not write to them, and do not
 * transfer their buffer, before the call has ended. Their buffer is neither shared nor resizable.
 */
export type AudioInput = Float32Array | string | Uint8Array | Readable;

/** All times in seconds from the beginning of the audio. */
export interface WhisperTranscription extends Heard {
  /** Of all segments, in their order; null without `wordTimestamps`. */
  words: WhisperWord[] | null;
}

export interface WhisperModelInfo {
  /** Path of the file that is loaded. */
  file: string;
  multilingual: boolean;
  /** ISO codes that `language` may have, beside 'auto'. */
  languages: readonly string[];
  /** What the encoder hears at once, s. */
  window: number;
  /** Storage type of the weights. */
  type: string;
}

/** Seconds of an encoder position. */
const POSITION = 0.02;

/**
 * One loaded model. Calls may overlap: each has its own state, and results do not depend on what runs beside them. A worker thread opens
 * a Whisper of its own.
 */
export class Whisper {
  readonly info: WhisperModelInfo;
  readonly #native: NativeWhisper;
  readonly #threads: SharedThreads;
  readonly #slots: Slots;
  readonly #audioContext: number;
  readonly #running = new Set<Promise<unknown>>();

  private constructor(native: NativeWhisper, file: string, threads: number, parallel: number) {
    const { multilingual, languages, audioContext, type } = native.info;
    this.info = { file, multilingual, languages, window: audioContext * POSITION, type };
    this.#native = native;
    this.#threads = new SharedThreads(threads, 0);
    this.#slots = new Slots(parallel);
    this.#audioContext = audioContext;
  }

  /**
   * @param model 'bundled'; a Whisper file in ggml's format, a checkpoint or a folder, which are converted once; or a name on the hub
   *   such as 'base' or 'tiny.en', which is fetched once
   * @throws VoiceGrpoError E_MODEL, E_HUB, E_CONFIG for options out of range, E_ABORTED
   */
  static async open(model = 'bundled', options: WhisperOpenOptions = {}): Promise<Whisper> {
    const parallel = count('parallel', options.parallel ?? 1);
    const threads = count('threads', options.threads ?? availableParallelism());
    const { onNote, signal } = options;
    return abortable(signal, async () => {
      await using hub = new Hub(options.hub ?? hubEnvironment(), { note: (line) => onNote?.(line) });
      const file = await modelFile('whisper', model, {
        hub,
        progress: new Progress(lineStream((line) => onNote?.(line))),
        signal,
      });
      if (!existsSync(file)) {
        throw problem({
          code: 'E_MODEL',
          where: 'Whisper.open',
          expected: "'bundled', a Whisper file, or a name on the hub such as 'base'",
          got: `'${model}': no such file`,
          next: 'Correct the path or the name.',
        });
      }
      const native = await loadNative().openWhisper(file);
      if (signal?.aborted) native.close();
      signal?.throwIfAborted();
      return new Whisper(native, file, threads, parallel);
    });
  }

  /**
   * What is said in a recording. Audio without speech has an empty text, and `note` says why.
   *
   * @throws VoiceGrpoError E_AUDIO for what is not audio, E_CONFIG for settings that the model does not know, E_ABORTED; an Error
   *   with code E_CLOSED after close()
   */
  async transcribe(
    audio: AudioInput,
    options: TranscribeOptions = {},
    signal?: AbortSignal,
  ): Promise<WhisperTranscription> {
    const segments = this.segments(audio, options, signal);
    for (;;) {
      const { done, value } = await segments.next();
      if (done) {
        return value;
      }
    }
  }

  /**
   * The segments of a recording, each as soon as it is final. Leaving the loop aborts the work. The generator's return value is the
   * whole transcription, as `transcribe` gives it.
   *
   * @throws as transcribe does
   */
  segments(
    audio: AudioInput,
    options: TranscribeOptions = {},
    signal?: AbortSignal,
  ): AsyncGenerator<HeardSegment, WhisperTranscription, void> {
    return this.#hear(audio, options, signal);
  }

  /** @throws VoiceGrpoError E_CONFIG for settings that the model does not know */
  check({ language = 'auto', translate = false }: TranscribeOptions): void {
    checkDecoding({ language, translate }, this.info.languages);
  }

  /** Frees the model once the calls that are under way have used it; later calls fail with E_CLOSED. Twice is fine. */
  close(): void {
    this.#native.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Closes, and waits for the calls that are under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await Promise.allSettled(this.#running);
  }

  async *#hear(
    audio: AudioInput,
    { vadModel, name, ...asked }: TranscribeOptions,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<HeardSegment, WhisperTranscription, void> {
    try {
      signal?.throwIfAborted();
      const { language = 'auto' } = asked;
      const listen = this.#listener(asked, vadModel);
      await using recording = await openRecording(checked(audio), name, signal);
      const heard = yield* hear(recording.pieces, listen, language, signal);
      const words = heard.segments.flatMap((segment) => segment.words ?? []);
      return { ...heard, words: asked.wordTimestamps ? words : null };
    } catch (error) {
      throw signal?.aborted ? aborted(signal) : error;
    }
  }

  #listener(asked: Partial<Decoding>, vadModel: string | undefined): Listen {
    this.check(asked);
    const decoding = decodingOf(asked, this.#audioContext);
    return async (samples, language, onSegment, signal) => {
      const release = await this.#slots.take(signal);
      this.#threads.join();
      const call = this.#threads.use((threads) => {
        const options = { ...decoding, language, threads, onSegment, ...(vadModel && { vadModel }) };
        return this.#native.transcribe(samples, options, signal);
      });
      const end = () => {
        this.#threads.leave();
        release();
      };
      const settled = call.then(end, end);
      this.#running.add(settled);
      settled.finally(() => this.#running.delete(settled));
      return call;
    };
  }
}

/** @throws VoiceGrpoError E_CONFIG */
function count(name: string, value: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= 512) {
    return value;
  }
  throw problem({
    code: 'E_CONFIG',
    where: `Whisper.open: ${name}`,
    expected: 'a whole number from 1 to 512',
    got: String(value),
    next: 'Correct it or leave it out.',
  });
}

/** @throws VoiceGrpoError E_ARGUMENT */
function checked(audio: AudioInput): AudioInput {
  if (typeof audio === 'string' || audio instanceof Uint8Array || audio instanceof Readable) {
    return audio;
  }
  if (audio instanceof Float32Array) {
    for (let i = 0; i < audio.length; i++) {
      if (!Number.isFinite(audio[i])) {
        throw problem({
          code: 'E_AUDIO',
          where: `sample ${i}`,
          expected: 'a finite number',
          got: String(audio[i]),
          next: 'Look at how the samples were made.',
        });
      }
    }
    return audio;
  }
  throw problem({
    code: 'E_ARGUMENT',
    where: 'audio',
    expected: 'a Float32Array of samples, a path, the bytes of a file or a readable stream',
    got: audio === null ? 'null' : typeof audio === 'object' ? (audio as object).constructor.name : typeof audio,
    next: 'Pass one of these.',
  });
}

async function abortable<T>(signal: AbortSignal | undefined, run: () => Promise<T>): Promise<T> {
  try {
    signal?.throwIfAborted();
    return await run();
  } catch (error) {
    throw signal?.aborted ? aborted(signal) : error;
  }
}

function aborted(signal: AbortSignal): VoiceGrpoError {
  return new VoiceGrpoError('The transcription was aborted.', { code: 'E_ABORTED', cause: signal.reason });
}
