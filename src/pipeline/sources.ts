/** What `data.source` can name, and the clips that a run takes of it. */
import { existsSync } from 'node:fs';
import type { Config } from '../config/load.js';
import { problem } from '../errors.js';
import type { Hub } from '../hub/client.js';
import type { Progress } from '../run/progress.js';
import { Transfer } from '../run/progress.js';
import type { Clip } from '../types.js';
import { type Dataset, hashFile, listClips, loadDataset } from './data.js';
import {
  bytesToFetch,
  clipsOfRows,
  hubFiles,
  isLocalTable,
  localFiles,
  openTable,
  orderRows,
  type Row,
  type Table,
  type TableFiles,
  textClips,
} from './table.js';

/** Chen et al. 2024, "VoiceBench: Benchmarking LLM-Based Voice Assistants". It has only a test split: what is held out of it is ours. */
export const VOICEBENCH = {
  id: 'hlt-lab/voicebench',
  revision: 'b02edcef1330480be3a11bd6f7434ac32f05ad08',
  split: 'test',
  datasets: ['ifeval', 'commoneval', 'wildvoice'],
} as const;

export type DataConfig = Config['data'];

export interface SourceContext {
  hub: Hub;
  progress: Progress;
  signal?: AbortSignal | undefined;
}

/** A dataset with what the manifest says of its source. */
export interface SourcedDataset extends Dataset {
  origin: Record<string, unknown>;
}

/** True for 'org/name', unless something on this machine has that path. */
export function isHubId(source: string): boolean {
  return /^[\w.-]+\/[\w.-]+$/.test(source) && !/^\.{1,2}\//.test(source) && !existsSync(source);
}

/** The parquet files that a source names, null for one that has none. */
export async function filesOf(config: DataConfig, { hub, signal }: SourceContext): Promise<TableFiles | null> {
  const { source } = config;
  if (source === 'voicebench') {
    return hubFiles(hub, VOICEBENCH.id, config.revision ?? VOICEBENCH.revision, signal);
  }
  if (source === 'bundled') {
    return null;
  }
  if (isHubId(source)) {
    return hubFiles(hub, source, config.revision ?? 'main', signal);
  }
  return isLocalTable(source) ? localFiles(source) : null;
}

export function splitOf({ source, split }: DataConfig): string {
  return split ?? (source === 'voicebench' ? VOICEBENCH.split : 'train');
}

/** The rows of a source by label. */
export async function tableOf(
  config: DataConfig,
  files: TableFiles,
  datasets: readonly string[] = config.datasets,
): Promise<Table> {
  const isVoiceBench = config.source === 'voicebench';
  return openTable(files, {
    datasets: datasets.length === 0 && isVoiceBench ? VOICEBENCH.datasets : datasets,
    split: splitOf(config),
    audioColumn: config.audio_column,
    textColumn: config.text_column,
    labelColumn: config.label_column,
  });
}

/**
 * The training and held-out clips of a run, disjoint by content.
 *
 * @throws VoiceGrpoError E_DATA, E_HUB
 */
export async function openDataset(config: DataConfig, seed: number, context: SourceContext): Promise<SourcedDataset> {
  const files = await filesOf(config, context);
  if (files === null) {
    return { ...(await loadDataset(config.source, config, seed)), origin: {} };
  }
  const table = await tableOf(config, files);
  const dataset = await draw(table, config, seed, context);
  const shards = [...table.rows.values()].flatMap((rows) => rows.map(({ shard }) => shard));
  return {
    ...dataset,
    origin: {
      ...files.origin,
      split: table.options.split,
      files: [...new Map(shards.map(({ path, size }) => [path, { path, size }])).values()],
      held_out_of: `the split '${table.options.split}' itself: ${config.held_out_per_dataset} clips of each label by seed ${seed}`,
    },
  };
}

/**
 * Clips of the labels given, training or not: of a folder all, of a parquet dataset `samples_per_dataset` of each label.
 *
 * @throws VoiceGrpoError E_DATA if there are none
 */
export async function clipsForLabels(
  config: DataConfig,
  labels: readonly string[],
  seed: number,
  context: SourceContext,
): Promise<Clip[]> {
  const files = await filesOf(config, context);
  let clips: Clip[];
  let found: string[];
  if (files === null) {
    const listed = listClips(config.source, labels);
    found = [...new Set(listed.map(({ label }) => label))];
    const known = listed.filter(({ label }) => labels.includes(label));
    clips = await Promise.all(known.map(async (clip) => ({ id: await hashFile(clip.file), ...clip })));
  } else {
    const table = await tableOf(config, files, labels);
    found = table.labels;
    const { samples_per_dataset: count, sampling_method: method } = config;
    const taken = labels.map(
      (label) => [label, orderRows(table.rows.get(label) ?? [], label, method, seed).slice(0, count)] as const,
    );
    clips = await fetching(
      table,
      taken.flatMap(([, rows]) => rows),
      config,
      context,
      async () => {
        const all: Clip[] = [];
        for (const [label, rows] of taken) {
          all.push(...(await clipsOf(table, label, rows, config, context.signal)));
        }
        return all;
      },
    );
  }
  if (clips.length === 0) {
    throw problem({
      code: 'E_DATA',
      expected: `clips of ${labels.join(', ')}, which the run was trained for`,
      where: config.source,
      got: `only ${found.join(', ')}`,
      next: 'rename the folders, or train a run for these labels',
    });
  }
  return clips;
}

/**
 * Rows of each label in the order of orderRows: held-out ones first, so that they stay when more are trained on; of 'first' and
 * 'last' those after the training ones. A row whose audio was seen before is passed over. A label with fewer rows than are asked for
 * gives what it has, and a line says so: VoiceBench's datasets differ in size.
 */
async function draw(table: Table, config: DataConfig, seed: number, context: SourceContext): Promise<Dataset> {
  const { samples_per_dataset: samples, held_out_per_dataset: held, sampling_method: method } = config;
  const wanted = samples + held;
  const { labels } = checkedLabels(table, config);
  const drawn = labels.map((label) => ({
    label,
    rows: orderRows(table.rows.get(label) ?? [], label, method, seed),
    at: 0,
    clips: [] as Clip[],
  }));
  const seen = new Set<string>();
  let duplicates = 0;
  /** Takes rows until each label has `count` clips. */
  const fill = async (count: number) => {
    for (const own of drawn) {
      while (own.clips.length < count && own.at < own.rows.length) {
        const next = own.rows.slice(own.at, own.at + count - own.clips.length);
        own.at += next.length;
        for (const clip of await clipsOf(table, own.label, next, config, context.signal)) {
          if (seen.has(clip.id)) {
            duplicates++;
          } else {
            seen.add(clip.id);
            own.clips.push(clip);
          }
        }
      }
    }
  };
  // Known before anything is fetched.
  for (const { label, rows } of drawn) {
    const training = trainingOf(label, rows.length, table, config);
    if (training < samples) {
      context.progress.line(`'${label}' has ${rows.length} rows: at most ${training} training clips, not ${samples}.`);
    }
  }
  await fetching(
    table,
    drawn.flatMap(({ rows }) => rows.slice(0, wanted)),
    config,
    context,
    async () => {
      if (method === 'random') {
        // Of every label, before any is trained on: else a clip trained on under one label could push the same out of another.
        await fill(held);
      }
      await fill(wanted);
    },
  );
  const train: Clip[] = [];
  const heldOut: Clip[] = [];
  for (const { label, clips } of drawn) {
    const training = trainingOf(label, clips.length, table, config);
    heldOut.push(...(method === 'random' ? clips.slice(0, held) : clips.slice(training)));
    train.push(...(method === 'random' ? clips.slice(held) : clips.slice(0, training)));
  }
  return { labels, train, heldOut, duplicates };
}

/**
 * Training clips of a label with `count` clips: as many as are asked for, or what the held-out ones leave.
 *
 * @throws VoiceGrpoError E_DATA if that would be fewer than are held out
 */
function trainingOf(label: string, count: number, table: Table, config: DataConfig): number {
  const { samples_per_dataset: samples, held_out_per_dataset: held } = config;
  const training = Math.min(samples, count - held);
  if (training >= Math.min(samples, held)) {
    return training;
  }
  const fits = Math.max(1, Math.min(held, Math.floor(count / 4)));
  throw problem({
    code: 'E_DATA',
    expected: `${held} held-out clips of '${label}', and at least as many for training`,
    where: table.files.name,
    got: `${count} clips`,
    next:
      count < 2
        ? 'choose other --datasets: each label needs at least two clips'
        : `use --held-out-per-dataset ${fits}, or leave it out by --datasets`,
  });
}

/** Rows as clips: with their audio, or by their text alone where that is asked for. */
export function clipsOf(
  table: Table,
  label: string,
  rows: readonly Row[],
  config: DataConfig,
  signal?: AbortSignal,
): Promise<Clip[]> {
  return config.use_text ? textClips(table, label, rows) : clipsOfRows(table, label, rows, signal);
}

/** Says beforehand what will be fetched, and shows how far it is. */
export async function fetching<T>(
  table: Table,
  rows: readonly Row[],
  config: DataConfig,
  { progress }: SourceContext,
  work: () => Promise<T>,
): Promise<T> {
  const { fetched, name } = table.files;
  const bytes = config.use_text ? 0 : bytesToFetch(table, rows);
  if (bytes > 0) {
    progress.line(
      `To fetch from ${name}: about ${(bytes / 1e6).toFixed(1)} MB for ${rows.length} clips of ${table.labels.join(', ')}.`,
    );
  }
  const transfer = new Transfer(progress, name, bytes);
  const before = fetched.bytes;
  fetched.listener = () => transfer.at(fetched.bytes - before);
  try {
    return await work();
  } finally {
    fetched.listener = () => {};
    progress.end();
  }
}

function checkedLabels(table: Table, config: DataConfig): { labels: string[] } {
  const missing = table.options.datasets.filter((label) => !table.rows.has(label));
  if (missing.length > 0 || table.labels.length < 2) {
    throw problem({
      code: 'E_DATA',
      expected:
        missing.length > 0
          ? `clips of ${missing.map((label) => `'${label}'`).join(', ')}`
          : 'at least two labels: with one there is nothing to tell apart',
      where: table.files.name,
      got: [...table.rows.keys()].map((label) => `'${label}'`).join(', ') || 'none',
      next:
        config.label_column === null
          ? 'name others with --datasets, or a column of labels with --label-column'
          : 'correct --datasets',
    });
  }
  return { labels: table.labels };
}
