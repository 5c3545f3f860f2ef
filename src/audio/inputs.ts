/** The arguments of a command that takes audio, as the files they stand for. */
import { open, readdir, realpath, stat } from 'node:fs/promises';
import { extname, isAbsolute, join, resolve } from 'node:path';
import { glob, isDynamicPattern } from 'tinyglobby';
import { isSystemError, problem, VoiceGrpoError } from '../errors.js';
import { loadNative } from '../native/load.js';

const EXTENSIONS = new Set(['.wav', '.wave', '.rf64', '.w64', '.mp3', '.flac', '.ogg', '.oga', '.opus']);
/** Bytes that are enough to tell each format. */
const BEGINNING = 2 ** 14;

export interface ExpandedInputs {
  /** Paths, and '-' for stdin. */
  inputs: string[];
  /** VoiceGrpoError E_AUDIO or an error of the system: an argument each that gives nothing. */
  failures: Error[];
}

/**
 * Files as they are, folders as the audio files in them and below, patterns such as 'talks/*.mp3' as what matches them, '-' (stdin)
 * as it is; each file once (a link is the file that it leads to), in the order of the arguments and sorted within a folder or
 * pattern. In a folder a file counts by its extension or by its content; hidden ones and links to folders are passed over. A plain
 * path that does not exist stays: opening it gives the error of that file alone.
 *
 * A folder without audio, one that cannot be read and a pattern without match are among the failures, beside what the others give.
 */
export async function expandInputs(args: readonly string[]): Promise<ExpandedInputs> {
  const inputs = new Map<string, string>();
  const failures: Error[] = [];
  for (const arg of args) {
    const expanded = await expand(arg).catch((error: unknown) => {
      if (!(error instanceof VoiceGrpoError || isSystemError(error))) throw error;
      failures.push(error);
      return [];
    });
    for (const input of expanded) {
      const key = input === '-' ? '-' : await identity(input);
      if (!inputs.has(key)) inputs.set(key, input);
    }
  }
  return { inputs: [...inputs.values()], failures };
}

async function expand(arg: string): Promise<string[]> {
  if (arg === '-') return ['-'];
  const kind = await kindOf(arg);
  if (kind === 'folder') {
    const files = await audioIn(arg);
    if (files.length > 0) return files;
    throw nothing(arg, 'a folder with audio files', 'a folder without any');
  }
  if (kind === 'file' || !isDynamicPattern(arg)) return [arg];
  const matches = await glob(arg, { onlyFiles: false, expandDirectories: false, absolute: isAbsolute(arg) });
  // A link to a folder leads to files that match twice: the shorter way to each is kept.
  const paths = new Map<string, string>();
  for (const match of matches.sort((a, b) => a.length - b.length)) {
    const path = match.endsWith('/') ? match.slice(0, -1) : match;
    const key = await identity(path);
    if (!paths.has(key)) paths.set(key, path);
  }
  const files: string[] = [];
  for (const path of [...paths.values()].sort(byName)) {
    if ((await kindOf(path)) === 'folder') files.push(...(await audioIn(path)));
    else files.push(path);
  }
  if (files.length > 0) return files;
  throw nothing(arg, 'a pattern that matches audio files', 'no match');
}

function nothing(where: string, expected: string, got: string) {
  return problem({ code: 'E_AUDIO', where, expected, got, next: 'Give audio files, folders of them, or - for stdin.' });
}

/** The same for a.wav, ./a.wav and a link to it. */
async function identity(path: string): Promise<string> {
  return realpath(path).catch(() => resolve(path));
}

async function kindOf(path: string): Promise<'file' | 'folder' | null> {
  try {
    return (await stat(path)).isDirectory() ? 'folder' : 'file';
  } catch {
    return null;
  }
}

async function audioIn(folder: string): Promise<string[]> {
  const files: string[] = [];
  const entries = (await readdir(folder, { withFileTypes: true })).filter(({ name }) => !name.startsWith('.'));
  for (const entry of entries.sort((a, b) => byName(a.name, b.name))) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) files.push(...(await audioIn(path)));
    else if (EXTENSIONS.has(extname(path).toLowerCase()) ? await isRegular(path) : await isAudio(path))
      files.push(path);
  }
  return files;
}

const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

async function isRegular(path: string): Promise<boolean> {
  return stat(path).then(
    (status) => status.isFile(),
    () => false,
  );
}

async function isAudio(path: string): Promise<boolean> {
  if (!(await isRegular(path))) return false; // opening a pipe would wait for its writer
  try {
    await using file = await open(path);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(BEGINNING), 0, BEGINNING, 0);
    return loadNative().isAudio(buffer.subarray(0, bytesRead));
  } catch {
    return false; // may not be read: it was not named, so it is not missed
  }
}
