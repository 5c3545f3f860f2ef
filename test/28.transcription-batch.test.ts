/** Many recordings at once: equal sounds, failures of one among others, threads that become free, the order of results. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { WhisperResult } from '../src/native/addon.js';
import { loadClip } from '../src/pipeline/clip.js';
import { type Outcome, Transcriber } from '../src/pipeline/transcript.js';
import { InOrder } from '../src/run/in-order.js';
import { TranscriptCache } from '../src/transcription/cache.js';
import { decodingOf } from '../src/transcription/decoding.js';
import { SharedThreads } from '../src/transcription/shared-threads.js';
import { pcm16, wav } from './audio/make.js';
import { runCli } from './cli.js';
import { resultOf, type StandInWhisper, segmentOf, until, withStandIn } from './whisper/stand-in.js';

const scratch = mkdtempSync(join(tmpdir(), 'voicegrpo-batch-'));
test.after(() => rmSync(scratch, { recursive: true, force: true }));
const MODEL = join('assets', 'models', 'whisper-tiny.bin');
const DECODING = decodingOf({}, 1500);
const clip = (name: string) => join('assets', 'clips', name);

const filesIn = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => name);

test('an equal sound is heard once, also while the first is still heard', async () => {
  const folder = join(scratch, 'once');
  const cache = new TranscriptCache(folder, ['model']);
  const samples = Float32Array.of(0.1, 0.2);
  let asked = 0;
  let answer = (_: WhisperResult) => {};
  const ask = () => {
    asked++;
    return new Promise<WhisperResult>((resolve) => {
      answer = resolve;
    });
  };
  const both = [1, 2].map(() => cache.through(samples.slice(), DECODING, ask));
  const other = cache.through(Float32Array.of(0.3), DECODING, async () => resultOf([segmentOf(' other')]));
  assert.is((await other).result.text, ' other');
  assert.is(asked, 1);
  answer(resultOf([segmentOf(' one')]));
  const results = await Promise.all(both);
  assert.equal(
    results.map(({ result, cached }) => [result.text, cached]),
    [
      [' one', false],
      [' one', true],
    ],
  );
  assert.is(asked, 1);
  assert.ok(filesIn(folder).every((name) => /^[0-9a-f]{64}\.json$/.test(name)));
});

test('a call that fails does not fail the one that waits for the same sound', async () => {
  const cache = new TranscriptCache(join(scratch, 'again'), ['model']);
  const samples = Float32Array.of(0.1, 0.2);
  let tries = 0;
  const ask = async () => {
    if (++tries === 1) throw new Error('aborted');
    return resultOf([segmentOf(' one')]);
  };
  const [first, second, third] = await Promise.allSettled([1, 2, 3].map(() => cache.through(samples, DECODING, ask)));
  assert.equal([first!.status, second!.status, third!.status, tries], ['rejected', 'fulfilled', 'fulfilled', 2]);
});

test('two caches write the same entry at the same time', async () => {
  const folder = join(scratch, 'two');
  const samples = Float32Array.of(0.5);
  const caches = Array.from({ length: 8 }, () => new TranscriptCache(folder, ['model']));
  await Promise.all(
    caches.map((cache) => cache.through(samples, DECODING, async () => resultOf([segmentOf(' x'.repeat(5e5))]))),
  );
  assert.is(filesIn(folder).length, 1);
});

test('eight copies of one clip with four threads', async () => {
  const copies = Array.from({ length: 8 }, (_, i) => join(scratch, `copy-${i}.ogg`));
  for (const copy of copies) copyFileSync(clip('ifeval/000.ogg'), copy);
  using transcriber = await Transcriber.open({ model: MODEL, threads: 4, cache: join(scratch, 'copies') });
  const heard: [string, boolean][] = [];
  await transcriber.transcribeAll(copies, (outcome) => {
    assert.ok('transcript' in outcome);
    heard.push([outcome.transcript.text, outcome.transcript.cached]);
  });
  assert.is(heard.length, 8);
  assert.is(new Set(heard.map(([text]) => text)).size, 1);
  assert.is(heard.filter(([, cached]) => !cached).length, 1);
});

/** `run` with a Transcriber whose Whisper is a stand-in, without a cache. */
async function batch<T>(threads: number, run: (transcriber: Transcriber, whisper: StandInWhisper) => Promise<T>) {
  return withStandIn({}, async (whisper) => {
    using transcriber = await Transcriber.open({ model: MODEL, threads, cache: null });
    return run(transcriber, whisper);
  });
}

const errorOf = (code: string, message: string) => Object.assign(new Error(message), { code });

test('whatever is wrong with one recording is its outcome; the others are done', async () => {
  const loop = join(scratch, 'loop.wav');
  symlinkSync(loop, loop);
  await batch(1, async (transcriber, whisper) => {
    const files = [
      clip('ifeval/000.ogg'),
      loop,
      clip('ifeval/001.ogg'),
      clip('ifeval/002.ogg'),
      clip('ifeval/003.ogg'),
    ];
    const outcomes: Outcome[] = [];
    const all = transcriber.transcribeAll(files, (outcome) => outcomes.push(outcome));
    const errors = [errorOf('E_NUMERIC', 'not a number'), errorOf('EMFILE', 'too many'), new Error('a surprise')];
    for (const [i, error] of errors.entries()) {
      await until('a call', () => whisper.calls.length === i + 1);
      whisper.fail(error);
    }
    await until('a call', () => whisper.calls.length === 4);
    whisper.pass();
    await all;
    assert.equal(
      outcomes.map((outcome) => [outcome.file, 'error' in outcome ? outcome.error.message : outcome.transcript.text]),
      [
        [files[0], `${files[0]}: not a number`],
        [loop, `${loop}: expected an audio file, got links that lead round in a circle.`],
        [files[2], `${files[2]}: too many`],
        [files[3], `${files[3]}: a surprise`],
        [files[4], 'one two,'],
      ],
    );
  });
});

test('a defect, an abort and an error of the receiver end the batch, when what is under way has ended', async () => {
  const files = ['000', '001', '002', '003'].map((name) => clip(`ifeval/${name}.ogg`));
  const ends: [string, (whisper: StandInWhisper, controller: AbortController) => void, RegExp][] = [
    ['defect', (whisper) => whisper.fail(new TypeError('x is not a function')), /not a function/],
    ['E_INTERNAL', (whisper) => whisper.fail(errorOf('E_INTERNAL', 'lost')), /lost/],
    ['abort', (_, controller) => controller.abort(), /abort/i],
    ['receiver', (whisper) => whisper.pass(), /the disk is gone/],
  ];
  for (const [what, end, expected] of ends) {
    await batch(2, async (transcriber, whisper) => {
      const controller = new AbortController();
      const receive = () => {
        throw new Error('the disk is gone');
      };
      const all = transcriber.transcribeAll(files, receive, controller.signal);
      await until(what, () => whisper.calls.length === 2);
      end(whisper, controller);
      const error = await all.then(
        () => null,
        (cause: Error) => cause,
      );
      assert.match(String(error), expected, what);
      assert.is(whisper.calls.length, 2, `${what}: nothing new is begun`);
      assert.ok(
        whisper.calls.some(({ signal }) => signal?.aborted),
        `${what}: what is under way is aborted`,
      );
    });
  }
});

test('a recording is told when it is done, not when those before it are; the last one has all threads', async () => {
  const long = join(scratch, 'long.wav');
  const speech = (await loadClip(clip('ifeval/000.ogg'))).samples;
  const samples = Float32Array.from({ length: 70 * 16000 }, (_, i) => speech[i % speech.length] as number);
  writeFileSync(long, wav(pcm16(samples)));
  await batch(4, async (transcriber, whisper) => {
    const short = ['000', '001', '002'].map((name) => clip(`ifeval/${name}.ogg`));
    const told: string[] = [];
    const all = transcriber.transcribeAll([long, ...short], ({ file }) => told.push(file));
    await until('four calls', () => whisper.calls.length === 4);
    for (let i = 0; i < 4; i++) whisper.pass();
    await until('three are told', () => told.length === 3);
    assert.equal([...told].sort(), short);
    await until('the second piece', () => whisper.calls.length === 5);
    whisper.pass();
    await until('the third piece', () => whisper.calls.length === 6);
    assert.equal(
      whisper.calls.slice(0, 4).map(({ options }) => options.threads),
      [1, 1, 1, 1],
    );
    assert.is(whisper.calls[5]!.options.threads, 4);
    for (let i = 0; i < 9; i++) whisper.pass();
    await all;
    assert.equal(told, [...told.slice(0, 3), long]);
  });
});

test('threads: equal parts, never more than there are, at least one', async () => {
  const parts = async (count: number, workers: number, leaving = 0) => {
    const threads = new SharedThreads(count, workers);
    for (let i = 0; i < leaving; i++) threads.leave();
    const given: number[] = [];
    await Promise.all(
      Array.from({ length: workers - leaving }, () => threads.use(async (part) => void given.push(part))),
    );
    return given;
  };
  assert.equal(await parts(8, 4), [2, 2, 2, 2]);
  assert.equal(await parts(8, 3), [3, 3, 2]);
  assert.equal(await parts(8, 3, 1), [4, 4]);
  assert.equal(await parts(8, 3, 2), [8]);
  assert.equal(await parts(9, 4), [3, 2, 2, 2]);
  assert.equal(await parts(1, 1), [1]);
  assert.equal(await parts(2, 3), [1, 1, 1]);
});

test('values in their order; at the end those whose predecessors never came', () => {
  const told: string[] = [];
  const inOrder = new InOrder<string>((value) => told.push(value));
  inOrder.put(2, 'c');
  inOrder.put(0, 'a');
  assert.equal(told, ['a']);
  inOrder.put(1, 'b');
  assert.equal(told, ['a', 'b', 'c']);
  inOrder.put(6, 'g');
  inOrder.put(4, 'e');
  inOrder.flush();
  assert.equal(told, ['a', 'b', 'c', 'e', 'g']);
});

const transcribe = (args: string[], watch?: Parameters<typeof runCli>[2]) =>
  runCli(['transcribe', ...args], { VOICEGRPO_CACHE: join(scratch, 'cache') }, watch);

test('what cannot be read or written is said, and the rest is done', async () => {
  const out = join(scratch, 'out');
  mkdirSync(join(out, '000.srt'), { recursive: true });
  const nothing = join(scratch, 'nothing');
  mkdirSync(nothing);
  const { code, stdout, stderr } = await transcribe([
    '--format',
    'srt,txt',
    '--output-dir',
    out,
    clip('ifeval/000.ogg'),
    nothing,
    clip('ifeval/001.ogg'),
    join(nothing, '*.xyz'),
  ]);
  assert.equal([code, stdout], [1, '']);
  assert.match(stderr, `${join(out, '000.srt')}: not written: EISDIR`);
  assert.match(stderr, `${nothing}: expected a folder with audio files`);
  assert.match(stderr, `${join(nothing, '*.xyz')}: expected a pattern`);
  assert.not.match(stderr, /^\s+at |defect/m);
  assert.equal(readdirSync(out).sort(), ['000.srt', '000.txt', '001.srt', '001.txt']);
  const none = await transcribe([nothing]);
  assert.equal([none.code, none.stdout], [3, '']);
});

test('Ctrl-C: what is done is written, and JSON is whole', async () => {
  const pipe = join(scratch, 'pipe.wav'); // nobody writes to it
  assert.is(spawnSync('mkfifo', [pipe]).status, 0);
  const silence = join(scratch, 'silence.wav');
  writeFileSync(silence, wav(pcm16(new Float32Array(16000))));
  const interrupt: Parameters<typeof runCli>[2] = (child, stderr) => {
    if (/no speech.*\n$/.test(stderr)) child.kill('SIGINT');
  };
  const json = await transcribe(['--json', pipe, silence], interrupt);
  assert.is(json.code, 130, json.stderr);
  assert.equal(
    JSON.parse(json.stdout).map(({ file }: { file: string }) => file),
    [silence],
  );
  const out = join(scratch, 'interrupted');
  const files = await transcribe(['--output-dir', out, pipe, silence], interrupt);
  assert.is(files.code, 130);
  assert.equal(readdirSync(out), ['silence.txt']);
});

test.run();
