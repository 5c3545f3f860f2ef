/** What `data.source` can name, and the clips that a run takes of it. */
import { existsSync } from 'node:fs';
import type { Config } from '../config/load.js';
import { problem } from '../errors.js';
import type { Hub } from '../hub/client.js';
import type { Progress } from '../run/progress.js';
import { Transfer } from '../run/progress.js';
import type { Clip } from '../types.js';
import { checkDistinct, chooseLabels, type Dataset, hashFile, listClips, loadDataset } from './data.js';
import {
  bytesToFetch,
  clipsOfRows,
  hubFiles,
  isLocalTable,
  localFiles,
  openTable,
  orderRows,
  type Row,
  shardsOf,
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
  return (
    /^[\w.-]+\/[\w.-]+$/.test(source) &&
    !/^\.{1,2}\/|\.(jsonl|parquet|wav|mp3|flac|ogg)$/.test(source) &&
    !existsSync(source) &&
    !existsSync(source.split('/')[0] as string) // 'clips/mine' beside a folder 'clips' is a mistyped path
  );
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

/** The rows of a source by label. @param needs columns without which the work at hand cannot be done */
export async function tableOf(
  config: DataConfig,
  files: TableFiles,
  datasets: readonly string[] = config.datasets,
  needs: readonly ('audio' | 'text')[] = [config.use_text ? 'text' : 'audio'],
): Promise<Table> {
  const isVoiceBench = config.source === 'voicebench';
  return openTable(files, {
    datasets: datasets.length === 0 && isVoiceBench ? VOICEBENCH.datasets : datasets,
    split: splitOf(config),
    audioColumn: config.audio_column,
    textColumn: config.text_column,
    labelColumn: config.label_column,
    needs,
  });
}

/**
 * The training and held-out clips of a run, disjoint by content.
 *
 * @throws VoiceGrpoError E_DATA, E_HUB
 */
export async function openDataset(config: DataConfig, seed: number, context: SourceContext): Promise<SourcedDataset> {
  return (await findDataset(config, seed, context))();
}

/**
 * Finds out whether a source has what is asked for, from listings and footers; the function that comes of it then fetches the
 * clips. So a mistyped name is known before anything large is fetched.
 *
 * @throws VoiceGrpoError E_DATA, E_HUB
 */
export async function findDataset(
  config: DataConfig,
  seed: number,
  context: SourceContext,
): Promise<() => Promise<SourcedDataset>> {
  const files = await filesOf(config, context);
  if (files === null) {
    chooseLabels(listClips(config.source, config.datasets), config.datasets, config.source);
    return async () => ({ ...(await loadDataset(config.source, config, seed)), origin: {} });
  }
  const table = await tableOf(config, files);
  checkLabels(table, config);
  for (const label of table.labels) {
    trainingOf(label, table.rows.get(label)?.length ?? 0, table, config);
  }
  return async () => {
    const dataset = await draw(table, config, seed, context);
    const shards = [...table.rows.values()].flatMap((rows) => rows.map(({ shard }) => shard));
    const { held_out_per_dataset: held, sampling_method: method } = config;
    const rule =
      method === 'random'
        ? `${held} clips of each label by seed ${seed}`
        : `of each label the ${held} clips ${method === 'first' ? 'after' : 'before'} those trained on`;
    context.progress.line(`Held out of the split '${table.options.split}' itself: ${rule}.`);
    return {
      ...dataset,
      origin: {
        ...files.origin,
        split: table.options.split,
        files: [...new Map(shards.map(({ path, size }) => [path, { path, size }])).values()],
        held_out_of: `the split '${table.options.split}' itself: ${rule}`,
      },
    };
  };
}

/**
 * Clips of the labels given: of a folder all, of a parquet dataset `samples_per_dataset` of each label in the order of orderRows.
 *
 * @param known clips to pass over, and to count
 * @throws VoiceGrpoError E_DATA if the source has none of these labels
 */
export async function clipsForLabels(
  config: DataConfig,
  labels: readonly string[],
  seed: number,
  known: (clip: Clip) => boolean,
  context: SourceContext,
): Promise<{ clips: Clip[]; passedOver: number }> {
  const files = await filesOf(config, context);
  const clips: Clip[] = [];
  let passedOver = 0;
  const take = (clip: Clip) => {
    if (known(clip)) {
      passedOver++;
      return false;
    }
    clips.push(clip);
    return true;
  };
  let found: string[];
  if (files === null) {
    const listed = listClips(config.source, labels);
    found = [...new Set(listed.map(({ label }) => label))];
    for (const clip of listed.filter(({ label }) => labels.includes(label))) {
      take({ id: await hashFile(clip.file), ...clip });
    }
  } else {
    const folders = shardsOf(files.entries, splitOf(config)).map((shard) => shard.config);
    const here = config.label_column === null ? labels.filter((label) => folders.includes(label)) : labels;
    found = [...new Set(folders)];
    const table = here.length === 0 ? null : await tableOf(config, files, here);
    const orders = here.map((label) => orderRows(table?.rows.get(label) ?? [], label, config.sampling_method, seed));
    const count = config.samples_per_dataset;
    if (table !== null) {
      found = table.labels;
      await fetching(
        table,
        orders.flatMap((rows) => rows.slice(0, count)),
        config,
        context,
        async () => {
          for (const [i, rows] of orders.entries()) {
            let taken = 0;
            for (let at = 0; taken < count && at < rows.length; ) {
              const next = rows.slice(at, at + count - taken);
              at += next.length;
              const own = await clipsOf(table, here[i] as string, next, config, context.signal);
              taken += own.filter(take).length;
            }
          }
        },
      );
    }
  }
  if (clips.length + passedOver === 0) {
    throw problem({
      code: 'E_DATA',
      expected: `clips of ${labels.join(', ')}, which the run was trained for`,
      where: config.source,
      got: `only ${found.join(', ')}`,
      next: 'rename the folders, or train a run for these labels',
    });
  }
  return { clips, passedOver };
}

/**
 * Rows of each label in the order of orderRows: held-out ones first, so that they stay when more are trained on; of 'first' and
 * 'last' those after the training ones. A row whose audio was seen before is passed over. A label with fewer rows than are asked for
 * gives what it has, and a line says so: VoiceBench's datasets differ in size.
 */
async function draw(table: Table, config: DataConfig, seed: number, context: SourceContext): Promise<Dataset> {
  const { samples_per_dataset: samples, held_out_per_dataset: held, sampling_method: method } = config;
  const wanted = samples + held;
  const { labels } = table;
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

function checkLabels(table: Table, config: DataConfig): void {
  if (table.labels.includes('')) {
    throw problem({
      code: 'E_DATA',
      expected: 'files in folders named after their label',
      where: table.files.name,
      got: 'files without a folder',
      next: 'name the column of labels with --label-column',
    });
  }
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
  checkDistinct(table.labels, table.files.name);
}
