/** Audio files to text, with a cache by (audio, model, settings): the same sound is heard once. */
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { quietPieces } from '../audio/pieces.js';
import { type AudioStream, openInput, SAMPLE_RATE } from '../audio/stream.js';
import { isDefect, problem, VoiceGrpoError } from '../errors.js';
import type { NativeError, NativeWhisper } from '../native/addon.js';
import { loadNative, usedDevice } from '../native/load.js';
import { TranscriptCache } from '../transcription/cache.js';
import { checkDecoding, type Decoding, decodingOf } from '../transcription/decoding.js';
import { hear, type Listen, type RecordedPiece } from '../transcription/hearing.js';
import type { Provenance } from '../transcription/json.js';
import { SharedThreads } from '../transcription/shared-threads.js';
import type { AudioFacts, Transcription } from '../transcription/transcription.js';
import { hashFile } from './data.js';

/** libuv's threads: more calls at once would only wait for each other. */
const MAX_PARALLEL = 4;

export interface TranscriberOptions extends Partial<Decoding> {
  /** Path of a ggml Whisper file. */
  model: string;
  /** Path of a Silero file in ggml's format, or null: everything is heard. */
  vadModel?: string | null;
  /** A recording that lasts longer is an error, as soon as that is known. Default: none is too long. */
  longest?: Longest;
  threads: number;
  /** Folder of the cache; null does without. Default: cacheFolder(). */
  cache?: string | null;
}

export interface Longest {
  seconds: number;
  /** What it was set by, for the message: 'data.max_duration'. */
  setting: string;
}

export interface Transcript extends Transcription {
  audio: AudioFacts;
  /** True if Whisper was not asked: all that was heard is in the cache. */
  cached: boolean;
}

/** One recording's outcome: a transcript, which is empty where there is no speech, or the error that says why there is none. */
export type Outcome = { file: string; transcript: Transcript } | { file: string; error: Error };

/** How far into a recording the listening is. @param heard s @param total s, null where it is not known */
export type OnProgress = (file: string, heard: number, total: number | null) => void;

/** $VOICEGRPO_CACHE, else $XDG_CACHE_HOME/voicegrpo, else ~/.cache/voicegrpo. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  return env.VOICEGRPO_CACHE || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'voicegrpo');
}

export class Transcriber {
  /** What is used to transcribe, for whoever reads the result. */
  readonly provenance: Provenance;
  private readonly cache: TranscriptCache;

  private constructor(
    private readonly whisper: NativeWhisper,
    private readonly options: TranscriberOptions,
    decoding: Decoding,
    hashes: { model: string; vad: string | null },
    cacheFolder: string | null,
  ) {
    const { model, vadModel } = options;
    // Other rounding, now and then another word: what a GPU heard is kept apart from what the CPU heard.
    const gpu = usedDevice().device === 'cpu' ? [] : ['cuda'];
    this.cache = new TranscriptCache(cacheFolder, [hashes.model, hashes.vad, loadNative().version().whisper, ...gpu]);
    this.provenance = {
      decoding,
      model: { file: basename(model), sha256: hashes.model },
      vad: vadModel && hashes.vad ? { file: basename(vadModel), sha256: hashes.vad } : null,
    };
  }

  /** @throws an error E_MODEL for a model that cannot be used, E_CONFIG for a language or task that it does not understand */
  static async open(options: TranscriberOptions): Promise<Transcriber> {
    const whisper = await loadNative().openWhisper(options.model);
    try {
      const { languages, audioContext } = whisper.info;
      const { model, vadModel, longest, threads, cache, ...asked } = options;
      const decoding = decodingOf(asked, audioContext);
      checkDecoding(decoding, languages);
      const hashes = { model: await hashFile(model), vad: vadModel ? await hashFile(vadModel) : null };
      const folder = cache === undefined ? cacheFolder() : cache;
      return new Transcriber(whisper, options, decoding, hashes, folder && join(folder, 'transcripts'));
    } catch (error) {
      whisper.close();
      throw error;
    }
  }

  /**
   * Transcribes many files, several at once, and calls `done` with each as soon as it is done, in any order; '-' is stdin. A file that fails
   * does not stop the others. An abort does, a defect, and an error of `done`: what is under way is then aborted, and has ended when this
   * rejects.
   *
   * @param done is told the index in `files` too
   */
  async transcribeAll(
    files: readonly string[],
    done: (outcome: Outcome, index: number) => void,
    signal?: AbortSignal,
    onProgress?: OnProgress,
  ): Promise<void> {
    const controller = new AbortController();
    const either = signal ? AbortSignal.any([signal, controller.signal]) : controller.signal;
    const parallel = Math.max(1, Math.min(this.options.threads, files.length, MAX_PARALLEL));
    const threads = new SharedThreads(this.options.threads, parallel);
    const failures: unknown[] = [];
    let next = 0;
    const worker = async () => {
      try {
        while (next < files.length) {
          const index = next++;
          done(await this.attempt(files[index]!, threads, either, onProgress), index);
        }
      } catch (error) {
        failures.push(error);
        controller.abort(error);
      } finally {
        threads.leave();
      }
    };
    await Promise.all(Array.from({ length: parallel }, worker));
    if (failures.length > 0) throw failures[0];
  }

  /** @throws VoiceGrpoError E_AUDIO for what cannot be read, E_LIMIT for what is too long */
  async transcribe(file: string, signal?: AbortSignal, onProgress?: OnProgress): Promise<Transcript> {
    return this.hear(file, new SharedThreads(this.options.threads, 1), signal, onProgress);
  }

  close(): void {
    this.whisper.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private async attempt(
    file: string,
    threads: SharedThreads,
    signal: AbortSignal,
    onProgress?: OnProgress,
  ): Promise<Outcome> {
    try {
      return { file, transcript: await this.hear(file, threads, signal, onProgress) };
    } catch (error) {
      if (signal.aborted || isDefect(error)) throw error;
      return { file, error: ofFile(file, error as Error) };
    }
  }

  /** Piece by piece, so that a recording of hours takes the memory of 30 s. */
  private async hear(
    file: string,
    shared: SharedThreads,
    signal?: AbortSignal,
    onProgress?: OnProgress,
  ): Promise<Transcript> {
    signal?.throwIfAborted();
    await using audio = await openInput(file, signal && { signal });
    checkLength(audio, audio.info.duration ?? 0, this.options.longest);
    let cached = true;
    const listen: Listen = async (samples, language, onSegment, aborted) => {
      const decoding = { ...this.provenance.decoding, language };
      const found = await this.cache.through(samples, decoding, () => {
        const { vadModel } = this.options;
        return shared.use((threads) => {
          const options = { ...decoding, threads, ...(vadModel && { vadModel }), onSegment };
          return this.whisper.transcribe(samples, options, aborted);
        });
      });
      cached &&= found.cached;
      return found.result;
    };
    const told = (heard: number) => onProgress?.(file, heard, audio.info.duration);
    const { longest } = this.options;
    async function* pieces(): AsyncGenerator<RecordedPiece> {
      for await (const piece of quietPieces(audio)) {
        const end = piece.start + piece.samples.length / SAMPLE_RATE;
        checkLength(audio, end, longest);
        yield piece;
        told(end);
      }
    }
    const segments = hear(pieces(), listen, this.provenance.decoding.language, signal);
    let next = await segments.next();
    for (; !next.done; next = await segments.next()) told(next.value.end);
    const { sampleRate, channels, format } = audio.info;
    const { duration, peak, rms } = audio.summary;
    return { ...next.value, audio: { duration, sampleRate, channels, format, peak, rms }, cached };
  }
}

/** An error of the addon or of the system, with the name of the file that it is about. */
function ofFile(file: string, error: Error): VoiceGrpoError {
  if (error instanceof VoiceGrpoError) return error;
  const { code = 'E_AUDIO', hint = '', message } = error as Partial<NativeError> & Error;
  return new VoiceGrpoError(`${file === '-' ? '<stdin>' : file}: ${message}`, { code, hint, cause: error });
}

function checkLength(audio: AudioStream, seconds: number, longest: Longest | undefined): void {
  if (longest !== undefined && seconds > longest.seconds) {
    throw problem({
      code: 'E_LIMIT',
      where: audio.name,
      expected: `at most ${longest.seconds} s (${longest.setting})`,
      got: `${seconds.toFixed(1)} s`,
      next: 'Cut it into shorter files.',
    });
  }
}
