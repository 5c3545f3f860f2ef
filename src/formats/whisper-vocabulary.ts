/**
 * The tokens of Whisper's two vocabularies as bytes: GPT-2's byte pairs for English-only models, OpenAI's own for all others.
 * They are facts of the published models (assets/README.md) and come packed with this package, so that no network and no Python
 * is needed. Special tokens (languages, tasks, timestamps) are not among them: whisper.cpp derives them from the number of ids.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import { PACKAGE_ROOT } from '../config/paths.js';

/** Ids of an English-only model, special tokens included. Multilingual ones have 51865, large-v3 and its kin 51866. */
export const ENGLISH_IDS = 51864;

/**
 * @param ids how many the model has, special tokens included
 * @returns the bytes of each token, by id: 50256 English-only ones, 50257 multilingual ones, of which the last is empty
 */
export function whisperVocabulary(ids: number): Uint8Array[] {
  const [name, tokens] = ids > ENGLISH_IDS ? ['multilingual', 50257] : ['gpt2', 50256];
  // One byte for each token, its length, and then the bytes of all.
  const bytes = brotliDecompressSync(readFileSync(join(PACKAGE_ROOT, 'assets', 'vocabulary', `${name}.br`)));
  let at = tokens;
  return Array.from(bytes.subarray(0, tokens), (length) => {
    at += length;
    return bytes.subarray(at - length, at);
  });
}
