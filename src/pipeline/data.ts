/** Clips: lists what a source holds, parts training from held-out clips by content, and draws the order of the steps. */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, extname, isAbsolute, join, resolve } from 'node:path';
import { PACKAGE_ROOT } from '../config/paths.js';
import { problem } from '../errors.js';
import { randomInteger, shuffled } from '../random.js';
import type { Clip } from '../types.js';

export const AUDIO_EXTENSIONS = ['.wav', '.mp3', '.flac', '.ogg'] as const;
/** True for the name of an audio file that is read. */
export function isRecording(file: string): boolean {
  return (AUDIO_EXTENSIONS as readonly string[]).includes(extname(file).toLowerCase());
}

export const BUNDLED_CLIPS = join(PACKAGE_ROOT, 'assets', 'clips');

/** A clip before its bytes were read. */
export type ListedClip = Omit<Clip, 'id'>;

export interface Dataset {
  /** In the order of `data.datasets`, or alphabetical. */
  labels: string[];
  train: Clip[];
  heldOut: Clip[];
  /** Clips left out because another file of the same label has the same bytes. */
  duplicates: number;
}

export interface DatasetOptions {
  datasets: readonly string[];
  samples_per_dataset: number;
  held_out_per_dataset: number;
  sampling_method: 'random' | 'first' | 'last';
}

/**
 * Lists the clips of a source without reading their audio.
 *
 * @param source 'bundled', a folder DIR/<label>/*.wav|mp3|flac|ogg, or a manifest.jsonl (or a folder that has one). What is on the
 *   hub or in parquet is sources.ts's
 * @param datasets the labels that are wanted; none: all
 * @throws VoiceGrpoError E_DATA
 */
export function listClips(source: string, datasets: readonly string[] = []): ListedClip[] {
  const path = source === 'bundled' ? BUNDLED_CLIPS : resolve(source);
  if (!existsSync(path)) {
    throw problem({
      code: 'E_DATA',
      expected: 'a folder DIR/<label>/*.wav or a manifest.jsonl',
      where: path,
      got: 'no such file or folder',
      next: 'correct --data, or use --data bundled',
    });
  }
  if (statSync(path).isFile()) {
    return readManifest(path);
  }
  const manifest = join(path, 'manifest.jsonl');
  return existsSync(manifest) ? readManifest(manifest) : readFolder(path, datasets);
}

function readFolder(path: string, datasets: readonly string[]): ListedClip[] {
  const clips: ListedClip[] = [];
  const empty: string[] = [];
  for (const entry of readdirSync(path, { withFileTypes: true }).sort((a, b) => compare(a.name, b.name))) {
    if (!entry.isDirectory() || entry.name.startsWith('.')) {
      continue;
    }
    const folder = join(path, entry.name);
    const files = readdirSync(folder).filter(isRecording);
    if (files.length === 0) {
      empty.push(entry.name);
    }
    for (const file of files.sort(compare)) {
      clips.push({ file: join(folder, file), label: entry.name });
    }
  }
  if (clips.length === 0) {
    throw problem({
      code: 'E_DATA',
      expected: `folders named after their label, with ${AUDIO_EXTENSIONS.map((extension) => `*${extension}`).join(', ')}`,
      where: path,
      got: 'none',
      next: 'put each recording into DIR/<label>/, or name a manifest.jsonl',
    });
  }
  const wanted = empty.filter((label) => datasets.length === 0 || datasets.includes(label));
  if (wanted.length > 0) {
    throw problem({
      code: 'E_DATA',
      expected: 'recordings in the folder of each label',
      where: path,
      got: `none in ${wanted.map((label) => `'${label}'`).join(', ')}`,
      next: 'add recordings there, or remove the folder',
    });
  }
  return clips;
}

function readManifest(path: string): ListedClip[] {
  const clips: ListedClip[] = [];
  const lines = readFileSync(path, 'utf8').split('\n');
  for (const [i, line] of lines.entries()) {
    if (line.trim() === '') {
      continue;
    }
    const where = `${path}, line ${i + 1}`;
    const next = 'write one object a line: {"audio": "a.wav", "label": "greeting"}';
    let entry: Record<string, unknown>;
    try {
      entry = JSON.parse(line);
    } catch (error) {
      throw problem({ code: 'E_DATA', expected: 'a JSON object', where, got: (error as Error).message, next });
    }
    const { audio, label, text } = entry ?? {};
    if (typeof audio !== 'string' || audio === '' || typeof label !== 'string' || label.trim() === '') {
      throw problem({ code: 'E_DATA', expected: "texts 'audio' and 'label'", where, got: line.slice(0, 100), next });
    }
    if (text !== undefined && typeof text !== 'string') {
      throw problem({ code: 'E_DATA', expected: "a text as 'text'", where, got: JSON.stringify(text), next });
    }
    const file = isAbsolute(audio) ? audio : join(dirname(path), audio);
    if (!existsSync(file)) {
      throw problem({
        code: 'E_DATA',
        expected: 'an audio file',
        where,
        got: `no file ${file}`,
        next: 'correct the line or add the file',
      });
    }
    clips.push({ file, label: label.trim(), ...(text === undefined ? {} : { reference: text }) });
  }
  if (clips.length === 0) {
    throw problem({
      code: 'E_DATA',
      expected: 'at least one clip',
      where: path,
      got: 'an empty manifest',
      next: 'add lines or choose another --data',
    });
  }
  return clips;
}

/** SHA-256 of a file's bytes, hexadecimal. */
export async function hashFile(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file)) {
    hash.update(chunk);
  }
  return hash.digest('hex');
}

/**
 * Lists, identifies and divides the clips of a source.
 *
 * Held-out clips are those of lowest rank by hash(seed, content) in each label, so the division depends on neither names nor
 * order nor on how many clips are sampled. Equal bytes are one clip: the same content is never on both sides.
 */
export async function loadDataset(source: string, options: DatasetOptions, seed: number): Promise<Dataset> {
  const listed = listClips(source, options.datasets);
  const labels = chooseLabels(listed, options.datasets, source);
  const byId = new Map<string, Clip>();
  let duplicates = 0;
  for (const clip of listed.filter(({ label }) => labels.includes(label))) {
    const id = await hashFile(clip.file);
    const known = byId.get(id);
    if (known !== undefined && known.label !== clip.label) {
      throw problem({
        code: 'E_DATA',
        expected: 'one label for one recording',
        where: `${known.file} and ${clip.file}`,
        got: `the same audio as '${known.label}' and as '${clip.label}'`,
        next: 'remove one of the two',
      });
    }
    if (known === undefined) {
      byId.set(id, { id, ...clip });
    } else {
      duplicates++;
    }
  }
  const train: Clip[] = [];
  const heldOut: Clip[] = [];
  const short: string[] = [];
  for (const label of labels) {
    const clips = [...byId.values()].filter((clip) => clip.label === label);
    const part = divide(clips, options, seed);
    train.push(...part.train);
    heldOut.push(...part.heldOut);
    if (part.train.length < options.samples_per_dataset) {
      short.push(`'${label}' has ${clips.length}`);
    }
  }
  if (short.length > 0) {
    const least = Math.min(...labels.map((label) => [...byId.values()].filter((clip) => clip.label === label).length));
    const heldOutFits = Math.max(1, Math.min(options.held_out_per_dataset, Math.floor(least / 4)));
    throw problem({
      code: 'E_DATA',
      expected: `${options.samples_per_dataset} training and ${options.held_out_per_dataset} held-out clips of each label`,
      where: source,
      got: `${short.join(', ')}${duplicates > 0 ? ` (${duplicates} copies of the same audio left out)` : ''}`,
      next:
        least < 2
          ? 'add recordings: each label needs at least two'
          : `use --samples-per-dataset ${least - heldOutFits} --held-out-per-dataset ${heldOutFits}, or add recordings`,
    });
  }
  return { labels, train, heldOut, duplicates };
}

/** The labels to use, each known to have a clip; at least two. */
export function chooseLabels(listed: readonly ListedClip[], datasets: readonly string[], source: string): string[] {
  const found = [...new Set(listed.map(({ label }) => label))].sort(compare);
  const missing = datasets.filter((label) => !found.includes(label));
  if (missing.length > 0) {
    throw problem({
      code: 'E_DATA',
      expected: `clips of ${missing.map((label) => `'${label}'`).join(', ')}`,
      where: source,
      got: `clips of ${found.map((label) => `'${label}'`).join(', ')} only`,
      next: `use --datasets ${found.join(' ')}, or add recordings`,
    });
  }
  const labels = datasets.length > 0 ? [...datasets] : found;
  if (labels.length < 2) {
    throw problem({
      code: 'E_DATA',
      expected: 'at least two labels: with one there is nothing to tell apart',
      where: source,
      got: `'${labels.join("', '")}' alone`,
      next: datasets.length > 0 ? `use --datasets ${found.join(' ')}` : 'add a folder with clips of another label',
    });
  }
  checkDistinct(labels, source);
  return labels;
}

/** @throws VoiceGrpoError E_DATA for labels that only capitals tell apart: an answer could not say which */
export function checkDistinct(labels: readonly string[], source: string): void {
  const alike = labels.find(
    (label, i) => labels.findIndex((other) => other.toLowerCase() === label.toLowerCase()) !== i,
  );
  if (alike !== undefined) {
    throw problem({
      code: 'E_DATA',
      expected: 'labels that differ in more than capitals',
      where: source,
      got: `'${alike}' twice`,
      next: 'rename one of them',
    });
  }
}

function divide(clips: Clip[], options: DatasetOptions, seed: number): { train: Clip[]; heldOut: Clip[] } {
  const ranked = [...clips].sort((a, b) => compare(rank(seed, a.id), rank(seed, b.id)));
  const heldOutIds = new Set(ranked.slice(0, options.held_out_per_dataset).map(({ id }) => id));
  const rest = clips.filter(({ id }) => !heldOutIds.has(id));
  const count = options.samples_per_dataset;
  const train =
    options.sampling_method === 'first'
      ? rest.slice(0, count)
      : options.sampling_method === 'last'
        ? rest.slice(Math.max(0, rest.length - count))
        : ranked.filter(({ id }) => !heldOutIds.has(id)).slice(0, count);
  return { train, heldOut: clips.filter(({ id }) => heldOutIds.has(id)) };
}

/** A number of each clip that depends on the seed and on its content alone. */
function rank(seed: number, id: string): string {
  return createHash('sha256').update(`${seed}:${id}`).digest('hex');
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Label → its share among clips. */
export function labelShares(clips: readonly { label: string }[], labels: readonly string[]): Record<string, number> {
  return Object.fromEntries(
    labels.map((label) => [label, clips.filter((clip) => clip.label === label).length / clips.length]),
  );
}

/**
 * The clips of a generation, a pure function of (seed, generation): every clip once before any comes again, shuffled anew
 * each time round. Balanced: the labels take turns, each going round its own clips.
 */
export function clipsOfGeneration<T extends { label: string }>(
  clips: readonly T[],
  labels: readonly string[],
  options: { seed: number; generation: number; count: number; balanced: boolean },
): T[] {
  const { seed, generation, count, balanced } = options;
  const decks = balanced ? labels.map((label) => clips.filter((clip) => clip.label === label)) : [clips];
  const shuffles = new Map<string, T[]>();
  return Array.from({ length: count }, (_, i) => {
    const position = generation * count + i;
    const deckIndex = position % decks.length;
    const deck = decks[deckIndex] as readonly T[];
    const draw = Math.floor(position / decks.length);
    const round = Math.floor(draw / deck.length);
    const name = `${deckIndex}:${round}`;
    const order = shuffles.get(name) ?? shuffled(deck, seed, 'order', deckIndex, round);
    shuffles.set(name, order);
    return order[draw % deck.length] as T;
  });
}

/** One clip of `clips` for each use named by (stream, a, b, index). */
export function drawClip<T>(clips: readonly T[], seed: number, stream: string, a: number, b: number, index: number): T {
  return clips[randomInteger(seed, stream, a, b, index, clips.length)] as T;
}

/** The name a clip is shown by. */
export function clipName(clip: { file: string; label: string }): string {
  return `${clip.label}/${basename(clip.file)}`;
}
