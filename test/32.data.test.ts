/** Data: listing, the split by content, sampling, the order of the steps. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VoiceGrpoError } from '../src/errors.js';
import { clipsOfGeneration, labelShares, listClips, loadDataset } from '../src/pipeline/data.js';
import { philox4x32, randomInteger, shuffled } from '../src/random.js';

const options = { datasets: [], samples_per_dataset: 6, held_out_per_dataset: 3, sampling_method: 'random' as const };

/** DIR/<label>/*.wav with the contents given; the split looks at bytes, not at sound. */
function folderOf(contents: Record<string, string[]>): string {
  const root = mkdtempSync(join(tmpdir(), 'voicegrpo-data-'));
  for (const [label, files] of Object.entries(contents)) {
    mkdirSync(join(root, label));
    for (const [i, content] of files.entries()) {
      writeFileSync(join(root, label, `${String(i).padStart(3, '0')}.wav`), content);
    }
  }
  return root;
}
const numbered = (label: string, count: number) => Array.from({ length: count }, (_, i) => `${label} ${i}`);
const twoLabels = () => folderOf({ red: numbered('red', 10), blue: numbered('blue', 12) });

async function failure(work: () => unknown): Promise<VoiceGrpoError> {
  try {
    await work();
  } catch (error) {
    assert.instance(error, VoiceGrpoError);
    return error as VoiceGrpoError;
  }
  throw new Error('nothing was thrown');
}

test('philox4x32-10: the known answers of the Random123 distribution', () => {
  const hex = (words: number[]) => words.map((word) => word.toString(16).padStart(8, '0')).join(' ');
  assert.is(hex(philox4x32([0, 0, 0, 0], [0, 0])), '6627e8d5 e169c58d bc57ac4c 9b00dbd8');
  const ones = 0xffffffff;
  assert.is(hex(philox4x32([ones, ones, ones, ones], [ones, ones])), '408f276d 41c83b0e a20bc7c6 6d5451fd');
  assert.is(
    hex(philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])),
    'd16cfe09 94fdcceb 5001e420 24126ea1',
  );
});

test('random integers and shuffles are pure, in range and fair', () => {
  const counts = new Array(5).fill(0);
  for (let i = 0; i < 5000; i++) {
    counts[randomInteger(42, 'test', 0, 0, i, 5)]++;
  }
  assert.ok(
    counts.every((count) => count > 900 && count < 1100),
    counts.join(),
  );
  const items = Array.from({ length: 50 }, (_, i) => i);
  assert.equal(shuffled(items, 1, 'a'), shuffled(items, 1, 'a'));
  assert.not.equal(shuffled(items, 1, 'a'), shuffled(items, 2, 'a'));
  assert.not.equal(shuffled(items, 1, 'a'), shuffled(items, 1, 'b'));
  assert.equal(
    [...shuffled(items, 1, 'a')].sort((a, b) => a - b),
    items,
  );
});

test('the bundled clips: three labels, at least 60 each, with their texts', () => {
  const clips = listClips('bundled');
  for (const label of ['ifeval', 'commoneval', 'wildvoice']) {
    assert.ok(clips.filter((clip) => clip.label === label).length >= 60, label);
  }
  assert.ok(clips.every(({ reference }) => (reference ?? '').length > 0));
  assert.is(new Set(clips.map(({ reference }) => reference)).size, clips.length, 'two clips say the same');
});

test('held-out clips are never training clips, and each label has its number of both', async () => {
  const { labels, train, heldOut } = await loadDataset(twoLabels(), options, 42);
  assert.equal(labels, ['blue', 'red']);
  assert.is(train.length, 12);
  assert.is(heldOut.length, 6);
  assert.is(new Set([...train, ...heldOut].map(({ id }) => id)).size, 18);
  for (const side of [train, heldOut]) {
    assert.equal(labelShares(side, labels), { blue: 0.5, red: 0.5 });
  }
});

test('the split follows the content: not the names, not the number sampled, and another seed splits otherwise', async () => {
  const contents = (label: string) => numbered(label, 12);
  const ids = async (root: string, more: object, seed: number) =>
    (await loadDataset(root, { ...options, ...more }, seed)).heldOut.map(({ id }) => id).sort();
  const root = folderOf({ red: contents('red'), blue: contents('blue') });
  const renamed = folderOf({ red: contents('red').reverse(), blue: contents('blue').reverse() });
  const base = await ids(root, {}, 42);
  assert.equal(await ids(renamed, {}, 42), base);
  assert.equal(await ids(root, { samples_per_dataset: 2, sampling_method: 'last' }, 42), base);
  assert.not.equal(await ids(root, {}, 43), base);
});

test('first and last take the clips in order, without those held out', async () => {
  const root = twoLabels();
  const first = await loadDataset(root, { ...options, samples_per_dataset: 2, sampling_method: 'first' }, 42);
  const last = await loadDataset(root, { ...options, samples_per_dataset: 2, sampling_method: 'last' }, 42);
  const held = new Set(first.heldOut.map(({ file }) => file));
  const files = listClips(root)
    .filter(({ label, file }) => label === 'red' && !held.has(file))
    .map(({ file }) => file);
  const red = (clips: { label: string; file: string }[]) =>
    clips.filter(({ label }) => label === 'red').map(({ file }) => file);
  assert.equal(red(first.train), files.slice(0, 2));
  assert.equal(red(last.train), files.slice(-2));
});

test('equal bytes are one clip; equal bytes under two labels are refused', async () => {
  const root = folderOf({ red: [...numbered('red', 9), 'red 0'], blue: numbered('blue', 9) });
  const { duplicates, train, heldOut } = await loadDataset(root, options, 42);
  assert.is(duplicates, 1);
  assert.is(train.length + heldOut.length, 18);
  const error = await failure(() => loadDataset(folderOf({ red: ['same', 'a'], blue: ['same', 'b'] }), options, 42));
  assert.match(error.message, "the same audio as 'blue' and as 'red'");
  assert.is(error.exitCode, 3);
});

test('too few clips, an unknown label, one label, no folder, an empty one', async () => {
  const root = twoLabels();
  const few = await failure(() => loadDataset(root, { ...options, samples_per_dataset: 8 }, 42));
  assert.match(few.message, "'red' has 10");
  assert.match(few.hint, '--samples-per-dataset 8 --held-out-per-dataset 2');
  const unknown = await failure(() => loadDataset(root, { ...options, datasets: ['red', 'green'] }, 42));
  assert.match(unknown.message, "expected clips of 'green'");
  const one = await failure(() => loadDataset(root, { ...options, datasets: ['red'] }, 42));
  assert.match(one.message, 'at least two labels');
  const none = await failure(() => loadDataset(folderOf({ red: [], blue: [] }), options, 42));
  assert.match(none.message, 'got none');
  const partly = folderOf({ red: ['a', 'b'], blue: ['c', 'd'], green: [] });
  assert.match((await failure(() => listClips(partly))).message, "got none in 'green'");
  assert.is(listClips(partly, ['red', 'blue']).length, 4);
  assert.is((await failure(() => listClips('/no/such/folder'))).code, 'E_DATA');
});

test('a manifest: relative paths, optional texts, and the line of every mistake', async () => {
  const root = mkdtempSync(join(tmpdir(), 'voicegrpo-data-'));
  const file = join(root, 'manifest.jsonl');
  writeFileSync(join(root, 'a.wav'), 'a');
  writeFileSync(join(root, 'b.wav'), 'b');
  writeFileSync(file, '{"audio":"a.wav","label":"red","text":"hi"}\n\n{"audio":"b.wav","label":"blue"}\n');
  assert.equal(listClips(root), [
    { file: join(root, 'a.wav'), label: 'red', reference: 'hi' },
    { file: join(root, 'b.wav'), label: 'blue' },
  ]);
  assert.equal(listClips(file), listClips(root));
  const bad: [string, RegExp][] = [
    ['{"audio":"a.wav"', /line 2: expected a JSON object/],
    ['{"audio":"a.wav"}', /line 2: expected texts 'audio' and 'label'/],
    ['{"audio":"a.wav","label":7}', /line 2: expected texts/],
    ['{"audio":"a.wav","label":"x","text":1}', /line 2: expected a text as 'text'/],
    ['{"audio":"gone.wav","label":"x"}', /line 2: expected an audio file/],
    ['null', /line 2/],
  ];
  for (const [line, pattern] of bad) {
    writeFileSync(file, `{"audio":"a.wav","label":"red"}\n${line}\n`);
    assert.match((await failure(() => listClips(file))).message, pattern);
  }
});

test('steps: every clip once a round, labels alike, the same for the same seed', () => {
  const labels = ['a', 'b'];
  const clips = Array.from({ length: 10 }, (_, i) => ({ label: i < 4 ? 'a' : 'b', i }));
  const of = (generation: number, balanced: boolean, seed = 1) =>
    clipsOfGeneration(clips, labels, { seed, generation, count: 4, balanced });
  for (let generation = 0; generation < 10; generation++) {
    const batch = of(generation, true);
    assert.is(batch.filter(({ label }) => label === 'a').length, 2);
    assert.equal(batch, of(generation, true));
  }
  const round = [0, 1].flatMap((generation) => of(generation, true)).filter(({ label }) => label === 'a');
  assert.is(new Set(round.map(({ i }) => i)).size, 4);
  const unbalanced = [0, 1, 2, 3, 4].flatMap((generation) => of(generation, false));
  for (const { i } of clips) {
    assert.is(unbalanced.filter((clip) => clip.i === i).length, 2);
  }
  assert.not.equal(
    [0, 1, 2].map((g) => of(g, true, 1)),
    [0, 1, 2].map((g) => of(g, true, 2)),
  );
});

test.run();
