/** Parquet: what the files of a spoken dataset hold, how little of them is read, and files that claim what they do not hold. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { type ColumnSource, parquetWriteBuffer } from 'hyparquet-writer';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VoiceGrpoError } from '../src/errors.js';
import { Parquet } from '../src/formats/parquet.js';
import type { RandomAccess } from '../src/hub/client.js';
import { randomInteger } from '../src/random.js';

interface Expected {
  rows: number;
  row_groups: number[];
  clips: { prompt: string; path: string | null; sha256: string; bytes: number }[];
}

const data = new URL('./hub/data/', import.meta.url);
const fixture = (name: string) => new Uint8Array(readFileSync(new URL(`voicebench/${name}`, data)));
const EXPECTED: Record<string, Expected> = JSON.parse(readFileSync(new URL('voicebench.json', data), 'utf8'));
const IFEVAL = 'ifeval/test-00000-of-00001.parquet';
const COMMONEVAL = 'commoneval/test-00000-of-00002.parquet';

/** Bytes that remember which of them were asked for. */
function accessTo(bytes: Uint8Array): RandomAccess & { asked: [number, number][] } {
  const asked: [number, number][] = [];
  return {
    size: bytes.length,
    asked,
    async slice(start, end) {
      assert.ok(0 <= start && start <= end && end <= bytes.length, `asked for ${start} to ${end} of ${bytes.length}`);
      asked.push([start, end]);
      return bytes.slice(start, end);
    },
  };
}

const open = (bytes: Uint8Array) => Parquet.open(accessTo(bytes), 'the file');
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const covers = (asked: [number, number][], start: number, end: number) =>
  asked.some(([from, to]) => from < end && start < to);

async function audioOf(parquet: Parquet, group: number, rows: number[], column = 'audio') {
  const found: { row: number; sha256: string; path: string | null }[] = [];
  for await (const { row, bytes, path } of parquet.audio(column, group, rows)) {
    found.push({ row, sha256: sha256(bytes), path });
  }
  return found;
}

async function failure(work: () => Promise<unknown>): Promise<VoiceGrpoError> {
  try {
    await work();
  } catch (error) {
    assert.instance(error, VoiceGrpoError, (error as Error).stack);
    return error as VoiceGrpoError;
  }
  throw new Error('nothing was thrown');
}

/** The parts of a column of audio, as datasets' Audio feature has them. */
const AUDIO = [
  { name: 'audio', repetition_type: 'OPTIONAL' as const, num_children: 2 },
  { name: 'bytes', type: 'BYTE_ARRAY' as const, repetition_type: 'OPTIONAL' as const },
  { name: 'path', type: 'BYTE_ARRAY' as const, converted_type: 'UTF8' as const, repetition_type: 'OPTIONAL' as const },
];
const PROMPT = { ...AUDIO[2]!, name: 'prompt' };

const SIZE = 200;
/** Audio that does not compress, so that it can be found in a file. */
const soundOf = (row: number) => new Uint8Array(SIZE).map((_, i) => randomInteger(7, 'sound', row, 0, i, 256));
const recordOf = (row: number) => ({ bytes: soundOf(row), path: row % 4 === 3 ? null : `${row}.wav` });

type Written = Omit<Parameters<typeof parquetWriteBuffer>[0], 'columnData' | 'schema'> & {
  audio?: Partial<ColumnSource>;
  prompt?: Partial<ColumnSource>;
};

/** A file of `rows` rows with audio and prompt, 12 in a row group. */
function written(rows: number, { audio = {}, prompt = {}, ...options }: Written = {}): Uint8Array {
  const numbers = Array.from({ length: rows }, (_, row) => row);
  return new Uint8Array(
    parquetWriteBuffer({
      rowGroupSize: 12,
      ...options,
      schema: [{ name: 'root', num_children: 2 }, ...AUDIO, PROMPT],
      columnData: [
        { name: 'audio', data: numbers.map(recordOf), ...audio },
        { name: 'prompt', data: numbers.map((row) => (row % 5 === 4 ? null : `sentence ${row % 7}`)), ...prompt },
      ],
    }),
  );
}

test('every row of every file: its bytes, its path and its prompt', async () => {
  for (const [name, { rows, row_groups, clips }] of Object.entries(EXPECTED)) {
    const parquet = await open(fixture(name));
    assert.is(parquet.rows, rows, name);
    assert.equal(
      parquet.groups.map((group) => group.rows),
      row_groups,
    );
    assert.equal(
      await parquet.values('prompt'),
      clips.map(({ prompt }) => prompt),
    );
    for (const [group, { start, rows: count }] of parquet.groups.entries()) {
      const own = clips.slice(start, start + count).map(({ sha256, path }, i) => ({ row: start + i, sha256, path }));
      const numbers = own.map((_, i) => i);
      assert.equal(await audioOf(parquet, group, numbers), own, `${name}, group ${group}`);
      for (const row of numbers) {
        assert.equal(await audioOf(parquet, group, [row]), [own[row]], `${name}, group ${group}, row ${row}`);
      }
      // In any order asked for, and with a row left out between two.
      const some = [...new Set([count - 1, 0])];
      assert.equal(
        await audioOf(parquet, group, some),
        some.toReversed().map((row) => own[row]),
        name,
      );
    }
    const middle = Math.floor(rows / 2);
    assert.equal(await parquet.values('prompt', middle - 1, middle + 1), [
      clips[middle - 1]!.prompt,
      clips[middle]!.prompt,
    ]);
    assert.equal(await parquet.values('prompt', 1, 1), []);
  }
});

test('every compression, with a dictionary, with plain pages, and with an index of them', async () => {
  const codecs = {
    UNCOMPRESSED: undefined,
    SNAPPY: undefined,
    GZIP: (bytes: Uint8Array) => new Uint8Array(gzipSync(bytes)),
    BROTLI: (bytes: Uint8Array) => new Uint8Array(brotliCompressSync(bytes)),
    ZSTD: storedByZstd,
  };
  const rows = 30;
  const numbers = Array.from({ length: rows }, (_, row) => row);
  for (const [codec, compress] of Object.entries(codecs)) {
    for (const layout of [{}, { audio: { encoding: 'RLE_DICTIONARY' as const } }, { pageSize: 2 * SIZE }]) {
      const parquet = await open(
        written(rows, { ...layout, codec: codec as 'ZSTD', ...(compress && { compressors: { [codec]: compress } }) }),
      );
      const told = `${codec} ${JSON.stringify(layout)}`;
      assert.equal(
        parquet.groups.map(({ rows, indexed }) => [rows, indexed]),
        [12, 12, 6].map((count) => [count, 'pageSize' in layout]),
        told,
      );
      const prompts = numbers.map((row) => (row % 5 === 4 ? null : `sentence ${row % 7}`));
      assert.equal(
        (await parquet.values('prompt')).map((value) => value ?? null),
        prompts,
        told,
      );
      for (const [group, { start, rows: count }] of parquet.groups.entries()) {
        for (const some of [[0, 3, 4, count - 1], numbers.slice(0, count)]) {
          const own = some.map((row) => ({
            row: start + row,
            sha256: sha256(soundOf(start + row)),
            path: recordOf(start + row).path,
          }));
          assert.equal(await audioOf(parquet, group, some), own, told);
        }
      }
    }
  }
});

/** A Zstandard frame whose one block is stored as it is. */
function storedByZstd(bytes: Uint8Array): Uint8Array {
  const frame = Buffer.alloc(12 + bytes.length);
  frame.writeUInt32LE(0xfd2fb528, 0);
  frame[4] = 0b1010_0000; // one segment, its size in four bytes
  frame.writeUInt32LE(bytes.length, 5);
  frame.writeUIntLE(bytes.length * 8 + 1, 9, 3);
  frame.set(bytes, 12);
  return new Uint8Array(frame);
}

test('columns beside audio and text may be anything: lists, structs, nulls, times, numbers', async () => {
  const rows = 5;
  const repeat = <T>(value: T) => Array.from({ length: rows }, (_, i) => (i === 2 ? null : value));
  const optional = { repetition_type: 'OPTIONAL' as const };
  const bytes = new Uint8Array(
    parquetWriteBuffer({
      schema: [
        { name: 'root', num_children: 7 },
        { name: 'turns', ...optional, converted_type: 'LIST', num_children: 1 },
        { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
        { name: 'element', ...optional, num_children: 2 },
        { name: 'role', type: 'BYTE_ARRAY', converted_type: 'UTF8', ...optional },
        { name: 'order', type: 'INT32', ...optional },
        ...AUDIO,
        { name: 'when', type: 'INT64', converted_type: 'TIMESTAMP_MILLIS', ...optional },
        { name: 'loud', type: 'DOUBLE', ...optional },
        { name: 'female', type: 'BOOLEAN', ...optional },
        { name: 'label', type: 'INT64', ...optional },
        PROMPT,
      ],
      columnData: [
        {
          name: 'turns',
          data: repeat([
            { role: 'user', order: 1 },
            { role: null, order: 2 },
          ]),
        },
        { name: 'audio', data: Array.from({ length: rows }, (_, i) => (i === 4 ? null : recordOf(i))) },
        { name: 'when', data: repeat(new Date(0)) },
        { name: 'loud', data: repeat(0.5) },
        { name: 'female', data: repeat(true) },
        { name: 'label', data: repeat(3n) },
        { name: 'prompt', data: repeat('hello') },
      ],
    }),
  );
  const parquet = await open(bytes);
  assert.equal(parquet.columns, ['turns', 'audio', 'when', 'loud', 'female', 'label', 'prompt']);
  const given = (values: unknown[]) => values.map((value) => value ?? null);
  assert.equal(given(await parquet.values('prompt')), repeat('hello'));
  assert.equal(given(await parquet.values('label')), repeat(3n));
  assert.equal(
    (await audioOf(parquet, 0, [0, 1, 2, 3])).map(({ sha256 }) => sha256),
    [0, 1, 2, 3].map((row) => sha256(soundOf(row))),
  );
  const lists = await failure(() => parquet.values('turns'));
  assert.match(lists.message, "expected single values in column 'turns', got lists");
  const missing = await failure(() => audioOf(parquet, 0, [3, 4]));
  assert.match(missing.message, "the file, row 4: expected audio as bytes and path in column 'audio', got no bytes");
  const text = await failure(() => audioOf(parquet, 0, [0], 'prompt'));
  assert.match(text.message, 'got no bytes');
  assert.match(text.hint, '--audio-column');
});

test('a column that is not there is named with those that are', async () => {
  const parquet = await open(fixture(IFEVAL));
  const error = await failure(async () => parquet.need('speech', '--audio-column'));
  assert.match(error.message, "expected a column 'speech', got columns 'key', 'prompt'");
  assert.match(error.hint, '--audio-column');
  parquet.need('audio', '--audio-column');
  const none = await failure(() => parquet.values('speech'));
  assert.match(none.message, "without all of column 'speech'");
});

test('class names: what datasets wrote, and nothing where it wrote something else', async () => {
  const withNote = (value?: string) =>
    open(written(1, value === undefined ? {} : { kvMetadata: [{ key: 'huggingface', value }] }));
  const note = {
    info: { features: { label: { names: ['red', 'blue'], _type: 'ClassLabel' }, prompt: { dtype: 'string' } } },
  };
  const named = await withNote(JSON.stringify(note));
  assert.equal(named.classNames('label'), ['red', 'blue']);
  for (const column of ['prompt', 'audio', '__proto__', 'constructor']) {
    assert.is(named.classNames(column), null, column);
  }
  for (const text of [undefined, '', 'null', '{', '[]', '{"info":{"features":{"label":{"names":[1,2]}}}}']) {
    assert.is((await withNote(text)).classNames('label'), null, text);
  }
});

test('text alone reads no byte of audio', async () => {
  for (const name of Object.keys(EXPECTED)) {
    const access = accessTo(fixture(name));
    const parquet = await Parquet.open(access, name);
    assert.equal(access.asked, [[Math.max(0, access.size - 65536), access.size]], name);
    access.asked.length = 0;
    await parquet.values('prompt');
    const audio = parquet.groups.flatMap((_, group) => parquet.columnRanges(group, 'audio'));
    assert.ok(audio.length > 0);
    for (const [start, end] of audio) {
      assert.not(covers(access.asked, start, end), name);
    }
    const text = parquet.groups.flatMap((_, group) => parquet.columnRanges(group, 'prompt'));
    assert.equal(access.asked.toSorted(), text.toSorted(), name);
  }
});

test('one row: of a file with an index only its pages, of one without its row group', async () => {
  const rows = 36;
  // A page for each row, and nothing compressed, so that each row's audio can be found in the file.
  const bytes = written(rows, { codec: 'UNCOMPRESSED', pageSize: SIZE + 1 });
  const access = accessTo(bytes);
  const parquet = await Parquet.open(access, 'the file');
  access.asked.length = 0;
  assert.equal((await audioOf(parquet, 1, [5])).length, 1);
  const places = Array.from({ length: rows }, (_, row) => Buffer.from(bytes).indexOf(soundOf(row)));
  assert.ok(places.every((place) => place > 0));
  const readOf = () => [...places.keys()].filter((row) => covers(access.asked, places[row]!, places[row]! + SIZE));
  assert.equal(readOf(), [12 + 5]);
  const [audio, path] = parquet.columnRanges(1, 'audio');
  const read = access.asked.reduce((sum, [start, end]) => sum + end - start, 0);
  assert.ok(read < SIZE + 40 + (path![1] - path![0]) + 12 * 16, `${read} bytes`);
  assert.ok(read < (audio![1] - audio![0]) / 4);

  access.asked.length = 0;
  assert.equal((await audioOf(parquet, 1, [9, 1, 2])).length, 3);
  assert.equal(readOf(), [12 + 1, 12 + 2, 12 + 9]);

  const stored = accessTo(fixture(COMMONEVAL));
  const commoneval = await Parquet.open(stored, COMMONEVAL);
  for (const row of [0, 1, 2, 3]) {
    stored.asked.length = 0;
    await audioOf(commoneval, 0, [row]);
    const part = stored.asked.reduce((sum, [start, end]) => sum + end - start, 0);
    const all = commoneval.columnRanges(0, 'audio').reduce((sum, [start, end]) => sum + end - start, 0);
    assert.ok(
      part > EXPECTED[COMMONEVAL]!.clips[row]!.bytes && part < 0.7 * all,
      `row ${row}: ${part} of ${all} bytes`,
    );
  }

  const whole = accessTo(fixture(IFEVAL));
  const ifeval = await Parquet.open(whole, IFEVAL);
  whole.asked.length = 0;
  await audioOf(ifeval, 1, [0, 3]);
  const [first, last] = ifeval.columnRanges(1, 'audio');
  assert.equal(whole.asked, [[first![0], last![1]]], 'once, in one piece, and of this row group alone');
});

test('a footer larger than what is read of the end takes one more request', async () => {
  const value = JSON.stringify({
    info: { features: { label: { names: Array.from({ length: 20_000 }, (_, i) => `n${i}`) } } },
  });
  const access = accessTo(written(12, { kvMetadata: [{ key: 'huggingface', value }] }));
  const parquet = await Parquet.open(access, 'the file');
  assert.is(access.asked.length, 2);
  assert.is(access.asked[1]![1], access.asked[0]![0]);
  assert.is(parquet.classNames('label')?.length, 20_000);
  assert.is((await parquet.values('prompt')).length, 12);
});

/* Files made by hand: thrift's compact protocol as parquet has it, with anything in it. */

type Encoded = [type: number, bytes: Uint8Array];

const concat = (...parts: (Uint8Array | number[])[]) =>
  new Uint8Array(Buffer.concat(parts.map((part) => Buffer.from(part))));
function varint(value: number | bigint): number[] {
  const bytes: number[] = [];
  for (let rest = BigInt(value); ; rest >>= 7n) {
    if (rest < 0x80n) {
      return [...bytes, Number(rest)];
    }
    bytes.push(Number(rest & 0x7fn) | 0x80);
  }
}
const zigzag = (value: number | bigint) => {
  const number = BigInt(value);
  return varint(number < 0n ? -2n * number - 1n : 2n * number);
};
const i32 = (value: number | bigint): Encoded => [5, new Uint8Array(zigzag(value))];
const i64 = (value: number | bigint): Encoded => [6, new Uint8Array(zigzag(value))];
const bool = (value: boolean): Encoded => [value ? 1 : 2, new Uint8Array()];
const binary = (value: Uint8Array | string): Encoded => [8, concat(varint(value.length), Buffer.from(value))];
const list = (items: Encoded[], type = items[0]?.[0] ?? 12, length: number | bigint = items.length): Encoded => [
  9,
  concat([0xf0 | type], varint(length), ...items.map(([, bytes]) => bytes)),
];
function struct(fields: Record<number, Encoded>): Encoded {
  const parts = Object.entries(fields).map(([field, [type, bytes]]) => concat([type, ...zigzag(Number(field))], bytes));
  return [12, concat(...parts, [0])];
}

/** One page: its header, with what is to be changed of it, and its body. */
function page(
  kind: number,
  own: Record<number, Encoded>,
  body: Uint8Array | number[],
  changes: Record<number, Encoded> = {},
) {
  const field = kind === 0 ? 5 : kind === 2 ? 7 : 8;
  const header = { 1: i32(kind), 2: i32(body.length), 3: i32(body.length), [field]: struct(own), ...changes };
  return concat(struct(header)[1], body);
}
const u32 = (value: number) => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
/** A run of `count` equal numbers, and the header of `count` groups of eight packed ones. */
const run = (count: number, value: number) => [...varint(count * 2), value];
const packed = (groups: number) => varint(groups * 2 + 1);
const levelled = (...runs: number[]) => [...u32(runs.length), ...runs];
const plain = (...texts: string[]) => texts.flatMap((text) => [...u32(text.length), ...Buffer.from(text)]);
const PLAIN = 0;
const DICTIONARY = 8;
/** A page of the first version: all levels 1, so nothing is null, unless they are given. */
const v1 = (count: number | bigint, encoding: number, body: number[], levels = levelled(...run(4, 1)), changes = {}) =>
  page(0, { 1: i32(count), 2: i32(encoding), 3: i32(3), 4: i32(3) }, [...levels, ...body], changes);
const dictionary = (count: number | bigint, body: number[], changes = {}) =>
  page(2, { 1: i32(count), 2: i32(PLAIN) }, body, changes);
const v2 = (own: Record<number, Encoded>, body: number[], changes = {}) =>
  page(
    3,
    { 1: i32(4), 2: i32(0), 3: i32(4), 4: i32(PLAIN), 5: i32(2), 6: i32(0), 7: bool(false), ...own },
    [...run(4, 1), ...body],
    changes,
  );

interface Made {
  rows?: number | bigint;
  codec?: number;
  /** Appended after the pages; the column says that it is the index of them. */
  index?: Encoded;
  schema?: Encoded;
  /** Instead of, or beside, the fields of the column's description, the column, the row group and the footer. */
  described?: Record<number, Encoded>;
  column?: Record<number, Encoded>;
  group?: Record<number, Encoded>;
  footer?: Record<number, Encoded>;
}

const part = (name: string, fields: Record<number, Encoded>) => struct({ ...fields, 4: binary(name) });
const LEAF = { 1: i32(6), 3: i32(1) };
const SCHEMA = list([part('root', { 5: i32(1) }), part('text', LEAF)]);

/** A file of one row group and one column, 'text'. */
function made(pages: Uint8Array, { rows = 4, codec = 0, index, schema = SCHEMA, ...changes }: Made = {}): Uint8Array {
  const indexBytes = index?.[1] ?? new Uint8Array();
  const described = struct({
    1: i32(6),
    3: list([binary('text')]),
    4: i32(codec),
    5: i64(rows),
    7: i64(pages.length),
    9: i64(4),
    ...changes.described,
  });
  const indexed: Record<number, Encoded> =
    index === undefined ? {} : { 4: i64(4 + pages.length), 5: i32(indexBytes.length) };
  const column = struct({ 2: i64(4), 3: described, ...indexed, ...changes.column });
  const group = struct({ 1: list([column]), 2: i64(pages.length), 3: i64(rows), ...changes.group });
  const footer = struct({ 1: i32(2), 2: schema, 3: i64(rows), 4: list([group]), ...changes.footer });
  return ended(concat(Buffer.from('PAR1'), pages, indexBytes), footer[1]);
}

const ended = (front: Uint8Array, footer: Uint8Array, length = footer.length) =>
  concat(front, footer, u32(length), Buffer.from('PAR1'));

const TEXTS = ['a', 'bc', 'a', 'bc'];
const SOUND_PAGES = concat(dictionary(2, plain('a', 'bc')), v1(4, DICTIONARY, [1, ...packed(1), 0b1010]));
const PLAIN_PAGES = v1(4, PLAIN, plain(...TEXTS));
const indexOf = (...pages: [offset: number | bigint, size: number | bigint, row: number | bigint][]) =>
  struct({ 1: list(pages.map(([offset, size, row]) => struct({ 1: i64(offset), 2: i32(size), 3: i64(row) }))) });

test('files made by hand can be read, as long as they are sound', async () => {
  const sound: [string, Uint8Array][] = [
    ['dictionary', made(SOUND_PAGES)],
    ['plain', made(PLAIN_PAGES)],
    ['second version', made(v2({}, plain(...TEXTS)))],
    [
      'second version, dictionary',
      made(concat(dictionary(2, plain('a', 'bc')), v2({ 4: i32(DICTIONARY) }, [1, ...packed(1), 0b1010]))),
    ],
    ['gzip', made(gzipped(PLAIN_PAGES), { codec: 2 })],
    ['index', made(PLAIN_PAGES, { index: indexOf([4, PLAIN_PAGES.length, 0]) })],
    ['dictionary said to begin at 0', made(PLAIN_PAGES, { described: { 11: i64(0) } })],
    [
      'unknown fields',
      made(PLAIN_PAGES, { footer: { 99: list([struct({ 1: bool(true) })]) }, column: { 77: binary('x') } }),
    ],
  ];
  for (const [name, bytes] of sound) {
    assert.equal(await (await open(bytes)).values('text'), TEXTS, name);
    assert.equal(await (await open(bytes)).values('text', 1, 3), TEXTS.slice(1, 3), name);
  }
  const nulls = made(v1(4, PLAIN, plain('x', 'y'), levelled(...packed(1), 0b0110)));
  assert.equal(
    (await (await open(nulls)).values('text')).map((value) => value ?? null),
    [null, 'x', 'y', null],
  );
  const none = made(new Uint8Array(), { rows: 0, described: { 9: i64(4) } });
  assert.equal(await (await open(none)).values('text'), []);
});

function gzipped(whole: Uint8Array, claimed?: number): Uint8Array {
  // The header of PLAIN_PAGES is made anew for the compressed body.
  const body = whole.subarray(whole.length - levelled(...run(4, 1), ...plain(...TEXTS)).length);
  const small = new Uint8Array(gzipSync(body));
  return page(0, { 1: i32(4), 2: i32(PLAIN), 3: i32(3), 4: i32(3) }, small, { 2: i32(claimed ?? body.length) });
}

/** Opens a file and reads all of it; what it is must be told in one sentence, soon. */
async function refused(name: string, bytes: Uint8Array | RandomAccess, pattern: RegExp): Promise<void> {
  const began = performance.now();
  const error = await failure(async () => {
    const parquet = await Parquet.open(bytes instanceof Uint8Array ? accessTo(bytes) : bytes, 'the file');
    await parquet.values('text');
    for (const group of parquet.groups.keys()) {
      await parquet.values('text', parquet.groups[group]!.start + 1, parquet.groups[group]!.start + 2);
    }
  });
  assert.is(error.code, 'E_DATA', name);
  assert.match(error.message, pattern, name);
  assert.match(error.message, /^the file: expected a parquet file that can be read, got [^\n\p{C}]{1,300}\.$/u, name);
  assert.match(error.hint, 'choose another file');
  const took = performance.now() - began;
  assert.ok(took < 5000, `${name}: ${took.toFixed(0)} ms`);
}

test('no parquet file at all, a footer that lies', async () => {
  const many = new Uint8Array(1_000_000).fill(0xff);
  const nested = (depth: number) => concat(...Array.from({ length: depth }, () => [0x1c])); // field 1 is a struct, in it another
  const front = new Uint8Array(Buffer.from('PAR1'));
  const cases: [string, Uint8Array, RegExp][] = [
    ['nothing', new Uint8Array(), /no 'PAR1'/],
    ['three bytes', new Uint8Array(3), /no 'PAR1'/],
    ['a page of the web', new Uint8Array(Buffer.from('<!doctype html><title>Log in</title>')), /no 'PAR1'/],
    [
      'a pointer',
      new Uint8Array(Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n')),
      /no 'PAR1'/,
    ],
    ['encrypted', concat(made(PLAIN_PAGES).slice(0, -4), Buffer.from('PARE')), /no 'PAR1'/],
    ['cut off', made(PLAIN_PAGES).slice(0, -20), /no 'PAR1'/],
    ['a length of nothing', ended(front, new Uint8Array(), 0), /cut off/],
    [
      'a length beyond the file',
      ended(front, new Uint8Array(10), 2 ** 32 - 1),
      /a footer of 4294967295 bytes in a file of 22/,
    ],
    ['a length up to the front', ended(front, new Uint8Array(10), 14), /a footer of 14 bytes/],
    ['zeros', ended(front, new Uint8Array(1000)), /a schema that is cut off/],
    ['a number without an end', ended(front, concat([0x16], many)), /without an end/],
    [
      'a list of 2^31',
      ended(front, struct({ 2: list([], 12, 2 ** 31) })[1]),
      /2147483648 bytes or values where \d+ bytes/,
    ],
    ['a list of 2^31 truth values', ended(front, struct({ 2: list([], 1, 2 ** 31) })[1]), /2147483648/],
    [
      'lists in lists of 30 million',
      ended(front, concat([0x19], ...Array.from({ length: 100 }, () => [0xf9, ...varint(3e7)]))),
      /30000000/,
    ],
    ['lists in lists', ended(front, concat([0x19], new Uint8Array(100_000).fill(0x19))), /without an end/],
    ['structs in structs', ended(front, nested(100_000)), /without an end/],
    ['a text of 2^40', ended(front, concat([0x18], varint(2 ** 40))), /1099511627776/],
    ['five million values', ended(front, concat([0x19, 0xf3], varint(5e6), new Uint8Array(5e6))), /without an end/],
    ['a field of the number −1', ended(front, concat([0x05], zigzag(-1), [0])), /a field of the number -1/],
    ['the same with 2^32 more', ended(front, concat([0x05], varint(2n ** 33n), [0])), /a field of the number/],
    ['a map', ended(front, new Uint8Array([0x1b, 0, 0])), /unknown type 11/],
    ['a text for the schema', made(PLAIN_PAGES, { schema: binary('x') }), /schema that is cut off/],
  ];
  for (const [name, bytes, pattern] of cases) {
    await refused(name, bytes, pattern);
  }
  // A footer of 17 MB of a file of 1 TB is not even asked for.
  const asked: number[] = [];
  const huge: RandomAccess = {
    size: 1e12,
    async slice(start, end) {
      asked.push(end - start);
      return concat(new Uint8Array(end - start - 8), u32(17e6), Buffer.from('PAR1'));
    },
  };
  await refused('a large footer', huge, /a footer of 17000000 bytes/);
  assert.equal(asked, [65536]);
});

test('a schema that is huge, cut off, or nested without an end', async () => {
  const deep = Array.from({ length: 50_000 }, (_, i) => part(`p${i}`, { 3: i32(1), 5: i32(1) }));
  const wide = Array.from({ length: 50_000 }, (_, i) => part(`c${i}`, LEAF));
  const cases: [string, Encoded, RegExp][] = [
    ['2^31 columns', list([part('root', { 5: i32(2 ** 31 - 1) }), part('text', LEAF)]), /a schema that is cut off/],
    ['−1 columns', list([part('root', { 5: i32(-1) })]), /a schema that is cut off/],
    [
      'a column that holds itself',
      list([part('root', { 5: i32(1) }), part('text', { 3: i32(1), 5: i32(2 ** 31 - 1) })]),
      /cut off/,
    ],
    [
      '50000 deep',
      list([part('root', { 5: i32(1) }), part('text', { 5: i32(1) }), ...deep, part('end', LEAF)]),
      /50002 parts of column 'text'/,
    ],
    [
      'another kind of column',
      list([part('root', { 5: i32(1) }), part('text', { 5: i32(1) }), part('x', LEAF)]),
      /decoded/,
    ],
    ['another column', list([part('root', { 5: i32(1) }), part('next', LEAF)]), /without all of column 'text'/],
  ];
  for (const [name, schema, pattern] of cases) {
    await refused(name, made(PLAIN_PAGES, { schema }), pattern);
  }
  // 50000 columns are many, but no lie.
  const parquet = await open(
    made(PLAIN_PAGES, { schema: list([part('root', { 5: i32(50_001) }), part('text', LEAF), ...wide]) }),
  );
  assert.equal(await parquet.values('text'), TEXTS);
  assert.ok((await failure(async () => parquet.need('audio', '--audio-column'))).message.length < 1000);
  // Names that would write over the terminal are shown without what does that.
  const escaping = await open(
    made(PLAIN_PAGES, { schema: list([part('root', { 5: i32(1) }), part('\u001b[2J\n', LEAF)]) }),
  );
  assert.match((await failure(async () => escaping.need('audio', '--audio-column'))).message, "got columns '?[2J?'");
});

test('row groups and columns that lie: numbers of rows, offsets, sizes, indexes', async () => {
  const group = (rows: number | bigint) => struct({ 1: list([], 12), 3: i64(rows) });
  const half = Math.floor(PLAIN_PAGES.length / 2);
  const cases: [string, Made, RegExp][] = [
    ['10^12 rows', { rows: 1e12 }, /1000000000000 rows in a row group/],
    ['2^63 rows', { rows: 2n ** 63n - 1n }, /rows in a row group/],
    ['−1 rows', { rows: -1 }, /-1 rows in a row group/],
    ['a text for the rows', { group: { 3: binary('4') } }, /an unknown number of rows/],
    [
      '3 × 400000 rows',
      { footer: { 4: list([group(400_000), group(400_000), group(400_000)]) } },
      /400000 rows in a row group, where at most 200000/,
    ],
    ['more rows than pages have', { rows: 5 }, /a column of 4 values in a row group of 5 rows/],
    ['no columns', { group: { 1: list([], 12) } }, /without all of column 'text'/],
    ['no description', { column: { 3: struct({}) } }, /a column that lies outside/],
    ['an offset past the end', { described: { 9: i64(1e9) } }, /a column that lies outside/],
    ['an offset of 0', { described: { 9: i64(0) } }, /a column that lies outside/],
    ['a negative offset', { described: { 9: i64(-5) } }, /a column that lies outside/],
    ['an offset of 2^63', { described: { 9: i64(2n ** 63n - 1n) } }, /a column that lies outside/],
    ['a size past the end', { described: { 7: i64(1e15) } }, /a column that lies outside/],
    ['a negative size', { described: { 7: i64(-1) } }, /a column that lies outside/],
    ['a text for the size', { described: { 7: binary('12') } }, /a column that lies outside/],
    ['a column in another file', { column: { 1: binary('../other.parquet') } }, /a column that lies outside/],
    ['no path', { described: { 3: list([], 8) } }, /without all of column/],
    ['a path that is no column', { described: { 3: list([binary('text'), binary('bytes')]) } }, /decoded/],
    ['a compression that there is not', { codec: 99 }, /compressed with something unknown/],
    ['a compression that is not read', { codec: 5 }, /compressed with LZ4, which cannot be read/],
    ['an index past the end', { column: { 4: i64(1e9), 5: i32(20) } }, /an index of pages that lies outside/],
    ['a negative index', { column: { 4: i64(-1), 5: i32(20) } }, /an index of pages that lies outside/],
    ['an index of 2^31', { column: { 4: i64(4), 5: i32(2 ** 31 - 1) } }, /an index of pages that lies outside/],
    ['an index of nothing', { index: indexOf() }, /an index of no pages/],
    ['an index without pages', { index: struct({ 9: i32(1) }) }, /an index of no pages/],
    ['an index of 2^31 pages', { index: struct({ 1: list([], 12, 2 ** 31) }) }, /2147483648/],
    ['pages before the column', { index: indexOf([0, 10, 0]) }, /contradicts itself/],
    ['pages past the column', { index: indexOf([4, PLAIN_PAGES.length + 1, 0]) }, /contradicts itself/],
    ['pages past everything', { index: indexOf([1e15, 10, 0]) }, /contradicts itself/],
    ['a negative page', { index: indexOf([4, -1, 0]) }, /contradicts itself/],
    ['pages backwards', { index: indexOf([4 + half, 4, 0], [4, 4, 2]) }, /contradicts itself/],
    ['rows backwards', { index: indexOf([4, 5, 0], [10, 5, 3], [20, 5, 2]) }, /contradicts itself/],
    ['rows past the group', { index: indexOf([4, 5, 0], [10, 5, 2 ** 31 - 1]) }, /contradicts itself/],
    ['rows that do not begin', { index: indexOf([4, PLAIN_PAGES.length, 1]) }, /contradicts itself/],
    ['pages that are none', { index: indexOf([4, 5, 0], [14, 5, 1], [25, 5, 2]) }, /./],
  ];
  for (const [name, changes, pattern] of cases) {
    await refused(name, made(PLAIN_PAGES, changes), pattern);
  }
});

test('pages that lie: their numbers of values, their sizes, the runs inside them', async () => {
  const HUGE = 2 ** 31 - 1;
  const words = dictionary(2, plain('a', 'bc'));
  const entries = [1, ...packed(1), 0b1010];
  const text = plain(...TEXTS);
  const cases: [string, Uint8Array, RegExp][] = [
    [
      '2^31 values, dictionary',
      concat(words, v1(HUGE, DICTIONARY, entries)),
      /2147483647 values in a page, where at most 4/,
    ],
    ['2^31 values, plain', v1(HUGE, PLAIN, text), /2147483647 values in a page/],
    ['2^31 values, no bits', concat(words, v1(HUGE, DICTIONARY, [0])), /2147483647 values in a page/],
    ['−1 values', v1(-1, PLAIN, text), /-1 values in a page/],
    ['2^40 values', v1(2 ** 40, PLAIN, text), /1099511627776 values in a page/],
    ['2^32 + 4 values', v1(2 ** 32 + 4, PLAIN, text), /4294967300 values in a page/],
    ['one page too many', concat(PLAIN_PAGES, PLAIN_PAGES), /4 values in a page, where at most 0/],
    [
      '2^31 entries',
      concat(dictionary(HUGE, plain('a', 'bc')), v1(4, DICTIONARY, entries)),
      /2147483647 values in a dictionary/,
    ],
    ['−1 entries', concat(dictionary(-1, plain('a', 'bc')), v1(4, DICTIONARY, entries)), /-1 values in a dictionary/],
    ['a million entries', concat(dictionary(1e6, plain('a', 'bc')), v1(4, DICTIONARY, entries)), /decoded/],
    [
      'a page past the column',
      v1(4, PLAIN, text, undefined, { 3: i32(HUGE) }),
      /2147483647 bytes in a page, where at most \d\d can be/,
    ],
    ['a negative page', v1(4, PLAIN, text, undefined, { 3: i32(-10) }), /-10 bytes in a page/],
    ['a page without a size', v1(4, PLAIN, text, undefined, { 3: binary('') }), /an unknown number of bytes in a page/],
    [
      'a page that would be 2 GB',
      v1(4, PLAIN, text, undefined, { 2: i32(HUGE) }),
      /2147483647 bytes in a page once decompressed/,
    ],
    [
      'a page that would be −1 byte',
      v1(4, PLAIN, text, undefined, { 2: i32(-1) }),
      /-1 bytes in a page once decompressed/,
    ],
    ['another size than it has', v1(4, PLAIN, text, undefined, { 2: i32(5) }), /decoded/],
    ['a page of an index', page(1, {}, text, {}), /a page of an unknown kind/],
    ['a page of a kind that there is not', page(77, {}, text, {}), /a page of an unknown kind/],
    ['no header of its kind', page(0, {}, text, { 5: i32(1) }), /an unknown number of values/],
    ['a header that is cut off', concat(PLAIN_PAGES.slice(0, 5)), /cut off/],
    ['zeros', new Uint8Array(100), /an unknown number of bytes/],
    ['a text past its page', v1(4, PLAIN, [...plain('a', 'bc', 'a'), ...u32(2 ** 32 - 1), 1, 2]), /decoded/],
    ['an encoding that there is not', v1(4, 55, text), /pages in an unknown encoding/],
    ['differences', v1(4, 7, text), /pages in the encoding DELTA_BYTE_ARRAY, which cannot be read/],
    ['levels of 2^30', v1(4, PLAIN, text, levelled(...run(2 ** 30, 1))), /a run of 1073741824 values where 4 are left/],
    ['levels of 2^32', v1(4, PLAIN, text, levelled(...run(2 ** 32, 1))), /a run of/],
    ['packed levels of 2^33', v1(4, PLAIN, text, levelled(...packed(2 ** 30), 15)), /a run of 8589934592 values/],
    ['levels without an end', v1(4, PLAIN, text, levelled(255, 255, 255, 255, 255, 255, 1)), /a run without an end/],
    ['levels of no values', v1(4, PLAIN, text, levelled(...run(0, 1), ...packed(0), 3)), /a run of 0 values/],
    ['levels past the page', v1(4, PLAIN, text, [...u32(2 ** 31), ...run(4, 1)]), /decoded/],
    ['entries of 2^30', concat(words, v1(4, DICTIONARY, [1, ...run(2 ** 30, 1)])), /a run of 1073741824 values/],
    [
      'packed entries of 2^33',
      concat(words, v1(4, DICTIONARY, [1, ...packed(2 ** 30), 1])),
      /a run of 8589934592 values/,
    ],
    ['entries of 255 bits', concat(words, v1(4, DICTIONARY, [255, ...packed(1), 1])), /numbers of 255 bits/],
    ['no entries', concat(words, v1(4, DICTIONARY, [])), /a page that is cut off/],
    ['2: 2^31 values', v2({ 1: i32(HUGE), 3: i32(HUGE) }, text), /2147483647 values in a page/],
    ['2: −2^31 nulls', v2({ 2: i32(-HUGE) }, text), /contradicts itself/],
    ['2: more nulls than values', v2({ 2: i32(5) }, text), /contradicts itself/],
    ['2: other rows than values', v2({ 3: i32(0) }, text), /contradicts itself/],
    ['2: levels of −1', v2({ 5: i32(-1) }, text), /contradicts itself/],
    ['2: levels of 2^31', v2({ 5: i32(HUGE) }, text), /contradicts itself/],
    ['2: repeats past the page', v2({ 6: i32(100) }, text), /contradicts itself/],
    [
      '2: packed entries of no bits',
      concat(words, v2({ 4: i32(DICTIONARY) }, [0, ...packed(2 ** 27)])),
      /a run of 1073741824 values/,
    ],
    [
      '2: entries of 2^30',
      concat(words, v2({ 4: i32(DICTIONARY) }, [1, ...run(2 ** 30, 1)])),
      /a run of 1073741824 values/,
    ],
    [
      '2: levels of 2^30',
      page(3, { 1: i32(4), 2: i32(0), 3: i32(4), 4: i32(PLAIN), 5: i32(6), 6: i32(0) }, [...run(2 ** 30, 1), ...text]),
      /a run of 1073741824 values/,
    ],
    ['2: differences', v2({ 4: i32(5) }, text), /DELTA_BINARY_PACKED, which cannot be read/],
  ];
  for (const [name, pages, pattern] of cases) {
    await refused(name, made(pages), pattern);
  }
  // An entry that there is not is no text, and no more harm than that.
  const beyond = concat(words, v1(4, DICTIONARY, [3, ...run(4, 7)]));
  assert.equal(await (await open(made(beyond))).values('text'), [undefined, undefined, undefined, undefined]);
});

test('bombs: pages that would unfold to far more than they are', async () => {
  const zeros = new Uint8Array(gzipSync(new Uint8Array(70 * 2 ** 20)));
  const of = (claimed: number, count = 4) => page(0, { 1: i32(count), 2: i32(PLAIN) }, zeros, { 2: i32(claimed) });
  await refused('one that says so', made(of(70 * 2 ** 20), { codec: 2 }), /73400320 bytes in a page once decompressed/);
  await refused('one that says less', made(of(1000), { codec: 2 }), /decoded/);
  await refused('one that says nothing', made(of(0), { codec: 2 }), /decoded/);
  // Each of these is within bounds, all of them together are not. Nothing but zeros: texts of no length.
  const half = new Uint8Array(gzipSync(new Uint8Array(40 * 2 ** 20)));
  const one = page(0, { 1: i32(1), 2: i32(PLAIN) }, half, { 2: i32(40 * 2 ** 20) });
  const schema = list([part('root', { 5: i32(1) }), part('text', { 1: i32(6), 3: i32(0) })]);
  await refused(
    'many of them',
    made(concat(one, one, one, one), { codec: 2, schema }),
    /41943040 bytes in a page once/,
  );
  // Snappy says itself how large it is.
  const snappy = page(0, { 1: i32(4), 2: i32(PLAIN) }, [...varint(2 ** 32 - 1), 0xfe, 1, 0], { 2: i32(40) });
  await refused('snappy', made(snappy, { codec: 1 }), /decoded/);
  const wide = page(0, { 1: i32(4), 2: i32(PLAIN) }, [...varint(6e7), 0xfe, 1, 0], { 2: i32(6e7) });
  await refused('snappy of 60 MB', made(wide, { codec: 1 }), /decoded/);
});

test('hundreds of damaged files: rows, or one sentence', async () => {
  const files = [
    fixture('alpacaeval/test-00000-of-00001.parquet'),
    written(30),
    written(30, { audio: { encoding: 'RLE_DICTIONARY' } }),
    written(30, { pageSize: 2 * SIZE, codec: 'UNCOMPRESSED' }),
    made(SOUND_PAGES),
  ];
  const starts = await Promise.all(
    files.map(async (bytes) => {
      const parquet = await open(bytes);
      return parquet.groups.flatMap((_, group) =>
        parquet.columns.flatMap((column) => parquet.columnRanges(group, column).map(([start]) => start)),
      );
    }),
  );
  let whole = 0;
  let slowest = 0;
  for (let i = 0; i < 600; i++) {
    const random = (index: number, bound: number) => randomInteger(24, 'damage', i, 0, index, bound);
    const which = i % files.length;
    const bytes = files[which]!.slice();
    const footer = new DataView(bytes.buffer).getUint32(bytes.length - 8, true) + 8;
    const places = [
      (n: number) => bytes.length - footer + random(n, footer),
      (n: number) => starts[which]![random(n, starts[which]!.length)]! + random(n + 1, 40),
      (n: number) => random(n, bytes.length),
    ];
    for (let change = 0; change < 1 + (i % 3); change++) {
      const place = Math.min(places[random(9, 3)]!(10 * (change + 1)), bytes.length - 1);
      const value = [random(10 * change + 5, 256), 0xff, 0x7f, 0x80, 0, bytes[place]! + 1, bytes[place]! - 1];
      bytes[place] = value[random(10 * change + 6, value.length)]!;
    }
    const began = performance.now();
    try {
      const parquet = await open(bytes);
      for (const column of parquet.columns.slice(0, 4).filter((name) => name !== 'audio')) {
        await parquet.values(column);
      }
      const audible = which === files.length - 1 ? [] : [...parquet.groups.entries()].slice(0, 4);
      for (const [group, { rows }] of audible) {
        for (const some of [[0], Array.from({ length: Math.min(rows, 1000) }, (_, row) => row)]) {
          await audioOf(parquet, group, some);
        }
      }
      whole++;
    } catch (error) {
      assert.instance(error, VoiceGrpoError, `${i}: ${(error as Error).stack}`);
      const { code, message } = error as VoiceGrpoError;
      assert.is(code, 'E_DATA', `${i}: ${message}`);
      assert.match(message, /^the file[^\n\p{C}]{1,500}\.$/u, String(i));
    }
    slowest = Math.max(slowest, performance.now() - began);
  }
  assert.ok(whole > 20 && whole < 500, `${whole} could be read`);
  assert.ok(slowest < 5000, `${slowest.toFixed(0)} ms`);
});

test('none of this took much memory', () => {
  const peak = process.resourceUsage().maxRSS / 1024;
  assert.ok(peak < 700, `${peak.toFixed(0)} MiB`);
});

test.run();
