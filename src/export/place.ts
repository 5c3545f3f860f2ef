/** The folder of an export: written aside, put in its place when it is whole, and never in the place of anything else. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { problem } from '../errors.js';
import { syncFolder } from '../run/files.js';

/** Every file that an export can have. The card is there last: a folder without it is not whole. */
export const CARD = 'README.md';
const FILES = new Set([
  ...[CARD, 'Modelfile', 'model.gguf', 'adapter.gguf', 'adapter_config.json', 'adapter_model.safetensors'],
  ...['config.json', 'generation_config.json', 'model.safetensors'],
  ...['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'],
]);

/** Marks a card of ours. */
export const TAG = 'voicegrpo';

/**
 * Refuses a place where something is: anything but an empty folder, and with `overwrite` an export.
 *
 * @throws VoiceGrpoError E_USAGE
 */
export function requireFree(output: string, overwrite: boolean): void {
  const path = resolve(output);
  if (!existsSync(path)) return;
  const names = statSync(path).isDirectory() ? readdirSync(path) : null;
  if (names?.length === 0) return;
  const foreign = names?.find((name) => !FILES.has(name));
  const ours = names !== null && foreign === undefined && isCardOfOurs(join(path, CARD));
  if (overwrite && ours) return;
  const what = names === null ? 'is a file' : foreign === undefined ? 'is no export' : `has '${foreign}' in it`;
  throw problem({
    code: 'E_USAGE',
    expected: 'a new folder',
    where: '--output',
    got: `${output}, which ${ours ? 'is an export' : what}`,
    next: ours ? 'replace it by --overwrite, or choose another folder' : 'choose another folder',
  });
}

function isCardOfOurs(path: string): boolean {
  return existsSync(path) && new RegExp(`^- ${TAG}$`, 'm').test(readFileSync(path, 'utf8'));
}

/**
 * Has `write` fill a folder, and puts that at `output`. If it throws, what stood there is untouched and nothing is left.
 *
 * A new folder appears at once. In one that was there, which may be a mount point or someone's working folder, files are replaced
 * one by one, the card last.
 *
 * @returns the names of the files
 */
export async function placeFolder(
  output: string,
  overwrite: boolean,
  write: (folder: string) => Promise<void>,
): Promise<string[]> {
  requireFree(output, overwrite);
  const there = existsSync(output);
  const path = there ? realpathSync(output) : resolve(output);
  const created = mkdirSync(there ? path : dirname(path), { recursive: true });
  const temporary = mkdtempSync(join(there ? path : dirname(path), `.${basename(path)}.tmp-`));
  try {
    await write(temporary);
    syncFolder(temporary);
    const names = readdirSync(temporary).sort();
    if (there) {
      fill(path, temporary, names);
    } else {
      requireFree(path, overwrite); // another export may have come first
      renameSync(temporary, path);
      syncFolder(dirname(path));
    }
    return names;
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    if (created !== undefined) removeEmpty(dirname(path), created);
    throw error;
  }
}

function fill(path: string, temporary: string, names: readonly string[]): void {
  rmSync(join(path, CARD), { force: true });
  for (const name of FILES) if (!names.includes(name)) rmSync(join(path, name), { force: true });
  for (const name of names) if (name !== CARD) renameSync(join(temporary, name), join(path, name));
  syncFolder(path);
  renameSync(join(temporary, CARD), join(path, CARD));
  rmdirSync(temporary);
  syncFolder(path);
}

/** Removes `path` and its parents up to `last`, as long as they are empty. */
function removeEmpty(path: string, last: string): void {
  try {
    for (let at = path; ; at = dirname(at)) {
      rmdirSync(at);
      if (at === last) return;
    }
  } catch {
    // Someone else has put something there.
  }
}
