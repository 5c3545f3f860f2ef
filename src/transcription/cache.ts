/** What Whisper wrote, by sound, model and settings: the same sound is heard once. */
import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isSystemError } from '../errors.js';
import type { WhisperResult } from '../native/addon.js';
import type { Decoding } from './decoding.js';

/**
 * The version of the engine around whisper.cpp, whose own version is in the key too. Raise it when a change makes the same audio, model
 * and settings give another result.
 */
const CACHE_VERSION = 4;

export class TranscriptCache {
  /** Pieces that Whisper is working on, by the path of their entry. */
  readonly #underWay = new Map<string, Promise<WhisperResult>>();

  /**
   * @param folder null: nothing is kept
   * @param model what identifies the model, and all else that is the same in every call
   */
  constructor(
    private readonly folder: string | null,
    private readonly model: readonly (string | null)[],
  ) {}

  /**
   * The result for a sound (mono, 16 kHz): from the cache, from a call for the same sound that is under way, else from `ask`, which is
   * then kept. `cached` is true where `ask` was not called.
   */
  async through(
    samples: Float32Array,
    decoding: Decoding,
    ask: () => Promise<WhisperResult>,
  ): Promise<{ result: WhisperResult; cached: boolean }> {
    const path = this.pathOf(samples, decoding);
    if (path === null) {
      return { result: await ask(), cached: false };
    }
    for (let other = this.#underWay.get(path); other; other = this.#underWay.get(path)) {
      // One that fails may have been aborted, or be short of memory: that says nothing of this call.
      const result = await other.catch(() => null);
      if (result !== null) return { result, cached: true };
    }
    const known = read(path);
    if (known) {
      return { result: known, cached: true };
    }
    const asked = ask();
    this.#underWay.set(path, asked);
    try {
      const result = await asked;
      await write(path, result);
      return { result, cached: false };
    } finally {
      this.#underWay.delete(path);
    }
  }

  /** By the sound itself and not by the file: the pieces of a long recording that was interrupted are heard once, too. */
  private pathOf(samples: Float32Array, decoding: Decoding): string | null {
    if (this.folder === null) return null;
    const sound = createHash('sha256').update(new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength));
    const settings = Object.entries(decoding).sort(([a], [b]) => (a < b ? -1 : 1));
    const key = JSON.stringify([CACHE_VERSION, sound.digest('hex'), ...this.model, settings]);
    const name = createHash('sha256').update(key).digest('hex');
    return join(this.folder, name.slice(0, 2), `${name}.json`);
  }
}

/** Null when the entry is not there or is not what was written: it is then made again. */
function read(path: string): WhisperResult | null {
  try {
    const value = JSON.parse(readFileSync(path, 'utf8')) as WhisperResult;
    return typeof value.text === 'string' && Array.isArray(value.segments) && Array.isArray(value.fallbacks)
      ? value
      : null;
  } catch {
    return null;
  }
}

/**
 * A cache that cannot be written costs time, not the run. Written beside its place and renamed, so no reader sees half of it; under a name
 * of its own, since another thread or process may write the same entry.
 */
async function write(path: string, result: WhisperResult): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(temporary, JSON.stringify(result));
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    if (!isSystemError(error)) throw error;
  }
}
