/** Audio files to text, with a cache by (audio, model, options): a clip is heard once. */
import { createHash } from 'node:crypto';
import { createReadStream, readFileSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { problem, VoiceGrpoError } from '../errors.js';
import type { NativeError, NativeWhisper, WhisperResult, WhisperSegment } from '../native/addon.js';
import { loadNative } from '../native/load.js';
import { type LoadedClip, loadClip } from './clip.js';
import { whyNoSpeech } from './speech.js';

/** Raise it when a change makes the same audio, model and options give another text. */
const CACHE_VERSION = 2;
/** libuv's threads: more calls at once would only wait for each other. */
const MAX_PARALLEL = 4;

export interface TranscriberOptions {
  /** Path of a ggml Whisper file. */
  model: string;
  /** ISO code, or 'auto'. */
  language: string;
  threads: number;
  /** Folder of the cache; null does without. Default: cacheFolder(). */
  cache?: string | null;
}

export interface Transcript {
  clip: LoadedClip;
  text: string;
  language: string;
  segments: WhisperSegment[];
  /** True if it came from the cache. */
  cached: boolean;
}

/** One file's outcome: a transcript, or the error that says why there is none. */
export type Outcome =
  | { file: string; transcript: Transcript; clip: LoadedClip }
  | { file: string; error: Error; clip?: LoadedClip };

/** $VOICEGRPO_CACHE, else $XDG_CACHE_HOME/voicegrpo, else ~/.cache/voicegrpo. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  return env.VOICEGRPO_CACHE || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'voicegrpo');
}

export class Transcriber {
  private constructor(
    private readonly whisper: NativeWhisper,
    private readonly modelHash: string,
    private readonly options: TranscriberOptions,
    private readonly cache: string | null,
  ) {}

  /** @throws an error E_MODEL for a model that cannot be used, E_CONFIG for a language that it does not understand */
  static async open(options: TranscriberOptions): Promise<Transcriber> {
    const whisper = await loadNative().openWhisper(options.model);
    const { languages } = whisper.info;
    if (options.language !== 'auto' && !languages.includes(options.language)) {
      whisper.close();
      throw problem({
        code: 'E_CONFIG',
        where: 'language',
        expected:
          languages.length === 1
            ? `'${languages[0]}' or 'auto' (the model is English-only)`
            : "'auto' or an ISO code that Whisper knows, such as 'en' or 'de'",
        got: `'${options.language}'`,
        next:
          languages.length === 1
            ? 'Give a multilingual model with --model, or leave --language out.'
            : 'Correct --language.',
      });
    }
    const folder = options.cache === undefined ? cacheFolder() : options.cache;
    return new Transcriber(whisper, await hashFile(options.model), options, folder && join(folder, 'transcripts'));
  }

  /**
   * Transcribes many files, several at once, and calls `done` for each in the order of `files`. A file that fails does not
   * stop the others; only an abort does.
   */
  async transcribeAll(
    files: readonly string[],
    done: (outcome: Outcome, index: number) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    const parallel = Math.max(1, Math.min(this.options.threads, files.length, MAX_PARALLEL));
    const threads = Math.max(1, Math.floor(this.options.threads / parallel));
    const outcomes = new Map<number, Outcome>();
    let next = 0;
    let told = 0;
    const worker = async () => {
      while (next < files.length) {
        const index = next++;
        outcomes.set(index, await this.attempt(files[index]!, threads, signal));
        for (let ready = outcomes.get(told); ready; ready = outcomes.get(told)) {
          outcomes.delete(told);
          done(ready, told++);
        }
      }
    };
    await Promise.all(Array.from({ length: parallel }, worker));
  }

  /** @throws VoiceGrpoError E_AUDIO where there is no speech, and what loadClip throws */
  async transcribe(file: string, signal?: AbortSignal): Promise<Transcript> {
    return this.hear(await loadClip(file), this.options.threads, signal);
  }

  close(): void {
    this.whisper.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private async attempt(file: string, threads: number, signal?: AbortSignal): Promise<Outcome> {
    let clip: LoadedClip | undefined;
    try {
      clip = await loadClip(file);
      return { file, clip, transcript: await this.hear(clip, threads, signal) };
    } catch (error) {
      if (!(error instanceof VoiceGrpoError)) throw error;
      return { file, error, ...(clip && { clip }) };
    }
  }

  private async hear(clip: LoadedClip, threads: number, signal?: AbortSignal): Promise<Transcript> {
    signal?.throwIfAborted();
    const reason = whyNoSpeech(clip.samples);
    if (reason) throw noSpeech(clip.file, reason);
    const path = this.cachePath(clip);
    const known = path && readCached(path);
    const result =
      known || (await this.whisper.transcribe(clip.samples, { language: this.options.language, threads }, signal));
    if (path && !known) await writeCached(path, result);
    const text = spokenText(result);
    if (text === '') throw noSpeech(clip.file, 'Whisper hears none');
    return { clip, text, language: result.language, segments: result.segments, cached: Boolean(known) };
  }

  private cachePath(clip: LoadedClip): string | null {
    if (this.cache === null) return null;
    const key = JSON.stringify([
      CACHE_VERSION,
      clip.hash,
      this.modelHash,
      this.options.language,
      loadNative().version().whisper,
    ]);
    const name = createHash('sha256').update(key).digest('hex');
    return join(this.cache, name.slice(0, 2), `${name}.json`);
  }
}

function noSpeech(file: string, reason: string): VoiceGrpoError {
  return problem({
    code: 'E_AUDIO',
    where: file,
    expected: 'speech',
    got: `none: ${reason}`,
    next: 'Give a recording of speech.',
  });
}

/** Whisper's notes in brackets, "[BLANK_AUDIO]" or "(music)", are not speech; a text of nothing else is none. */
export function spokenText(result: Pick<WhisperResult, 'text'>): string {
  const text = result.text.trim();
  const withoutNotes = text.replace(/\[[^\]]*\]|\([^)]*\)|♪/g, '');
  return /[\p{L}\p{N}]/u.test(withoutNotes) ? text : '';
}

export async function hashFile(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex');
}

/** Null when the entry is not there or is not what was written: it is then made again. */
function readCached(path: string): WhisperResult | null {
  try {
    const value = JSON.parse(readFileSync(path, 'utf8')) as WhisperResult;
    return typeof value.text === 'string' && Array.isArray(value.segments) ? value : null;
  } catch {
    return null;
  }
}

/** A cache that cannot be written costs time, not the run. Written beside its place and renamed, so no reader sees half of it. */
async function writeCached(path: string, result: WhisperResult): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await mkdir(join(path, '..'), { recursive: true });
    await writeFile(temporary, JSON.stringify(result));
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    if (!['EACCES', 'EPERM', 'EROFS', 'ENOSPC', 'EDQUOT', 'ENOTDIR', 'EEXIST'].includes((error as NativeError).code))
      throw error;
  }
}
