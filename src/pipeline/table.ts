/**
 * Spoken datasets stored as parquet, on the hub or on this machine: which rows a label has, which of them a run takes, and
 * their audio as files. Only what is needed is read: footers first, then text columns, then the audio of the rows taken.
 */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join, relative, resolve } from 'node:path';
import { problem } from '../errors.js';
import { Parquet } from '../formats/parquet.js';
import type { Repository, TreeEntry } from '../hub/cache.js';
import type { Hub } from '../hub/client.js';
import { offline } from '../hub/http.js';
import { type CachedRanges, cachedRanges, localFile } from '../hub/ranges.js';
import type { Clip } from '../types.js';
import { isRecording } from './data.js';
import { cacheFolder } from './transcript.js';

export interface TableOptions {
  /** Labels wanted; none: all. */
  datasets: readonly string[];
  split: string;
  audioColumn: string;
  /** Null: the data has no texts. */
  textColumn: string | null;
  /** Null: the folder that a file lies in is the label of its rows. */
  labelColumn: string | null;
  /** Columns without which the work at hand cannot be done; another may be missing. */
  needs: readonly ('audio' | 'text')[];
}

/** Where the files of a table are. */
export interface TableFiles {
  /** As messages name it. */
  name: string;
  /** What the manifest records. */
  origin: Record<string, unknown>;
  entries: readonly TreeEntry[];
  open(entry: TreeEntry): Promise<CachedRanges>;
  /** Fetches a whole file; null where all are here. @returns its path */
  pull: ((entry: TreeEntry, progress: (bytes: number) => void) => Promise<string>) | null;
  /** Folder for the audio of its rows. */
  clips: string;
  /** Told the bytes that came from the network. */
  fetched: { bytes: number; listener: () => void };
}

interface Shard {
  /** Path inside the table. */
  path: string;
  access: CachedRanges;
  parquet: Parquet;
  size: number;
}

/** One row: its place in its row group. */
export interface Row {
  shard: Shard;
  group: number;
  row: number;
}

export interface Table {
  files: TableFiles;
  /** In alphabetical order, or that of `datasets`. */
  labels: string[];
  rows: ReadonlyMap<string, readonly Row[]>;
  options: TableOptions;
}

/** A dataset of the hub at a revision. @throws VoiceGrpoError E_HUB */
export async function hubFiles(hub: Hub, id: string, revision: string, signal?: AbortSignal): Promise<TableFiles> {
  const repository: Repository = { type: 'dataset', id };
  const commit = await hub.commit(repository, revision, signal);
  const fetched = { bytes: 0, listener: () => {} };
  const counted = (bytes: number) => {
    fetched.bytes += bytes;
    fetched.listener();
  };
  return {
    name: id,
    origin: { repository: id, revision, commit, endpoint: hub.environment.endpoint },
    entries: await hub.tree(repository, commit, signal),
    async open(entry) {
      const whole = hub.local(repository, commit, entry);
      if (whole !== null) {
        return localFile(whole);
      }
      const source = hub.environment.offline
        ? null
        : hub.parts(repository, commit, entry, { progress: counted, signal });
      return cachedRanges(entry.size, source, join(cacheFolder(), 'ranges', entry.etag), () =>
        offline(`${entry.path} of ${id}`),
      );
    },
    pull: (entry, progress) => hub.download(repository, commit, entry, { progress, signal }),
    clips: join(cacheFolder(), 'clips', id.replace('/', '--'), commit),
    fetched,
  };
}

/** A parquet file, or a folder of them. */
export async function localFiles(path: string): Promise<TableFiles> {
  const root = resolve(path);
  const isFile = statSync(root).isFile();
  const paths = isFile ? [root] : parquetIn(root);
  const place = (entry: string) => (isFile ? root : join(root, entry));
  const entries = paths.map((name) => {
    const { size, mtimeMs } = statSync(place(name));
    return { path: isFile ? basename(root) : name, size, etag: `${size}-${mtimeMs}` };
  });
  const key = createHash('sha256')
    .update(JSON.stringify([root, entries]))
    .digest('hex')
    .slice(0, 40);
  return {
    name: path,
    origin: { path: root },
    entries,
    open: (entry) => localFile(place(entry.path)),
    pull: null,
    clips: join(cacheFolder(), 'clips', 'local', key),
    fetched: { bytes: 0, listener: () => {} },
  };
}

/** True for what localFiles reads: a parquet file, or a folder that has some and no other data. */
export function isLocalTable(path: string): boolean {
  if (!existsSync(path)) {
    return false;
  }
  if (statSync(path).isFile()) {
    return path.endsWith('.parquet');
  }
  const names = parquetIn(path);
  return names.length > 0 && !existsSync(join(path, 'manifest.jsonl')) && !hasRecordings(path);
}

function parquetIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.parquet'))
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort();
}

/** True for DIR/<label>/*.wav and the like. */
function hasRecordings(folder: string): boolean {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .some(({ name }) => readdirSync(join(folder, name)).some((file) => isRecording(file)));
}

/**
 * Files of a split: '<config>/<split>-00000-of-00002.parquet', as datasets writes them (older versions with '-<hash>' at the end),
 * or '<config>/<split>.parquet'.
 */
export function shardsOf(
  entries: readonly TreeEntry[],
  split: string,
): { config: string; split: string; entry: TreeEntry }[] {
  return entries
    .flatMap((entry) => {
      const [, name, number] = /([^/]+?)(-\d+-of-\d+(?:-[^/]+)?)?\.parquet$/.exec(entry.path) ?? [];
      // A file alone has no split in its name.
      const own = number === undefined && name !== split && entries.length === 1 ? split : (name ?? '');
      return name === undefined ? [] : [{ config: folderOf(entry.path), split: own, entry }];
    })
    .filter((file) => file.split === split)
    .sort((a, b) => (a.entry.path < b.entry.path ? -1 : 1));
}

/**
 * Opens the files of the labels wanted and reads their footers, and the labels where a column has them.
 *
 * @throws VoiceGrpoError E_DATA naming what there is instead, E_HUB
 */
export async function openTable(files: TableFiles, options: TableOptions): Promise<Table> {
  const { datasets, split, labelColumn, audioColumn, textColumn, needs } = options;
  const all = shardsOf(files.entries, split);
  const configs = [...new Set(all.map(({ config }) => config))];
  if (all.length === 0) {
    const splits = splitsOf(files.entries);
    throw problem({
      code: 'E_DATA',
      expected: `parquet files of the split '${split}'`,
      where: files.name,
      got: splits.length === 0 ? 'no parquet file' : `splits ${splits.map((name) => `'${name}'`).join(', ')}`,
      next: splits.length === 0 ? 'choose another --data' : `use --split ${splits[0]}`,
    });
  }
  if (labelColumn === null) {
    const missing = datasets.filter((label) => !configs.includes(label));
    if (missing.length > 0) {
      const elsewhere = files.entries.filter(({ path }) => missing.includes(folderOf(path)));
      throw problem({
        code: 'E_DATA',
        expected: `folders ${missing.map((label) => `'${label}'`).join(', ')} with a split '${split}'`,
        where: files.name,
        got: configs.map((label) => `'${label}'`).join(', '),
        next:
          elsewhere.length > 0
            ? `it has other splits (${splitsOf(elsewhere).join(', ')}): use --split`
            : 'use --datasets with some of these, or name a column of labels with --label-column',
      });
    }
  }
  const wanted =
    labelColumn === null && datasets.length > 0 ? all.filter(({ config }) => datasets.includes(config)) : all;
  if (files.pull !== null || files.entries.length > 1) {
    checkComplete(
      files,
      wanted.map(({ entry }) => entry.path),
    );
  }
  const rows = new Map<string, Row[]>();
  for (const { config, entry } of wanted) {
    const where = `${entry.path} of ${files.name}`;
    const access = await files.open(entry);
    const parquet = await Parquet.open(access, where);
    if (needs.includes('audio')) {
      parquet.need(audioColumn, '--audio-column');
    }
    if (needs.includes('text') && textColumn !== null) {
      parquet.need(textColumn, '--text-column');
    }
    const shard = { path: entry.path, access, parquet, size: entry.size };
    const labels = labelColumn === null ? null : await labelsOf(parquet, labelColumn, where);
    for (const [group, { start, rows: count }] of parquet.groups.entries()) {
      for (let row = 0; row < count; row++) {
        const label = labels === null ? config : (labels[start + row] as string | null);
        if (label !== null && (datasets.length === 0 || datasets.includes(label))) {
          const own = rows.get(label);
          if (own === undefined) {
            rows.set(label, [{ shard, group, row }]);
          } else {
            own.push({ shard, group, row });
          }
        }
      }
    }
  }
  const found = [...rows.keys()].sort();
  return { files, labels: datasets.length > 0 ? datasets.filter((label) => rows.has(label)) : found, rows, options };
}

function folderOf(path: string): string {
  return path.split('/').at(-2) ?? '';
}

function splitsOf(entries: readonly TreeEntry[]): string[] {
  const pattern = /([^/]+?)(?:-\d+-of-\d+(?:-[^/]+)?)?\.parquet$/;
  return [...new Set(entries.flatMap(({ path }) => pattern.exec(path)?.[1] ?? []))];
}

/** Of '-00000-of-00002' and '-00001-of-00002' both are needed: a cache that Python filled may have only one. */
function checkComplete(files: TableFiles, paths: readonly string[]): void {
  const counts = new Map<string, { here: number; of: number }>();
  for (const path of paths) {
    const [, stem, of, hash = ''] = /^(.*)-\d+-of-(\d+)((?:-[^/]+)?)\.parquet$/.exec(path) ?? [];
    if (stem !== undefined) {
      const key = `${stem}-*-of-${of}${hash === '' ? '' : '-*'}.parquet`;
      counts.set(key, { here: (counts.get(key)?.here ?? 0) + 1, of: Number(of) });
    }
  }
  for (const [pattern, { here, of }] of counts) {
    if (here < of) {
      throw problem({
        code: 'E_DATA',
        expected: `${of} files ${pattern}`,
        where: files.name,
        got: String(here),
        next: files.pull === null ? 'add the others' : 'fetch the others: voicegrpo data pull --whole',
      });
    }
  }
}

async function labelsOf(parquet: Parquet, column: string, where: string): Promise<(string | null)[]> {
  parquet.need(column, '--label-column');
  const names = parquet.classNames(column);
  return (await parquet.values(column)).map((value) => {
    if (value === null || value === undefined) {
      return null;
    }
    if (typeof value === 'string') {
      return value.trim() || null; // a row without a label
    }
    const number = typeof value === 'number' || typeof value === 'bigint' ? Number(value) : Number.NaN;
    if (Number.isNaN(number)) {
      throw problem({
        code: 'E_DATA',
        expected: `texts or class numbers in column '${column}'`,
        where,
        got: typeof value,
        next: 'name another one with --label-column',
      });
    }
    // datasets has −1 for a class that is not known.
    return names !== null && number < 0 ? null : (names?.[number] ?? String(number));
  });
}

/**
 * All rows of a label in the order in which a run takes them. Random: row groups by a number of (seed, place), then rows
 * within each: what lies together is fetched together. First, last: as the files have them, from either end.
 */
export function orderRows(
  rows: readonly Row[],
  label: string,
  method: 'random' | 'first' | 'last',
  seed: number,
): Row[] {
  if (method !== 'random') {
    return method === 'first' ? [...rows] : rows.toReversed();
  }
  const rank = (...name: (string | number)[]) =>
    createHash('sha256')
      .update(JSON.stringify([seed, ...name]))
      .digest('hex');
  // The same order of groups for every label: labels that share a file then share what is fetched.
  return byGroup(rows)
    .map((together) => {
      const { shard, group } = together[0] as Row;
      return { together, group: rank(shard.path, group) };
    })
    .sort((a, b) => (a.group < b.group ? -1 : 1))
    .flatMap(({ together }) =>
      together
        .map((row) => ({ row, own: rank(label, row.shard.path, row.group, row.row) }))
        .sort((a, b) => (a.own < b.own ? -1 : 1))
        .map(({ row }) => row),
    );
}

/** Rows that lie in one row group, in the order in which their groups come. */
export function byGroup(rows: readonly Row[]): Row[][] {
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    const key = `${row.shard.path}:${row.group}`;
    const own = groups.get(key);
    if (own === undefined) {
      groups.set(key, [row]);
    } else {
      own.push(row);
    }
  }
  return [...groups.values()];
}

/** Bytes that have to be fetched for the audio of these rows: exact for whole column chunks, an estimate where pages are picked. */
export function bytesToFetch({ files, options }: Table, rows: readonly Row[]): number {
  const here = clipsHere(clipsFolder({ files, options }));
  let bytes = 0;
  for (const together of byGroup(rows.filter((row) => !here.has(clipKey(row))))) {
    const { shard, group } = together[0] as Row;
    const { indexed, rows: count } = shard.parquet.groups[group]!;
    const chunks = shard.parquet.columnRanges(group, options.audioColumn);
    const missing = chunks.reduce((sum, [start, end]) => sum + shard.access.missing(start, end), 0);
    bytes += indexed ? Math.ceil((missing * together.length) / count) : missing;
  }
  return bytes;
}

/** The texts of rows, from the text column alone. */
export async function textsOf({ options }: Table, rows: readonly Row[]): Promise<Map<Row, string>> {
  const texts = new Map<Row, string>();
  for (const together of byGroup(rows)) {
    const { shard, group } = together[0] as Row;
    if (options.textColumn !== null && shard.parquet.columns.includes(options.textColumn)) {
      const { start, rows: count } = shard.parquet.groups[group]!;
      const values = await shard.parquet.values(options.textColumn, start, start + count);
      for (const row of together) {
        const text = values[row.row];
        if (typeof text === 'string') {
          texts.set(row, text);
        }
      }
    }
  }
  return texts;
}

/**
 * The audio of rows as files, each written once; rows of one row group are read together and let go before the next.
 *
 * @returns in the order of `rows`
 */
export async function clipsOfRows(
  table: Table,
  label: string,
  rows: readonly Row[],
  signal?: AbortSignal,
): Promise<Clip[]> {
  const { options } = table;
  const texts = await textsOf(table, rows);
  const folder = clipsFolder(table);
  const here = clipsHere(folder);
  for (const together of byGroup(rows.filter((row) => !here.has(clipKey(row))))) {
    const { shard, group } = together[0] as Row;
    for await (const { row, bytes } of shard.parquet.audio(
      options.audioColumn,
      group,
      together.map(({ row }) => row),
    )) {
      signal?.throwIfAborted();
      const key = clipKey({ shard, group, row: row - shard.parquet.groups[group]!.start });
      here.set(key, write(folder, `${key}${extensionOf(bytes)}`, bytes));
    }
  }
  const clips: Clip[] = [];
  for (const row of rows) {
    const file = here.get(clipKey(row)) as string;
    const id = createHash('sha256')
      .update(await readFile(file))
      .digest('hex');
    const reference = texts.get(row);
    clips.push({ id, file, label, ...(reference === undefined ? {} : { reference }) });
  }
  return clips;
}

/** Rows as clips by their text alone: no audio is read, and `file` only names the row. */
export async function textClips(table: Table, label: string, rows: readonly Row[]): Promise<Clip[]> {
  const texts = await textsOf(table, rows);
  return rows.flatMap((row) => {
    const reference = texts.get(row);
    if (reference === undefined) {
      return [];
    }
    const id = createHash('sha256').update(`text:${reference}`).digest('hex');
    return [{ id, file: `${table.files.name}/${clipKey(row)}`, label, reference }];
  });
}

/** A column of audio has a folder of its own: the rows of another one have the same names. */
function clipsFolder({ files, options }: Pick<Table, 'files' | 'options'>): string {
  return join(files.clips, `column-${encodeURIComponent(options.audioColumn)}`);
}

/** '<path of the shard>-<row>' without what a file name cannot have; no two paths give the same. */
function clipKey({ shard, group, row }: Row): string {
  const stem = shard.path
    .replace(/\.parquet$/, '')
    .replaceAll('%', '%25')
    .replaceAll('_', '%5F')
    .replaceAll('/', '_');
  return `${stem}-${String(shard.parquet.groups[group]!.start + row).padStart(5, '0')}`;
}

/** Key → path of the clips that were written before. */
function clipsHere(folder: string): Map<string, string> {
  return new Map(
    (existsSync(folder) ? readdirSync(folder) : [])
      .filter((name) => !name.endsWith('.tmp'))
      .map((name) => [name.replace(/\.[a-z0-9]+$/, ''), join(folder, name)]),
  );
}

function write(folder: string, name: string, bytes: Uint8Array): string {
  mkdirSync(folder, { recursive: true });
  const temporary = join(folder, `${randomBytes(4).toString('hex')}.tmp`);
  writeFileSync(temporary, bytes);
  renameSync(temporary, join(folder, name));
  return join(folder, name);
}

/** By content: the names in the data do not tell. */
export function extensionOf(bytes: Uint8Array): string {
  const magic = String.fromCharCode(...bytes.subarray(0, 4));
  if (magic === 'RIFF' || magic === 'RF64') return '.wav';
  if (magic === 'fLaC') return '.flac';
  if (magic === 'OggS') return '.ogg';
  return magic.startsWith('ID3') || (bytes[0] === 0xff && ((bytes[1] ?? 0) & 0xe0) === 0xe0) ? '.mp3' : '.audio';
}
