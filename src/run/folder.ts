/** The run folder: plain files, each whole or absent. */
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { type Config, checkStoredConfig, type LoadedConfig } from '../config/load.js';
import { problem } from '../errors.js';
import type { Clip, TranscribedClip } from '../types.js';
import { json, writeFileAtomic } from './files.js';

export interface StoredDataset {
  labels: string[];
  train: TranscribedClip[];
  heldOut: TranscribedClip[];
  /** Held-out clips in which nothing was heard: of use where texts are compared. */
  unheard: Clip[];
}

export interface RunFolder {
  path: string;
  checkpoints: string;
  best: string;
  last: string;
}

export function runFolder(path: string): RunFolder {
  const root = resolve(path);
  return { path: root, checkpoints: join(root, 'checkpoints'), best: join(root, 'best'), last: join(root, 'last') };
}

/**
 * Refuses a folder that has something in it or that cannot be written. Writes nothing.
 *
 * @throws VoiceGrpoError E_CONFIG
 */
export function checkNewRun(path: string): void {
  const root = resolve(path);
  const where = 'output.dir';
  if (existsSync(root)) {
    let entries: string[];
    try {
      entries = readdirSync(root);
    } catch {
      throw problem({
        code: 'E_CONFIG',
        expected: 'a folder',
        where,
        got: `${root}, which is none`,
        next: 'choose another --output-dir',
      });
    }
    if (entries.length > 0) {
      throw problem({
        code: 'E_CONFIG',
        expected: 'a new folder',
        where,
        got: `${root}, which has files in it`,
        next: 'choose another --output-dir, or go on with that run by --resume',
      });
    }
  }
  let parent = root;
  while (!existsSync(parent)) {
    parent = dirname(parent);
  }
  try {
    rmdirSync(mkdtempSync(join(parent, '.voicegrpo-'))); // asking for permission is not enough: some file systems refuse all the same
  } catch {
    throw problem({
      code: 'E_CONFIG',
      expected: 'a folder that can be written',
      where,
      got: `${root}, but ${parent} cannot be written`,
      next: 'choose another --output-dir',
    });
  }
}

/** Creates the folder and what stays fixed in a run. The configuration is written last: a folder without it is no run. */
export function createRun(
  folder: RunFolder,
  contents: { loaded: LoadedConfig; manifest: Record<string, unknown>; dataset: StoredDataset },
): void {
  mkdirSync(folder.checkpoints, { recursive: true });
  const { labels, train, heldOut, unheard } = contents.dataset;
  const line = (side: string) => (clip: Clip) => JSON.stringify({ side, ...clip });
  const lines = [...train.map(line('train')), ...heldOut.map(line('held_out')), ...unheard.map(line('unheard'))];
  writeFileAtomic(join(folder.path, 'dataset.jsonl'), `${lines.join('\n')}\n`);
  writeFileAtomic(join(folder.path, 'manifest.json'), json({ ...contents.manifest, labels }));
  const { config, origins, name } = contents.loaded;
  writeFileAtomic(join(folder.path, 'config.json'), json({ name, config, origins }));
}

export function isRun(path: string): boolean {
  return existsSync(join(path, 'config.json'));
}

/** What a run folder says about the run. @throws VoiceGrpoError E_DATA if it is none */
export function openRun(path: string): {
  folder: RunFolder;
  loaded: LoadedConfig;
  manifest: Record<string, unknown>;
  dataset: StoredDataset;
} {
  const folder = runFolder(path);
  if (!isRun(folder.path)) {
    throw problem({
      code: 'E_DATA',
      expected: 'a run folder with config.json',
      where: folder.path,
      got: existsSync(folder.path) ? 'a folder without it' : 'no such folder',
      next: 'name the folder that `voicegrpo train` printed',
    });
  }
  const read = (name: string): string => {
    try {
      return readFileSync(join(folder.path, name), 'utf8');
    } catch (error) {
      throw damaged(join(folder.path, name), (error as Error).message);
    }
  };
  const parse = <T>(name: string, text: string): T => {
    try {
      return JSON.parse(text) as T;
    } catch (error) {
      throw damaged(join(folder.path, name), (error as Error).message);
    }
  };
  const { name, origins, ...stored } = parse<LoadedConfig>('config.json', read('config.json'));
  const config = checkStoredConfig(stored.config, join(folder.path, 'config.json'));
  const manifest = parse<Record<string, unknown>>('manifest.json', read('manifest.json'));
  const clips = read('dataset.jsonl')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => parse<TranscribedClip & { side: string }>('dataset.jsonl', line));
  const side = (wanted: string) => clips.filter((clip) => clip.side === wanted).map(({ side: _, ...clip }) => clip);
  return {
    folder,
    loaded: { name, config, origins },
    manifest,
    dataset: {
      labels: manifest.labels as string[],
      train: side('train'),
      heldOut: side('held_out'),
      unheard: side('unheard'),
    },
  };
}

/** A JSON file of a run. @throws VoiceGrpoError E_DATA for one that is not what `isWhole` asks */
export function readJsonOf<T>(folder: RunFolder, name: string, isWhole: (value: unknown) => value is T): T {
  const path = join(folder.path, name);
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
    if (isWhole(value)) return value;
  } catch (error) {
    throw damaged(path, (error as Error).message);
  }
  throw damaged(path, 'another one');
}

function damaged(where: string, got: string): Error {
  return problem({
    code: 'E_DATA',
    expected: 'a file that `voicegrpo train` wrote',
    where,
    got,
    next: 'train again in another folder',
  });
}

/** Settings with which a run may be resumed otherwise than it began. */
export const FREE_SETTINGS: ReadonlySet<string> = new Set(['threads', 'device', 'output.dir']);

/** Settings in which two configurations differ, where a difference would change the run. */
export function differingSettings(a: Config, b: Config): string[] {
  const flatten = (value: unknown, path: string): [string, string][] =>
    value !== null && typeof value === 'object' && !Array.isArray(value)
      ? Object.entries(value).flatMap(([key, child]) => flatten(child, path === '' ? key : `${path}.${key}`))
      : [[path, JSON.stringify(value)]];
  const other = new Map(flatten(b, ''));
  return flatten(a, '')
    .filter(([path, value]) => !FREE_SETTINGS.has(path) && other.get(path) !== value)
    .map(([path]) => path);
}

/** Appends to a file of one object a line. */
export function appendLines(path: string, lines: readonly object[]): void {
  if (lines.length > 0) {
    appendFileSync(path, `${lines.map((line) => JSON.stringify(line)).join('\n')}\n`);
  }
}

/**
 * Keeps the lines up to a step: what a resumed run will write again must not stand there twice.
 *
 * @param isKept false: this line too will be written again, although its step is done
 */
export function truncateLines<T extends { step: number }>(
  path: string,
  step: number,
  isKept: (entry: T) => boolean = () => true,
): void {
  if (!existsSync(path)) {
    return;
  }
  const kept: string[] = [];
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    let entry: T;
    try {
      entry = JSON.parse(line);
    } catch {
      break; // the end of a file, or a line cut off by a kill
    }
    if (entry.step > step || !isKept(entry)) {
      break;
    }
    kept.push(line);
  }
  writeFileAtomic(path, kept.map((line) => `${line}\n`).join(''));
}
