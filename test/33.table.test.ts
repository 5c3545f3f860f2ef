/** Parquet datasets: which files and rows a label has, which of them are taken, what that costs, and the clips that come of it. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { type ColumnSource, parquetWriteBuffer } from 'hyparquet-writer';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VoiceGrpoError } from '../src/errors.js';
import { Hub } from '../src/hub/client.js';
import { localFile } from '../src/hub/ranges.js';
import {
  clipsForLabels,
  type DataConfig,
  filesOf,
  isHubId,
  openDataset,
  type SourceContext,
  tableOf,
  VOICEBENCH,
} from '../src/pipeline/sources.js';
import {
  byGroup,
  bytesToFetch,
  clipsOfRows,
  extensionOf,
  hubFiles,
  isLocalTable,
  localFiles,
  openTable,
  orderRows,
  type Row,
  shardsOf,
  type Table,
  type TableOptions,
  textsOf,
} from '../src/pipeline/table.js';
import { randomInteger } from '../src/random.js';
import { Progress } from '../src/run/progress.js';
import { StandInHub } from './hub/stand-in.js';

const FIXTURE = fileURLToPath(new URL('hub/data/voicebench', import.meta.url));
const EXPECTED: Record<string, { rows: number; clips: { prompt: string; sha256: string; format: string }[] }> =
  JSON.parse(readFileSync(new URL('hub/data/voicebench.json', import.meta.url), 'utf8'));
const COMMIT = 'c0ffee'.repeat(6).concat('c0ff');

async function failure(work: () => unknown): Promise<VoiceGrpoError> {
  try {
    await work();
  } catch (error) {
    assert.instance(error, VoiceGrpoError, (error as Error).stack);
    return error as VoiceGrpoError;
  }
  throw new Error('nothing was thrown');
}

/** Work with a folder of its own, which is the cache as well, and is removed afterwards. */
async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'voicegrpo-table-'));
  const before = process.env.VOICEGRPO_CACHE;
  process.env.VOICEGRPO_CACHE = join(folder, 'cache');
  try {
    await work(folder);
  } finally {
    if (before === undefined) {
      delete process.env.VOICEGRPO_CACHE;
    } else {
      process.env.VOICEGRPO_CACHE = before;
    }
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A hub, and a client of it whose cache is in the folder. */
async function withHub(
  work: (server: StandInHub, context: SourceContext, folder: string) => Promise<void>,
): Promise<void> {
  await inFolder(async (folder) => {
    const server = await StandInHub.start();
    try {
      await using hub = clientOf(server, folder);
      await work(server, { hub, progress: silent() }, folder);
    } finally {
      await server.close();
    }
  });
}

const clientOf = (server: StandInHub, folder: string, offline = false) =>
  new Hub({ endpoint: server.endpoint, cache: join(folder, 'hub'), token: null, offline });
const silent = () => new Progress(new Writable({ write: (_chunk, _encoding, done) => done() }));
const sent = (server: StandInHub) => server.requests.reduce((sum, { bytes }) => sum + bytes, 0);

const optional = { repetition_type: 'OPTIONAL' as const };
const audioParts = (name: string) => [
  { name, ...optional, num_children: 2 },
  { name: 'bytes', type: 'BYTE_ARRAY' as const, ...optional },
  { name: 'path', type: 'BYTE_ARRAY' as const, converted_type: 'UTF8' as const, ...optional },
];
/** A wav file's beginning and noise: nothing that two numbers share, and nothing that compresses. */
function soundOf(number: number, size = 60): Uint8Array {
  const bytes = new Uint8Array(size).map((_, i) => randomInteger(33, 'sound', number, 0, i, 256));
  bytes.set(Buffer.from('RIFF'));
  return bytes;
}

interface Written {
  /** The number of each row's audio. */
  sounds: number[];
  size?: number;
  group?: number;
  prompts?: (string | null)[];
  labels?: { data: unknown[]; type: 'BYTE_ARRAY' | 'INT64' | 'DOUBLE' | 'INT32' };
  names?: unknown;
  options?: Partial<Parameters<typeof parquetWriteBuffer>[0]>;
  audio?: Partial<ColumnSource>;
}

/** A parquet file with audio and prompt, and a label where it has one. */
function parquetOf({ sounds, size, group = 100, prompts, labels, names, options, audio }: Written): Uint8Array {
  const text = { type: 'BYTE_ARRAY' as const, converted_type: 'UTF8' as const, ...optional };
  const label = labels && {
    name: 'label',
    type: labels.type,
    ...(labels.type === 'BYTE_ARRAY' && { converted_type: 'UTF8' as const }),
    ...optional,
  };
  const note = { info: { features: { label: { names, _type: 'ClassLabel' } } } };
  return new Uint8Array(
    parquetWriteBuffer({
      codec: 'UNCOMPRESSED',
      rowGroupSize: group,
      ...(names !== undefined && { kvMetadata: [{ key: 'huggingface', value: JSON.stringify(note) }] }),
      ...options,
      schema: [
        { name: 'root', num_children: label ? 3 : 2 },
        ...audioParts('audio'),
        { name: 'prompt', ...text },
        ...(label ? [label] : []),
      ],
      columnData: [
        { name: 'audio', data: sounds.map((n) => ({ bytes: soundOf(n, size), path: `${n}.mp3` })), ...audio },
        { name: 'prompt', data: prompts ?? sounds.map((number) => `sentence ${number}`) },
        ...(labels ? [{ name: 'label', data: labels.data as string[] }] : []),
      ],
    }),
  );
}

const numbers = (count: number, from = 0) => Array.from({ length: count }, (_, i) => from + i);
const idOf = (number: number, size?: number) => createHash('sha256').update(soundOf(number, size)).digest('hex');

function put(root: string, files: Record<string, Uint8Array>): void {
  for (const [path, bytes] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), bytes);
  }
}

const OPTIONS: TableOptions = {
  datasets: [],
  split: 'train',
  audioColumn: 'audio',
  textColumn: 'prompt',
  labelColumn: null,
  needs: ['audio', 'text'],
};
const tableIn = async (path: string, options: Partial<TableOptions> = {}) =>
  openTable(await localFiles(path), { ...OPTIONS, ...options });

function config(changes: Partial<DataConfig>): DataConfig {
  return {
    source: 'voicebench',
    revision: null,
    split: null,
    audio_column: 'audio',
    text_column: 'prompt',
    label_column: null,
    datasets: [],
    samples_per_dataset: 6,
    held_out_per_dataset: 3,
    sampling_method: 'random',
    max_duration: 30,
    use_text: false,
    drop_suspect: true,
    ...changes,
  };
}

/** Adds the fixture under the name, and the commit, of the real one. */
function addVoiceBench(server: StandInHub): void {
  const paths = [...Object.keys(EXPECTED), 'README.md'];
  const files = Object.fromEntries(paths.map((path) => [path, new Uint8Array(readFileSync(join(FIXTURE, path)))]));
  server.add({ type: 'dataset', id: VOICEBENCH.id, commit: VOICEBENCH.revision, files });
}
const entriesOf = (label: string) =>
  Object.entries(EXPECTED).flatMap(([path, { clips }]) => (path.startsWith(`${label}/`) ? clips : []));

test('files of a split: numbered, numbered with a hash, alone; of other splits none', () => {
  const entry = (path: string) => ({ path, size: 1, etag: 'e' });
  const found = (paths: string[], split: string) =>
    shardsOf(paths.map(entry), split).map(({ config, entry }) => `${config}: ${entry.path}`);
  const paths = [
    'wildvoice/test-00001-of-00002.parquet',
    'wildvoice/test-00000-of-00002.parquet',
    'ifeval/test-00000-of-00001.parquet',
    'ifeval/train-00000-of-00001.parquet',
    'ifeval/test-extra-00000-of-00001.parquet',
    'old/test-00000-of-00003-0123456789abcdef.parquet',
    'alone/test.parquet',
    'data/deep/er/test-0-of-1.parquet',
    'test-00000-of-00001.parquet',
    'README.md',
    'ifeval/test-00000-of-00001.json',
    'ifeval/test-00000-of-00001.parquet.tmp',
    'test-00000-of-00001/other.parquet',
  ];
  assert.equal(found(paths, 'test'), [
    'alone: alone/test.parquet',
    'er: data/deep/er/test-0-of-1.parquet',
    'ifeval: ifeval/test-00000-of-00001.parquet',
    'old: old/test-00000-of-00003-0123456789abcdef.parquet',
    ': test-00000-of-00001.parquet',
    'wildvoice: wildvoice/test-00000-of-00002.parquet',
    'wildvoice: wildvoice/test-00001-of-00002.parquet',
  ]);
  assert.equal(found(paths, 'train'), ['ifeval: ifeval/train-00000-of-00001.parquet']);
  assert.equal(found(paths, 'test-extra'), ['ifeval: ifeval/test-extra-00000-of-00001.parquet']);
  assert.equal(found(paths, 'tes'), []);
  assert.equal(found(['mine.parquet'], 'train'), [': mine.parquet'], 'a file alone has no split in its name');
  assert.equal(found(['mine.parquet', 'yours.parquet'], 'train'), []);
});

test('by folder: every row of the labels wanted, and what there is instead of what is missing', async () => {
  await inFolder(async () => {
    assert.ok(isLocalTable(FIXTURE));
    assert.not(isLocalTable(join(FIXTURE, 'README.md')));
    assert.not(isLocalTable(join(FIXTURE, 'none')));
    const table = await tableIn(FIXTURE, { split: 'test' });
    assert.equal(table.labels, ['alpacaeval', 'commoneval', 'ifeval', 'wildvoice']);
    for (const label of table.labels) {
      const rows = table.rows.get(label)!;
      const texts = await textsOf(table, rows);
      assert.equal(
        rows.map((row) => texts.get(row)),
        entriesOf(label).map(({ prompt }) => prompt),
        label,
      );
    }
    const some = await tableIn(FIXTURE, { split: 'test', datasets: ['wildvoice', 'ifeval'] });
    assert.equal(some.labels, ['wildvoice', 'ifeval']);
    assert.equal([...some.rows.values()].flat().length, 24);

    const cases: [Partial<TableOptions>, RegExp, RegExp][] = [
      [
        { split: 'test', datasets: ['ifeval', 'mtbench'] },
        /expected folders 'mtbench' with a split 'test', got .*'wildvoice'/,
        /--datasets/,
      ],
      [{ split: 'dev' }, /files of the split 'dev', got splits 'test'/, /--split test/],
      [{ split: 'test', audioColumn: 'speech' }, /a column 'speech', got columns 'prompt'/, /--audio-column/],
      [{ split: 'test', textColumn: 'words' }, /a column 'words'/, /--text-column/],
      [{ split: 'test', labelColumn: 'label' }, /a column 'label'/, /--label-column/],
    ];
    for (const [options, pattern, hint] of cases) {
      const error = await failure(() => tableIn(FIXTURE, options));
      assert.match(error.message, pattern);
      assert.match(error.hint, hint);
      assert.is(error.code, 'E_DATA');
    }
    assert.equal([...(await tableIn(FIXTURE, { split: 'test', textColumn: null })).rows.keys()].length, 4);
  });
});

test('by a column: texts, class numbers with and without names, and rows that have none', async () => {
  await inFolder(async (folder) => {
    const file = join(folder, 'mine.parquet');
    const labelsOf = async (written: Omit<Written, 'sounds'>, options: Partial<TableOptions> = {}) => {
      writeFileSync(file, parquetOf({ sounds: numbers(6), group: 4, ...written }));
      const { rows, labels } = await tableIn(file, { labelColumn: 'label', ...options });
      return labels.map((label) => [label, rows.get(label)!.map(({ group, row }) => 4 * group + row)]);
    };
    const texts = { data: ['red', 'blue ', null, '', 'red', 'green'], type: 'BYTE_ARRAY' as const };
    assert.equal(await labelsOf({ labels: texts }), [
      ['blue', [1]],
      ['green', [5]],
      ['red', [0, 4]],
    ]);
    assert.equal(await labelsOf({ labels: texts }, { datasets: ['red', 'blue'] }), [
      ['red', [0, 4]],
      ['blue', [1]],
    ]);
    const classes = { data: [1n, 0n, null, -1n, 1n, 1n], type: 'INT64' as const };
    assert.equal(await labelsOf({ labels: classes, names: ['no', 'yes'] }), [
      ['no', [1]],
      ['yes', [0, 4, 5]],
    ]);
    const plain = { data: [1, 0, 7, 1, 1, 1], type: 'INT32' as const };
    assert.equal(await labelsOf({ labels: plain }), [
      ['0', [1]],
      ['1', [0, 3, 4, 5]],
      ['7', [2]],
    ]);
    assert.equal(await labelsOf({ labels: plain, names: ['no', 'yes'] }), [
      ['7', [2]],
      ['no', [1]],
      ['yes', [0, 3, 4, 5]],
    ]);
    const error = await failure(() => labelsOf({ labels: plain }, { labelColumn: 'audio' }));
    assert.match(error.message, "expected texts or class numbers in column 'audio', got object");
    assert.match(error.hint, '--label-column');
  });
});

/** Rows of a table that there is no file of. */
function rowsOf(shards: Record<string, number[]>, every = 1): Row[] {
  return Object.entries(shards).flatMap(([path, groups]) =>
    groups.flatMap((count, group) =>
      numbers(count)
        .filter((row) => row % every === 0)
        .map((row) => ({ shard: { path } as Row['shard'], group, row })),
    ),
  );
}
const places = (rows: readonly Row[]) => rows.map(({ shard, group, row }) => `${shard.path}:${group}:${row}`);

test('the order of rows: a pure permutation, the same however the files are listed', () => {
  const rows = rowsOf({ a: [100, 100, 45], b: [100, 3] });
  const order = places(orderRows(rows, 'red', 'random', 42));
  assert.equal(places(orderRows(rows, 'red', 'random', 42)), order);
  assert.equal(places(orderRows(rows.toReversed(), 'red', 'random', 42)), order);
  assert.equal(places(rows), places(rowsOf({ a: [100, 100, 45], b: [100, 3] })), 'what was given is left as it was');
  assert.equal(order.toSorted(), places(rows).toSorted());
  assert.not.equal(places(orderRows(rows, 'red', 'random', 43)), order);
  assert.not.equal(places(orderRows(rows, 'blue', 'random', 42)), order);
  assert.equal(places(orderRows(rows, 'red', 'first', 42)), places(rows));
  assert.equal(places(orderRows(rows, 'red', 'last', 42)), places(rows).toReversed());
  assert.equal(orderRows([], 'red', 'random', 42), []);
});

test('the order of rows: any number of them touches as few row groups as it can', () => {
  for (const every of [1, 7]) {
    const rows = rowsOf({ a: [100, 100, 100], b: [100, 100, 100, 100] }, every);
    const each = rows.length / 7;
    for (let seed = 0; seed < 10; seed++) {
      const order = orderRows(rows, 'red', 'random', seed);
      for (const count of [1, 2, each - 1, each, each + 1, 2 * each, 5 * each + 1, rows.length]) {
        assert.is(byGroup(order.slice(0, count)).length, Math.ceil(count / each), `${count} rows, seed ${seed}`);
      }
    }
  }
  // Within a group they are not the first ones, and over the seeds every group comes first some time.
  const rows = rowsOf({ a: [100, 100, 100, 100] });
  const first = numbers(60).map((seed) => orderRows(rows, 'red', 'random', seed)[0]!);
  assert.is(new Set(first.map(({ group }) => group)).size, 4);
  assert.ok(new Set(first.map(({ row }) => row)).size > 25);
  const mean = first.reduce((sum, { row }) => sum + row, 0) / first.length;
  assert.ok(mean > 35 && mean < 65, `${mean}`);
});

test('audio becomes clips: named by their place, of the kind that their bytes say, written once', async () => {
  await inFolder(async () => {
    const table = await tableIn(FIXTURE, { split: 'test' });
    for (const label of ['ifeval', 'commoneval', 'wildvoice']) {
      const rows = orderRows(table.rows.get(label)!, label, 'random', 1);
      const clips = await clipsOfRows(table, label, rows);
      const own = new Map(entriesOf(label).map((entry) => [entry.sha256, entry]));
      assert.is(own.size, clips.length);
      for (const { id, file, label: told, reference } of clips) {
        const { prompt, format } = own.get(id)!;
        assert.is(reference, prompt);
        assert.is(told, label);
        assert.match(basename(file), new RegExp(`^${label}_test-0000\\d-of-0000\\d-000\\d\\d\\.${format}$`));
        assert.is(createHash('sha256').update(readFileSync(file)).digest('hex'), id);
      }
      const folder = dirname(clips[0]!.file);
      writeFileSync(join(folder, 'cut-off.tmp'), 'x');
      // Everything is here: no audio is read again, not even where it could not be.
      assert.is(bytesToFetch(table, rows), 0);
      for (const { shard } of rows) {
        shard.parquet.audio = () => {
          throw new Error('audio was read again');
        };
      }
      assert.equal(await clipsOfRows(table, label, rows), clips);
    }
  });
  assert.is(extensionOf(new Uint8Array(Buffer.from('RF64'))), '.wav');
  assert.is(extensionOf(new Uint8Array(Buffer.from('ID3'))), '.mp3');
  assert.is(extensionOf(new Uint8Array([0xff, 0xfb])), '.mp3');
  assert.is(extensionOf(new Uint8Array()), '.audio');
});

test('no two rows share a clip: paths that look alike, and another column of audio', async () => {
  await inFolder(async (folder) => {
    put(folder, {
      'data/a/b_train-00000-of-00001.parquet': parquetOf({ sounds: [1] }),
      'data/a_b/train-00000-of-00001.parquet': parquetOf({ sounds: [2] }),
      'data/a/b/train-00000-of-00001.parquet': parquetOf({ sounds: [3] }),
      'data/a%5Fb/train-00000-of-00001.parquet': parquetOf({ sounds: [4] }),
    });
    const table = await tableIn(join(folder, 'data'));
    const rows = [...table.rows.values()].flat();
    const clips = await clipsOfRows(table, 'x', rows);
    assert.equal(clips.map(({ id }) => id).toSorted(), [2, 3, 4].map((number) => idOf(number)).toSorted());
    assert.is(new Set(clips.map(({ file }) => file)).size, 3);

    const two = parquetWriteBuffer({
      schema: [{ name: 'root', num_children: 2 }, ...audioParts('audio'), ...audioParts('slow/audio')],
      columnData: [
        { name: 'audio', data: [{ bytes: soundOf(1), path: null }] },
        { name: 'slow/audio', data: [{ bytes: soundOf(2), path: null }] },
      ],
    });
    writeFileSync(join(folder, 'two.parquet'), new Uint8Array(two));
    for (const [column, number] of [
      ['audio', 1],
      ['slow/audio', 2],
    ] as const) {
      const table = await tableIn(join(folder, 'two.parquet'), { audioColumn: column, textColumn: null });
      const [clip] = await clipsOfRows(table, 'x', table.rows.get('')!);
      assert.equal([clip!.id, clip!.reference], [idOf(number), undefined]);
    }
  });
});

test('rows go to disk one row group after the other', async () => {
  await inFolder(async (folder) => {
    writeFileSync(join(folder, 'mine.parquet'), parquetOf({ sounds: numbers(50), size: 3000, group: 10 }));
    const files = await localFiles(join(folder, 'mine.parquet'));
    const clips = join(files.clips, 'column-audio');
    const seen: number[] = [];
    const watched = {
      ...files,
      async open(entry: (typeof files.entries)[number]) {
        const access = await files.open(entry);
        return {
          ...access,
          slice(start: number, end: number) {
            if (end - start > 20_000) {
              seen.push(existsSync(clips) ? readdirSync(clips).length : 0);
            }
            return access.slice(start, end);
          },
        };
      },
    };
    const table = await openTable(watched, OPTIONS);
    seen.length = 0; // the footer
    const rows = orderRows(table.rows.get('')!, 'x', 'random', 5);
    assert.is((await clipsOfRows(table, 'x', rows.slice(0, 45))).length, 45);
    assert.equal(seen, [0, 10, 20, 30, 40]);
  });
});

test('a hub: training and held-out clips as many as asked for, disjoint by content, of the files needed alone', async () => {
  await withHub(async (server, context) => {
    addVoiceBench(server);
    const dataset = await openDataset(config({}), 42, context);
    assert.equal(dataset.labels, [...VOICEBENCH.datasets]);
    assert.equal([dataset.train.length, dataset.heldOut.length, dataset.duplicates], [18, 9, 0]);
    const all = [...dataset.train, ...dataset.heldOut];
    assert.is(new Set(all.map(({ id }) => id)).size, 27);
    for (const { id, label, reference } of all) {
      assert.is(entriesOf(label).find(({ sha256 }) => sha256 === id)?.prompt, reference);
    }
    for (const label of dataset.labels) {
      assert.is(dataset.train.filter((clip) => clip.label === label).length, 6);
      assert.is(dataset.heldOut.filter((clip) => clip.label === label).length, 3);
    }
    assert.not(server.requests.some(({ path }) => /alpacaeval/.test(path)));
    const { origin } = dataset;
    assert.equal([origin.commit, origin.split], [VOICEBENCH.revision, 'test']);
    assert.equal(
      (origin.files as { path: string }[]).map(({ path }) => path).toSorted(),
      Object.keys(EXPECTED)
        .filter((path) => !path.startsWith('alpacaeval'))
        .toSorted(),
    );
    const { origin: again, ...rest } = await openDataset(config({}), 42, context);
    assert.equal([again, rest], [origin, (({ origin: _, ...own }) => own)(dataset)]);
    const other = await openDataset(config({}), 43, context);
    assert.not.equal(
      other.heldOut.map(({ id }) => id),
      dataset.heldOut.map(({ id }) => id),
    );
  });
});

test('what is held out stays the same when more is trained on, and more contains less', async () => {
  await withHub(async (server, context) => {
    addVoiceBench(server);
    const ids = (clips: { id: string }[]) => clips.map(({ id }) => id);
    const few = await openDataset(config({ samples_per_dataset: 2 }), 7, context);
    const many = await openDataset(config({ samples_per_dataset: 9 }), 7, context);
    assert.equal(ids(many.heldOut), ids(few.heldOut));
    for (const label of few.labels) {
      const of = (clips: typeof few.train) => ids(clips.filter((clip) => clip.label === label));
      assert.equal(of(many.train).slice(0, 2), of(few.train));
    }
    for (const method of ['first', 'last'] as const) {
      const dataset = await openDataset(config({ sampling_method: method, samples_per_dataset: 4 }), 7, context);
      for (const label of dataset.labels) {
        const own = entriesOf(label).map(({ sha256 }) => sha256);
        const order = method === 'first' ? own : own.toReversed();
        assert.equal(ids(dataset.train.filter((clip) => clip.label === label)), order.slice(0, 4));
        assert.equal(ids(dataset.heldOut.filter((clip) => clip.label === label)), order.slice(4, 7));
      }
    }
  });
});

test('the same audio twice counts once, also under two labels, and does not change what is held out', async () => {
  await inFolder(async (folder) => {
    // Sound 0 thrice in red; sounds 0 to 9 in both.
    put(folder, {
      'red/train-00000-of-00001.parquet': parquetOf({ sounds: [0, 0, ...numbers(20), 0], group: 5 }),
      'blue/train-00000-of-00001.parquet': parquetOf({ sounds: [...numbers(10), ...numbers(20, 100)], group: 5 }),
    });
    await using hub = new Hub({ endpoint: 'http://127.0.0.1:9', cache: folder, token: null, offline: true });
    const context = { hub, progress: silent() };
    const drawn = (samples: number, seed: number) =>
      openDataset(config({ source: folder, samples_per_dataset: samples, held_out_per_dataset: 4 }), seed, context);
    let duplicates = 0;
    for (let seed = 0; seed < 8; seed++) {
      const few = await drawn(1, seed);
      const many = await drawn(6, seed);
      const ids = [...many.train, ...many.heldOut].map(({ id }) => id);
      assert.equal([many.train.length, many.heldOut.length, new Set(ids).size], [12, 8, 20]);
      assert.equal(
        many.heldOut.map(({ id }) => id),
        few.heldOut.map(({ id }) => id),
        `seed ${seed}`,
      );
      duplicates += many.duplicates;
    }
    assert.ok(duplicates > 8, String(duplicates));
    // Red has 23 rows, but 20 sounds, and blue, which comes first, takes up to 10 of those.
    const all = await drawn(40, 1);
    const red = all.train.filter(({ label }) => label === 'red').length;
    assert.ok(red >= 6 && red <= 16, String(red));
    assert.is(new Set([...all.train, ...all.heldOut].map(({ id }) => id)).size, all.train.length + 8);
  });
});

test('too few rows are told before any audio is fetched; so are labels that are missing or alone', async () => {
  await withHub(async (server, context) => {
    addVoiceBench(server);
    const short = await failure(() => openDataset(config({ held_out_per_dataset: 7 }), 42, context));
    assert.match(
      short.message,
      /^hlt-lab\/voicebench: expected 7 held-out clips of 'ifeval', and at least as many for training, got 12 clips\.$/,
    );
    assert.match(short.hint, '--held-out-per-dataset 3');
    const audio = server.requests.filter(({ range, host }) => host === 'cdn' && range !== null).length;
    assert.is(audio, 4, 'the footers of four files');
    const told: string[] = [];
    const stream = new Writable({
      write: (chunk, _encoding, done) => {
        told.push(String(chunk));
        done();
      },
    });
    const fits = await openDataset(config({ samples_per_dataset: 500 }), 42, {
      ...context,
      progress: new Progress(stream),
    });
    assert.match(told.join(''), "'ifeval' has 12 rows: at most 9 training clips, not 500.");
    assert.equal([fits.train.length, fits.heldOut.length], [27, 9]);
    const one = await failure(() => openDataset(config({ datasets: ['ifeval'] }), 42, context));
    assert.match(one.message, "at least two labels: with one there is nothing to tell apart, got 'ifeval'");
    const none = await failure(() => openDataset(config({ datasets: ['ifeval', 'bbh'] }), 42, context));
    assert.match(none.message, "expected folders 'bbh' with a split 'test', got 'alpacaeval'");
    const tiny = await failure(() =>
      openDataset(
        config({ datasets: ['alpacaeval', 'ifeval'], samples_per_dataset: 1, held_out_per_dataset: 2 }),
        1,
        context,
      ),
    );
    assert.match(tiny.hint, '--held-out-per-dataset 1');
  });
});

test('text in place of audio: no byte of audio is fetched', async () => {
  await withHub(async (server, context, folder) => {
    addVoiceBench(server);
    const dataset = await openDataset(config({ use_text: true }), 42, context);
    assert.equal([dataset.train.length, dataset.heldOut.length], [18, 9]);
    assert.is(new Set([...dataset.train, ...dataset.heldOut].map(({ id }) => id)).size, 27);
    assert.ok(
      dataset.train.every(({ label, reference }) => entriesOf(label).some(({ prompt }) => prompt === reference)),
    );
    assert.not(existsSync(join(folder, 'cache', 'clips')));
    const footers = server.requests.filter(({ bytes }) => bytes === 65536).length;
    assert.is(footers, 4);
    assert.ok(sent(server) - footers * 65536 < 12_000, `${sent(server)} bytes`);
    const asked = config({ use_text: true });
    const spoken = await clipsForLabels(asked, ['wildvoice', 'ifeval'], 42, () => false, context);
    assert.is(spoken.clips.length, 12);
    // Clips that are known are passed over, and others taken in their place.
    const known = new Set(spoken.clips.map(({ id }) => id));
    const fresh = await clipsForLabels(asked, ['wildvoice', 'ifeval'], 42, ({ id }) => known.has(id), context);
    assert.equal([fresh.clips.length, fresh.passedOver], [12, 12]);
    assert.not(existsSync(join(folder, 'cache', 'clips')));
  });
});

/** 300 rows in row groups of 100, of 3000 bytes each. */
const ROWS = 300;
const SIZE = 3000;
const LAYOUTS = {
  'a dictionary': { audio: { encoding: 'RLE_DICTIONARY' as const } },
  'plain pages': { options: { pageSize: 2 ** 30 } },
  // A page for each row.
  'an index': { options: { pageSize: SIZE + 1 } },
};

/** One whose first row group does not lie within what the footer's request brings along. */
const SEED = 1;

for (const [layout, how] of Object.entries(LAYOUTS)) {
  test(`requests and bytes for 1, 10 and 100 rows, and none the second time: ${layout}`, async () => {
    const file = parquetOf({ sounds: numbers(ROWS), size: SIZE, ...how });
    for (const count of [1, 10, 100]) {
      await withHub(async (server, { hub }, folder) => {
        const path = 'spoken/train-00000-of-00001.parquet';
        server.add({ type: 'dataset', id: 'org/data', commit: COMMIT, files: { [path]: file } });
        const openIt = (client: Hub) => hubFiles(client, 'org/data', COMMIT).then((files) => openTable(files, OPTIONS));
        const take = async (table: Table) => {
          const rows = orderRows(table.rows.get('spoken')!, 'spoken', 'random', SEED).slice(0, count);
          return { rows, clips: await clipsOfRows(table, 'spoken', rows) };
        };

        const table = await openIt(hub);
        // The listing, the way to the CDN, and the footer.
        const asked = () => server.requests.map(({ host, range }) => [host, range]);
        assert.equal(asked(), [
          ['hub', null],
          ['hub', `bytes=${file.length - 65536}-${file.length - 1}`],
          ['cdn', `bytes=${file.length - 65536}-${file.length - 1}`],
        ]);
        assert.equal(
          [...table.rows.values()].map(({ length }) => length),
          [ROWS],
        );
        server.clear();

        const before = table.files.fetched.bytes;
        const rows = orderRows(table.rows.get('spoken')!, 'spoken', 'random', SEED).slice(0, count);
        assert.is(byGroup(rows).length, 1);
        const { shard, group } = rows[0]!;
        const estimate = bytesToFetch(table, rows);
        const { clips } = await take(table);
        assert.equal(
          clips.map(({ id }) => id),
          rows.map(({ row }) => idOf(100 * group + row, SIZE)),
        );

        const one = (ranges: [number, number][]) => ranges.reduce((sum, [start, end]) => sum + end - start, 0);
        const { parquet } = shard;
        const [audio, names] = parquet.columnRanges(group, 'audio') as [[number, number], [number, number]];
        const text = one(parquet.columnRanges(group, 'prompt'));
        const all = asked();
        const bytes = sent(server);
        assert.ok(all.every(([host]) => host === 'cdn'));
        if (layout === 'an index' && count < 100) {
          // The texts, the paths, and a request for each run of rows that lie side by side: of their pages alone.
          const order = rows.map(({ row }) => row).toSorted((a, b) => a - b);
          const runs = order.filter((row, i) => i === 0 || order[i - 1] !== row - 1).length;
          assert.is(all.length, 2 + runs);
          const pages = bytes - text - one([names]);
          assert.ok(pages >= count * SIZE && pages < count * (SIZE + 40), `${pages} bytes of pages for ${count} rows`);
          assert.ok(Math.abs(estimate - pages) < 50 * count, `${estimate} estimated, ${pages} fetched`);
          assert.ok(count > 1 || runs === 1);
        } else {
          // The texts and the audio of one row group, whatever is taken of it.
          assert.equal(all, [
            [
              'cdn',
              `bytes=${parquet
                .columnRanges(group, 'prompt')[0]!
                .map((at, i) => at - i)
                .join('-')}`,
            ],
            ['cdn', `bytes=${audio[0]}-${names[1] - 1}`],
          ]);
          assert.is(bytes, text + one([audio, names]));
          assert.is(estimate, one([audio, names]));
        }
        assert.is(table.files.fetched.bytes - before, bytes);

        // From disk, by another client: the clips are there, and where they are not, what was fetched is.
        server.clear();
        await using again = clientOf(server, folder);
        assert.equal((await take(await openIt(again))).clips, clips);
        rmSync(join(folder, 'cache', 'clips'), { recursive: true });
        assert.equal((await take(await openIt(again))).clips, clips);
        await using apart = clientOf(server, folder, true);
        rmSync(join(folder, 'cache', 'clips'), { recursive: true });
        assert.equal((await take(await openIt(apart))).clips, clips);
        assert.is(server.requests.length, 0);
      });
    }
  });
}

test('more rows of a row group that is here cost nothing more', async () => {
  await withHub(async (server, { hub }) => {
    const file = parquetOf({ sounds: numbers(ROWS), size: SIZE, ...LAYOUTS['a dictionary'] });
    server.add({ type: 'dataset', id: 'org/data', commit: COMMIT, files: { 'a/train-00000-of-00001.parquet': file } });
    const table = await openTable(await hubFiles(hub, 'org/data', COMMIT), OPTIONS);
    const rows = orderRows(table.rows.get('a')!, 'a', 'random', 1);
    await clipsOfRows(table, 'a', rows.slice(0, 1));
    server.clear();
    assert.is(bytesToFetch(table, rows.slice(0, 100)), 0);
    assert.is((await clipsOfRows(table, 'a', rows.slice(0, 100))).length, 100);
    assert.is(server.requests.length, 0);
    await clipsOfRows(table, 'a', rows.slice(0, 101));
    // The text of the last group was read with the footer.
    assert.is(server.requests.length, rows[100]!.group === 2 ? 1 : 2);
  });
});

test('offline with nothing here: one sentence, and no request', async () => {
  await withHub(async (server, { progress }, folder) => {
    addVoiceBench(server);
    await using hub = clientOf(server, folder, true);
    for (const revision of [null, 'main']) {
      const error = await failure(() => openDataset(config({ revision }), 42, { hub, progress }));
      assert.is(error.code, 'E_HUB');
      assert.match(
        error.message,
        /of hlt-lab\/voicebench: expected it on this machine, .*, got nothing in the cache\.$/,
      );
      assert.match(error.hint, 'fetch it once with a connection');
    }
    assert.is(server.requests.length, 0);
    // With the listing and the footers here, the audio is what is missing, and its file is named.
    await using online = clientOf(server, folder);
    await tableOf(config({}), (await filesOf(config({}), { hub: online, progress }))!);
    server.clear();
    const error = await failure(() => openDataset(config({}), 42, { hub, progress }));
    assert.match(
      error.message,
      /^ifeval\/test-00000-of-00001\.parquet of hlt-lab\/voicebench: expected it on this machine/,
    );
    assert.is(server.requests.length, 0);
  });
});

test('a whole file in the cache of the hub is read from there', async () => {
  await withHub(async (server, context, folder) => {
    addVoiceBench(server);
    const files = (await filesOf(config({}), context))!;
    for (const entry of files.entries.filter(({ path }) => /commoneval|ifeval/.test(path))) {
      await files.pull!(entry, () => {});
    }
    server.clear();
    await using hub = clientOf(server, folder, true);
    const dataset = await openDataset(config({ datasets: ['commoneval', 'ifeval'] }), 42, { ...context, hub });
    assert.is(dataset.train.length, 12);
    assert.is(server.requests.length, 0);
    assert.not(existsSync(join(folder, 'cache', 'ranges')));
  });
});

test('damaged files are told by their name, whatever part of them lies', async () => {
  await withHub(async (server, context) => {
    const sound = parquetOf({ sounds: numbers(20), size: 5000, group: 10 });
    const damages: [string, (bytes: Uint8Array) => void, RegExp][] = [
      ['its end', (bytes) => bytes.fill(0, -4), /no 'PAR1' at its end/],
      ['its footer', (bytes) => bytes.fill(0xff, -100, -8), /./],
      ['its pages', (bytes) => bytes.fill(0xff, 4, 64), /./],
    ];
    for (const [what, damage, pattern] of damages) {
      const bytes = sound.slice();
      damage(bytes);
      const id = `org/${what.replace(' ', '-')}`;
      const files = { 'red/train-00000-of-00001.parquet': sound, 'blue/train-00000-of-00001.parquet': bytes };
      server.add({ type: 'dataset', id, commit: COMMIT, files });
      const error = await failure(() =>
        openDataset(config({ source: id, samples_per_dataset: 15, held_out_per_dataset: 5 }), 42, context),
      );
      assert.is(error.code, 'E_DATA', what);
      assert.match(
        error.message,
        `blue/train-00000-of-00001.parquet of ${id}: expected a parquet file that can be read`,
      );
      assert.match(error.message, pattern, what);
    }
  });
});

test('parts that came are read as they are: a local file that was cut after it was opened is told', async () => {
  await inFolder(async (folder) => {
    const file = join(folder, 'mine.parquet');
    const bytes = parquetOf({ sounds: numbers(40), size: 5000, group: 20 });
    writeFileSync(file, bytes);
    const table = await tableIn(file);
    writeFileSync(file, bytes.subarray(0, 50_000));
    const rows = table.rows.get('')!;
    const error = await failure(() => clipsOfRows(table, 'x', rows.slice(20, 21)));
    assert.is(error.code, 'E_DATA');
    assert.match(error.message, /mine\.parquet/);
    assert.is((await localFile(file)).size, 50_000);
  });
});

test('a split of which a file is missing is refused', async () => {
  await inFolder(async (folder) => {
    const bytes = readFileSync(join(FIXTURE, 'alpacaeval/test-00000-of-00001.parquet'));
    put(folder, { 'a/test-00000-of-00002.parquet': bytes, 'b/test-00000-of-00001.parquet': bytes });
    const { code, message, hint } = await failure(() => tableIn(folder, { split: 'test' }));
    assert.is(code, 'E_DATA');
    assert.match(message, /expected 2 files a\/test-\*-of-00002\.parquet, got 1/);
    assert.match(hint, 'add the others');
    assert.equal((await tableIn(folder, { split: 'test', datasets: ['b'] })).labels, ['b']);
  });
});

test('labels of a column: blanks are none, capitals alone do not tell apart, and all take the same row groups', async () => {
  await inFolder(async (folder) => {
    const write = (data: string[], group = 100) => {
      const path = join(folder, 'one.parquet');
      writeFileSync(path, parquetOf({ sounds: numbers(data.length), group, labels: { type: 'BYTE_ARRAY', data } }));
      return config({ source: path, label_column: 'label', samples_per_dataset: 3, held_out_per_dataset: 1 });
    };
    await using hub = new Hub({ endpoint: 'http://127.0.0.1:9', cache: folder, token: null, offline: true });
    const context = { hub, progress: silent() };
    const blanks = await openDataset(write(numbers(30).map((n) => [' ', 'yes', 'no '][n % 3]!)), 1, context);
    assert.equal(blanks.labels, ['no', 'yes']);
    const alike = await failure(() => openDataset(write(numbers(30).map((n) => ['Yes', 'yes'][n % 2]!)), 1, context));
    assert.match(alike.message, /differ in more than capitals/);
    // Twelve labels in each of eight row groups: four clips of each lie in one of them.
    const many = write(
      numbers(960).map((n) => `label ${n % 12}`),
      120,
    );
    const files = await filesOf(many, context);
    const { labels, rows } = await tableOf(many, files!);
    const taken = labels.flatMap((label) => orderRows(rows.get(label)!, label, 'random', 1).slice(0, 4));
    assert.is(taken.length, 48);
    assert.is(byGroup(taken).length, 1);
  });
});

test('what is a folder of recordings, a table, a name on the hub', async () => {
  await inFolder(async (folder) => {
    const bytes = parquetOf({ sounds: numbers(4) });
    put(folder, { 'clips/red/a.wav': bytes, 'clips/features.parquet': bytes, 'listed/manifest.jsonl': bytes });
    put(folder, { 'listed/x.parquet': bytes, 'table/red/train.parquet': bytes, 'table/odd.parquet/readme': bytes });
    const kinds = ['clips', 'listed', 'table'].map((name) => isLocalTable(join(folder, name)));
    assert.equal(kinds, [false, false, true]);
    assert.equal(
      (await localFiles(join(folder, 'table'))).entries.map(({ path }) => path),
      ['red/train.parquet'],
    );
    const rootless = config({ source: join(folder, 'table/red'), held_out_per_dataset: 1, samples_per_dataset: 1 });
    await using hub = new Hub({ endpoint: 'http://127.0.0.1:9', cache: folder, token: null, offline: true });
    const refused = await failure(() => openDataset(rootless, 1, { hub, progress: silent() }));
    assert.match(refused.message, 'files without a folder');
    assert.ok(isHubId('org/name'));
    for (const path of ['src/clips', './name', 'org/clips.jsonl', 'org/a.parquet', 'org', 'a/b/c']) {
      assert.not.ok(isHubId(path), path);
    }
  });
});

test.run();
