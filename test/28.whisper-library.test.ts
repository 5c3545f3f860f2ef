/** Whisper as a library: samples as views, segments as they come, several at once, abort, close, worker threads. */
import { createReadStream, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { quietPieces } from '../src/audio/pieces.js';
import type { HubEnvironment } from '../src/hub/environment.js';
import { type HeardSegment, VoiceGrpoError, Whisper } from '../src/index.js';
import type { WhisperResult, WhisperSegment } from '../src/native/addon.js';
import { loadNative } from '../src/native/load.js';
import { loadClip } from '../src/pipeline/clip.js';
import { BUNDLED_WHISPER } from '../src/run/inputs.js';
import { Slots } from '../src/slots.js';
import { type Heard, hear, type Listen, type RecordedPiece } from '../src/transcription/hearing.js';
import { StandInHub } from './hub/stand-in.js';
import { resultOf, segmentOf, until, withStandIn } from './whisper/stand-in.js';

const FILES = readFileSync(join('assets', 'clips', 'manifest.jsonl'), 'utf8')
  .trim()
  .split('\n')
  .filter((_, i) => i % 37 === 0)
  .map((line) => join('assets', 'clips', (JSON.parse(line) as { audio: string }).audio))
  .slice(0, 8);

async function samplesOf(file: string): Promise<Float32Array> {
  return (await loadClip(file)).samples;
}

/** Several recordings with silence between them: more than a window of the bundled model. */
async function longSamples(files = FILES): Promise<Float32Array> {
  const clips = await Promise.all(files.map(samplesOf));
  const gap = 6000;
  const all = new Float32Array(clips.reduce((sum, clip) => sum + clip.length + gap, 0));
  let at = 0;
  for (const clip of clips) {
    all.set(clip, at);
    at += clip.length + gap;
  }
  return all;
}

async function failure(what: string, run: () => Promise<unknown>): Promise<VoiceGrpoError> {
  try {
    await run();
  } catch (error) {
    return error as VoiceGrpoError;
  }
  throw new Error(`${what}: no error came`);
}

async function collected<T>(segments: AsyncGenerator<HeardSegment, T, void>) {
  const all: HeardSegment[] = [];
  for (;;) {
    const next = await segments.next();
    if (next.done) return { all, result: next.value };
    all.push(next.value);
  }
}

/** As a WAV file of 32-bit float. */
function waveFile(samples: Float32Array): Buffer {
  const header = Buffer.from(
    '524946460000000057415645666d74201000000003000100803e000000fa00000400200064617461ffffffff',
    'hex',
  );
  header.writeUInt32LE(36 + samples.byteLength, 4);
  header.writeUInt32LE(samples.byteLength, 40);
  return Buffer.concat([header, Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength)]);
}

/** Loud and quiet by turns, so that it may be speech. */
function murmur(seconds: number): Float32Array {
  return Float32Array.from(
    { length: seconds * 16000 },
    (_, i) => Math.sin(i * 0.3) * (Math.sin(i / 1500) > 0 ? 0.3 : 0.001),
  );
}

test('a path, the bytes of a file, a stream and samples give the same transcription', async () => {
  using whisper = await Whisper.open();
  const [file] = FILES as [string];
  const byPath = await whisper.transcribe(file, { wordTimestamps: true });
  assert.ok(byPath.text.length > 10 && byPath.segments.length > 0, byPath.text);
  assert.equal([byPath.language, byPath.languageProbability, byPath.note], ['en', 1, null]);
  const { duration } = await loadClip(file);
  assert.ok(Math.abs(byPath.duration - duration) < 1e-3, `${byPath.duration} of ${duration}`);
  assert.equal(
    byPath.words,
    byPath.segments.flatMap(({ words }) => words),
  );
  assert.ok(byPath.words!.every(({ start, end }) => start >= 0 && end >= start && end <= duration + 0.1));
  const again = [
    await whisper.transcribe(readFileSync(file), { wordTimestamps: true }),
    await whisper.transcribe(createReadStream(file), { wordTimestamps: true }),
    await whisper.transcribe(await samplesOf(file), { wordTimestamps: true }),
  ];
  for (const other of again) {
    assert.equal(other, byPath);
  }
  assert.is((await whisper.transcribe(file)).words, null);
});

test('samples are handed to the addon as views, never copied as a whole', async () => {
  await withStandIn({ gated: false }, async ({ calls }) => {
    const whisper = await Whisper.open();
    const buffer = new ArrayBuffer(4 * 16000 * 8);
    const samples = new Float32Array(buffer, 4 * 16000, 16000 * 5);
    samples.set(murmur(5));
    await whisper.transcribe(samples);
    for (const call of calls) {
      assert.is(call.samples.buffer, buffer);
    }
    assert.is(calls[0]!.samples.byteOffset, samples.byteOffset);
  });
});

test('samples whose memory is moved away before they are heard are an error, not a short transcription', async () => {
  await withStandIn({ gated: false }, async ({ calls }) => {
    const whisper = await Whisper.open();
    for (const seconds of [40, 70]) {
      const samples = murmur(seconds);
      const segments = whisper.segments(samples);
      await segments.next();
      const buffer = samples.buffer as ArrayBuffer;
      structuredClone(buffer, { transfer: [buffer] });
      const error = await failure('moved away', () => collected(segments));
      assert.is(error.code, 'E_ARGUMENT');
      assert.match(error.message, 'transferred');
    }
    assert.is(calls.length, 2);
  });
});

test('a long recording gives the same as a file and as samples, which are cut in place', async () => {
  const samples = await longSamples([...FILES, ...FILES]);
  const half = murmur(40);
  const cut = [];
  for await (const piece of quietPieces([half])) cut.push(piece);
  assert.is(cut.length, 2);
  assert.ok(cut.every((piece) => piece.samples.buffer === half.buffer));
  const copies = [];
  for await (const piece of quietPieces([half.subarray(0, 100_000), half.subarray(100_000)])) copies.push(piece);
  assert.equal(cut, copies);
  using whisper = await Whisper.open();
  const wav = waveFile(samples);
  const bySamples = await whisper.transcribe(samples);
  assert.ok(bySamples.duration > 30, `${bySamples.duration} s`);
  assert.equal(await whisper.transcribe(wav), bySamples);
});

test('segments come as soon as they are final, and together are the transcription', async () => {
  using whisper = await Whisper.open();
  const samples = await longSamples();
  const whole = await whisper.transcribe(samples);
  const { all, result } = await collected(whisper.segments(samples));
  assert.equal(result, whole);
  assert.ok(all.length > 2, `${all.length} segments`);
  assert.equal(
    all.map(({ delta, ...segment }) => segment),
    whole.segments,
  );
  assert.is(all.map(({ delta }) => delta).join(''), whole.text);
  await withStandIn({}, async ({ pass, calls }) => {
    const slow = await Whisper.open();
    const segments = slow.segments(murmur(2));
    const first = await segments.next(); // while the call has not ended
    assert.equal([first.value && 'delta' in first.value && first.value.delta, calls.length], ['one', 1]);
    pass();
    assert.is((await collected(segments)).result.text, 'one two,');
  });
});

test('leaving the loop aborts the work and frees its place', async () => {
  await withStandIn({}, async ({ calls, pass }) => {
    const whisper = await Whisper.open();
    for await (const { text } of whisper.segments(murmur(2))) {
      assert.is(text, ' one');
      break;
    }
    assert.is(calls[0]!.signal?.aborted, true);
    pass();
    assert.is((await whisper.transcribe(murmur(2))).text, 'one two,');
  });
  using real = await Whisper.open();
  const samples = await longSamples();
  for await (const _ of real.segments(samples)) break;
  assert.ok((await real.transcribe(FILES[0]!)).text.length > 0);
});

test('an error of the consumer passes through its loop; errors of the work reach it', async () => {
  using whisper = await Whisper.open();
  const mine = await failure('mine', async () => {
    for await (const _ of whisper.segments(FILES[0]!)) throw new Error('mine');
  });
  assert.is(mine.message, 'mine');
  const theirs = await failure('theirs', async () => {
    for await (const _ of whisper.segments('package.json')) throw new Error('not this');
  });
  assert.is(theirs.code, 'E_AUDIO');
});

test('eight calls at once give what they give one after another', async () => {
  await using whisper = await Whisper.open('bundled', { threads: 1, parallel: 4 });
  const clips = await Promise.all(FILES.map(samplesOf));
  assert.is(clips.length, 8);
  const alone = [];
  for (const clip of clips) alone.push(await whisper.transcribe(clip));
  assert.is(new Set(alone.map(({ text }) => text)).size, 8, 'eight texts');
  assert.equal(await Promise.all(clips.map((clip) => whisper.transcribe(clip))), alone);
});

test('no more calls than `parallel` run at once', async () => {
  await withStandIn({}, async ({ calls, pass }) => {
    const whisper = await Whisper.open('bundled', { parallel: 2, threads: 1 });
    const work = Array.from({ length: 5 }, () => whisper.transcribe(murmur(2)));
    await until('two calls', () => calls.length === 2);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.is(calls.length, 2);
    for (let i = 0; i < 5; i++) pass();
    assert.is((await Promise.all(work)).length, 5);
    assert.is(calls.length, 5);
    assert.is(calls[0]!.options.threads, 1);
  });
});

test('slots go in the order in which they were asked for; who gives up leaves the line', async () => {
  const slots = new Slots(1);
  const order: string[] = [];
  const first = await slots.take();
  const gone = new AbortController();
  const waiters = [
    slots.take().then((release) => {
      order.push('a');
      release();
      release(); // twice is once
    }),
    slots.take(gone.signal).catch((reason) => order.push(String(reason))),
    slots.take().then((release) => {
      order.push('b');
      release();
    }),
  ];
  gone.abort('gone');
  first();
  await Promise.all(waiters);
  assert.equal(order, ['gone', 'a', 'b']);
  const held = await slots.take();
  const refused = await slots.take(AbortSignal.abort('refused')).catch(String);
  assert.is(refused, 'refused');
  held();
  (await slots.take())();
});

test('an abort rejects before, while it waits, during the work, and while opening', async () => {
  using whisper = await Whisper.open();
  const samples = await longSamples();
  const early = await failure('early', () => whisper.transcribe(samples, {}, AbortSignal.abort('why')));
  assert.equal([early.code, early.cause], ['E_ABORTED', 'why']);
  const late = await failure('late', () => whisper.transcribe(samples, {}, AbortSignal.timeout(30)));
  assert.is(late.code, 'E_ABORTED');
  await withStandIn({}, async ({ calls, pass }) => {
    const slow = await Whisper.open();
    const running = slow.transcribe(murmur(2));
    await until('one call', () => calls.length === 1);
    const gone = new AbortController();
    const waiting = failure('waiting', () => slow.transcribe(murmur(2), {}, gone.signal));
    gone.abort();
    assert.is((await waiting).code, 'E_ABORTED');
    pass();
    assert.is((await running).text, 'one two,');
    assert.is(calls.length, 1);
  });
  const opening = await failure('opening', () => Whisper.open('bundled', { signal: AbortSignal.abort() }));
  assert.is(opening.code, 'E_ABORTED');
  assert.ok((await whisper.transcribe(FILES[0]!)).text.length > 0, 'and the next call works');
});

test('closing: twice is fine, what runs ends well, later calls fail', async () => {
  const whisper = await Whisper.open();
  const running = whisper.transcribe(await samplesOf(FILES[0]!));
  await new Promise((resolve) => setTimeout(resolve, 5));
  whisper.close();
  whisper.close();
  whisper[Symbol.dispose]();
  assert.ok((await running).text.length > 0);
  assert.is((await failure('closed', () => whisper.transcribe(murmur(2)))).code, 'E_CLOSED');
  assert.ok(whisper.info.languages.includes('en'), 'what it was is still known');

  const other = await Whisper.open();
  let settled = false;
  const work = other.transcribe(await samplesOf(FILES[1]!)).then(() => {
    settled = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 5));
  await other[Symbol.asyncDispose]();
  await work;
  assert.ok(settled);
});

test('silence and noise have no text, and a note says why', async () => {
  using whisper = await Whisper.open();
  for (const samples of [new Float32Array(32000), new Float32Array(100), new Float32Array(0)]) {
    const { text, note, language, segments, words, doubts } = await whisper.transcribe(samples);
    assert.equal([text, language, segments, words, doubts], ['', null, [], null, []]);
    assert.ok(note !== null && note.length > 5, `${note}`);
  }
});

test('wrong arguments get a sentence', async () => {
  using whisper = await Whisper.open();
  const nan = new Float32Array(16000);
  nan[7] = Number.NaN;
  const cases: [string, RegExp, () => Promise<unknown>][] = [
    ['E_ARGUMENT', /audio: expected a Float32Array.*got Array/, () => whisper.transcribe([0, 1] as never)],
    ['E_ARGUMENT', /got Float64Array/, () => whisper.transcribe(new Float64Array(5) as never)],
    ['E_ARGUMENT', /got null/, () => whisper.transcribe(null as never)],
    ['E_ARGUMENT', /got undefined/, () => whisper.transcribe(undefined as never)],
    ['E_AUDIO', /sample 7: expected a finite number, got NaN/, () => whisper.transcribe(nan)],
    ['E_AUDIO', /no-such-file\.wav/, () => whisper.transcribe('no-such-file.wav')],
    ['E_AUDIO', /^the call: /, () => whisper.transcribe(Buffer.from('no audio at all'), { name: 'the call' })],
    [
      'E_CONFIG',
      /language: expected 'auto' or 'en' .*English-only.*got 'de'/,
      () => whisper.transcribe(nan, { language: 'de' }),
    ],
    ['E_CONFIG', /translate/, () => whisper.transcribe(nan, { translate: true })],
    ['E_CONFIG', /parallel: expected a whole number.*got 0/, () => Whisper.open('bundled', { parallel: 0 })],
    ['E_CONFIG', /threads/, () => Whisper.open('bundled', { threads: 1.5 })],
    ['E_MODEL', /'missing\.bin': no such file/, () => Whisper.open('missing.bin')],
    ['E_MODEL', /package\.json/, () => Whisper.open('package.json')],
  ];
  for (const [code, message, run] of cases) {
    const error = await failure(String(message), run);
    assert.is(error.code, code, error.message);
    assert.match(error.message, message);
    assert.ok(error.hint.length > 5, `${error.message}: no hint`);
  }
});

test('a model of the hub is fetched once', async () => {
  const root = mkdtempSync(join(tmpdir(), 'voicegrpo-whisper-'));
  const hub = await StandInHub.start();
  try {
    const bytes = readFileSync(BUNDLED_WHISPER);
    hub.add({ type: 'model', id: 'ggerganov/whisper.cpp', commit: '3'.repeat(40), files: { 'ggml-base.bin': bytes } });
    const environment: HubEnvironment = { endpoint: hub.endpoint, cache: root, token: null, offline: false };
    const notes: string[] = [];
    {
      using whisper = await Whisper.open('base', { hub: environment, onNote: (line) => notes.push(line) });
      assert.ok((await whisper.transcribe(FILES[0]!)).text.length > 0);
      assert.ok(whisper.info.file.startsWith(root));
    }
    assert.match(notes[0]!, /To fetch from ggerganov\/whisper\.cpp: ggml-base\.bin/);
    using again = await Whisper.open('base', { hub: { ...environment, offline: true } });
    assert.ok(again.info.file.startsWith(root));
  } finally {
    await hub.close();
    rmSync(root, { recursive: true, force: true });
  }
});

function startWorker(data: { files: string[]; linger: boolean }): Worker {
  return new Worker(new URL('./whisper/worker.mjs', import.meta.url), { workerData: data });
}

function firstMessage(worker: Worker): Promise<unknown> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`the worker ended with ${code}`)));
  });
}

test('two worker threads at once, beside this one', async () => {
  await using whisper = await Whisper.open('bundled', { threads: 1 });
  const halves = [FILES.slice(0, 4), FILES.slice(4)];
  const workers = halves.map((files) => startWorker({ files, linger: false }));
  const ended = workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)));
  const heard = (await Promise.all(workers.map(firstMessage))) as { text: string; segments: WhisperSegment[] }[][];
  for (const [i, file] of FILES.entries()) {
    const { text, segments } = await whisper.transcribe(file);
    assert.equal(heard.flat()[i], { text, segments });
  }
  assert.equal(await Promise.all(ended), [0, 0]);
});

test('a worker thread that is ended in the middle of its work harms nobody', async () => {
  await using whisper = await Whisper.open('bundled', { threads: 1 });
  const worker = startWorker({ files: [], linger: true });
  assert.is(await firstMessage(worker), 'begun');
  const beside = whisper.transcribe(FILES[0]!);
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.is(await worker.terminate(), 1);
  assert.ok((await beside).text.length > 0);
});

// What puts pieces together, with a listener that says what it is told to.

interface Script {
  told: WhisperSegment[];
  result: WhisperResult;
}

function listener(scripts: Script[], languages: string[] = []): Listen {
  return async (_samples, language, onSegment) => {
    languages.push(language);
    const { told, result } = scripts.shift()!;
    for (const segment of told) onSegment(segment);
    await new Promise((resolve) => setImmediate(resolve));
    return result;
  };
}

function pieces(count: number): RecordedPiece[] {
  return Array.from({ length: count }, (_, i) => ({ start: i * 30, samples: murmur(3) }));
}

test('pieces become one recording: times, language, text and what it grows by', async () => {
  const languages: string[] = [];
  const first = [segmentOf(' Guten Tag. ', 0, 2), segmentOf(' Wie geht es?', 2, 3)];
  const second = [segmentOf('Gut. ', 1, 2)];
  const scripts = [
    { told: first, result: resultOf(first, 'de') },
    { told: [], result: resultOf(second, 'de') },
  ];
  const { all, result } = await collected<Heard>(hear(pieces(2), listener(scripts, languages), 'auto'));
  assert.equal(languages, ['auto', 'de']);
  assert.equal([result.language, result.languageProbability, result.duration], ['de', 0.8, 33]);
  assert.is(result.text, 'Guten Tag.  Wie geht es? Gut.');
  assert.is(all.map(({ delta }) => delta).join(''), result.text);
  assert.equal(
    all.map(({ start, end }) => [start, end]),
    [
      [0, 2],
      [2, 3],
      [31, 32],
    ],
  );
  assert.is(all[2]!.words![0]!.start, 31);
});

test('notes are no speech: held back until something is said, dropped where nothing is', async () => {
  const music = segmentOf(' [music]', 0, 1);
  const said = segmentOf(' Hello.', 1, 2);
  const scripts = () => [
    { told: [music], result: resultOf([music]) },
    { told: [music, said], result: resultOf([music, said]) },
  ];
  const { all, result } = await collected<Heard>(hear(pieces(2), listener(scripts()), 'en'));
  assert.equal(
    all.map(({ text, start }) => [text, start]),
    [
      [' [music]', 30],
      [' Hello.', 31],
    ],
  );
  assert.is(result.text, '[music] Hello.');
  assert.is(all.map(({ delta }) => delta).join(''), result.text);
  const none = await collected<Heard>(hear(pieces(1), listener(scripts()), 'en'));
  assert.equal([none.all, none.result.text, none.result.note], [[], '', 'Whisper hears none']);
});

test('segments that were told are not told again, and those that were not are', async () => {
  const segments = [segmentOf(' a', 0, 1), segmentOf(' b', 1, 2), segmentOf(' c', 2, 3)];
  for (let told = 0; told <= 3; told++) {
    const scripts = [{ told: segments.slice(0, told), result: resultOf(segments) }];
    const { all } = await collected<Heard>(hear(pieces(1), listener(scripts), 'en'));
    assert.is(all.map(({ text }) => text).join(''), ' a b c');
  }
});

test('leaving the iteration ends the source of the pieces and waits for the work', async () => {
  const events: string[] = [];
  async function* source(): AsyncGenerator<RecordedPiece> {
    try {
      yield* pieces(2);
    } finally {
      events.push('source ended');
    }
  }
  const listen: Listen = async (_samples, _language, onSegment, signal) => {
    onSegment(segmentOf(' a'));
    await new Promise((resolve) => signal.addEventListener('abort', resolve));
    await new Promise((resolve) => setTimeout(resolve, 20));
    events.push('work ended');
    throw new Error('aborted');
  };
  for await (const _ of hear(source(), listen, 'en')) break;
  assert.equal(events, ['work ended', 'source ended']);
});

test('the addon under the library is the real one again', async () => {
  using whisper = await Whisper.open();
  assert.is(whisper.info.file, BUNDLED_WHISPER);
  assert.ok(loadNative().version().whisper.length > 0);
  assert.ok(whisper instanceof Whisper && new VoiceGrpoError('x', { code: 'E_X' }) instanceof Error);
});

test.run();
