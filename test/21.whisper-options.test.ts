/** The addon's Whisper, option by option, with models that say what a test tells them to (golden/whisper-script.ts). */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { NativeError, WhisperOptions, WhisperResult, WhisperSegment } from '../src/native/addon.js';
import { loadNative } from '../src/native/load.js';
import {
  EOT,
  language,
  NO_SPEECH,
  type Place,
  probability,
  SOT,
  TRANSLATE,
  time,
  token,
  writeScriptedWhisper,
} from './golden/whisper-script.js';

const BUNDLED = fileURLToPath(new URL('../assets/models/whisper-tiny.bin', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'voicegrpo-whisper-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

/** Four seconds of a quiet tone: what it is does not matter. */
const SAMPLES = Float32Array.from({ length: 64000 }, (_, i) => 0.1 * Math.sin(i * 0.1));
const BASE: WhisperOptions = { language: 'en', threads: 2, beamSize: 1 };

let models = 0;
/** Transcribes with a model that says `places` after its prompt of <|sot|> <|language|> <|task|>. */
async function say(
  places: Place[],
  options: Partial<WhisperOptions> = {},
  { before = {}, replaced = {}, samples = SAMPLES, at = 2 }: SayMore = {},
): Promise<WhisperResult> {
  const path = join(folder, `script-${models++}.bin`);
  const script = Object.fromEntries(places.map((place, i) => [i + at, place]));
  writeScriptedWhisper(path, { ...before, ...script }, replaced);
  const whisper = await loadNative().openWhisper(path);
  try {
    return await whisper.transcribe(samples, { ...BASE, ...options });
  } finally {
    whisper.close();
    rmSync(path);
  }
}
interface SayMore {
  before?: Record<number, Place>;
  replaced?: Record<number, number>;
  samples?: Float32Array;
  at?: number;
}

const HELLO = [time(0), token(' Hello'), token(' world'), token('.'), time(3), EOT];
const REPEATED = [time(0), ...Array(40).fill(token(' no')), time(3), EOT] as number[];
/** Each token could as well be another one: about −0.7 each. */
function doubtful(strength: number): Place[] {
  const either = (a: string, b: string): Place => [
    [token(a), 4],
    [token(b), strength],
  ];
  const pairs = Array.from({ length: 6 }, () => [either(' yes', ' no'), either(' one', ' two')]).flat();
  return [time(0), ...pairs, time(3), EOT];
}
const DOUBTFUL = doubtful(4);

async function failure(what: string, run: () => Promise<unknown>): Promise<NativeError> {
  try {
    await run();
  } catch (error) {
    return error as NativeError;
  }
  throw new Error(`${what}: no error came`);
}

test('segments, tokens and their probabilities', async () => {
  const result = await say(HELLO);
  assert.is(result.text, ' Hello world.');
  assert.equal([result.language, result.languageProbability, result.audioContext], ['en', 1, 1500]);
  assert.equal(result.fallbacks, []);
  const [segment] = result.segments;
  assert.equal([segment?.start, segment?.end, segment?.temperature, segment?.words], [0, 3, 0, null]);
  assert.equal(
    segment?.tokens.map((part) => [part.id, part.text]),
    [' Hello', ' world', '.'].map((text) => [token(text), text]),
  );
  for (const { probability, logProb } of segment?.tokens ?? []) {
    assert.ok(probability > 0.9 && probability <= 1, `${probability}`);
    assert.ok(Math.abs(Math.exp(logProb) - probability) < 1e-5, `${logProb} and ${probability}`);
  }
});

test('a character over several tokens stands whole in the last of them; bytes that are none are replaced', async () => {
  const [e4, bd, a0] = [0xe4, 0xbd, 0xa0].map((byte) => token(Uint8Array.of(byte))) as [number, number, number];
  const whole = await say([time(0), token(' a'), e4, bd, a0, token('b'), time(3), EOT]);
  assert.equal(
    whole.segments[0]?.tokens.map((part) => part.text),
    [' a', '', '', '你', 'b'],
  );
  assert.is(whole.text, ' a你b');
  const broken = await say([time(0), token(' a'), e4, bd, token(' b'), e4, time(3), EOT]);
  assert.equal(
    broken.segments[0]?.tokens.map((part) => part.text),
    [' a', '', '', '\ufffd\ufffd b', '\ufffd'],
  );
});

test('several segments of one window, each told as it becomes final', async () => {
  const script = [time(0), token(' one'), time(1), time(1.5), token(' two'), time(3), EOT];
  const told: WhisperSegment[] = [];
  const result = await say(script, { onSegment: (segment) => told.push(segment) });
  assert.equal(
    result.segments.map(({ start, end, text }) => [start, end, text]),
    [
      [0, 1, ' one'],
      [1.5, 3, ' two'],
    ],
  );
  assert.equal(told, result.segments);
});

test('language: detected with its probability, given, and translated', async () => {
  const before = { 0: [[language(2), 4] as [number, number], [language(4), 3] as [number, number]] };
  const found = await say(HELLO, { language: 'auto' }, { before });
  assert.is(found.language, 'de');
  assert.ok(found.languageProbability > 0.5 && found.languageProbability < 1, `${found.languageProbability}`);
  assert.is(found.text, ' Hello world.');
  assert.equal((await say(HELLO, { language: 'fr' }, { before })).languageProbability, 1);
  // The text depends on the task where <|translate|> is another word.
  const replaced = { [TRANSLATE]: token(' Bonjour') };
  const plain = await say([token(' Hello'), time(3), EOT], {}, { replaced });
  const other = await say([token(' Hello'), time(3), EOT], { translate: true }, { replaced });
  assert.is.not(other.segments[0]?.tokens[0]?.probability, plain.segments[0]?.tokens[0]?.probability);
  const english = await loadNative().openWhisper(BUNDLED);
  const result = await english.transcribe(SAMPLES, { language: 'auto', threads: 1 });
  assert.equal([result.language, result.languageProbability], ['en', 1]);
  english.close();
});

test('an initial prompt stands before the text; what is too long is cut in front', async () => {
  // <|prev|> and two tokens move everything by three places.
  const at = 5;
  assert.is((await say(HELLO, { initialPrompt: ' Smith' }, { at: 4 })).text, ' Hello world.');
  assert.is((await say(HELLO, { initialPrompt: ' Hello world' }, { at })).text, ' Hello world.');
  assert.is.not((await say(HELLO, {}, { at })).text, ' Hello world.');
  // 223 tokens of a prompt are kept, and <|prev|>.
  const long = ' word'.repeat(5000);
  assert.is((await say(HELLO, { initialPrompt: long }, { at: 2 + 224 })).text, ' Hello world.');
  // A word of a hundred thousand letters would be a recursion as deep.
  const wide = await say(HELLO, { initialPrompt: 'a'.repeat(100_000) });
  assert.is(wide.fallbacks.length + 1, new Set(wide.fallbacks.map((one) => one.temperature)).size + 1);
});

test('a text that repeats itself is tried again at every temperature, and the last try is kept', async () => {
  const result = await say(REPEATED);
  assert.equal(
    result.fallbacks,
    [0, 0.2, 0.4, 0.6, 0.8].map((temperature) => ({ start: 0, temperature, reason: 'repetition' })),
  );
  assert.is(result.segments[0]?.temperature, 1);
  const starting = await say(REPEATED, { temperature: 0.5, temperatureIncrement: 0.25 });
  assert.equal(
    starting.fallbacks.map((fallback) => fallback.temperature),
    [0.5, 0.75],
  );
  assert.equal((await say(REPEATED, { temperatureIncrement: 0 })).fallbacks, []);
  assert.equal((await say(REPEATED, { entropyThreshold: 0.05 })).fallbacks, []);
});

test('a text of low probability fails by its own threshold, and not where there is no speech', async () => {
  assert.equal((await say(DOUBTFUL)).fallbacks, []);
  const failed = await say(DOUBTFUL, { logProbThreshold: -0.01, temperatureIncrement: 0.5 });
  assert.equal(
    failed.fallbacks,
    [0, 0.5].map((temperature) => ({ start: 0, temperature, reason: 'log_prob' })),
  );
  const silent = await say(DOUBTFUL, { logProbThreshold: -0.01, noSpeechThreshold: 0 });
  assert.equal([silent.fallbacks, silent.segments], [[], []]);
});

/** After <|startoftranscript|>: nobody speaks, or English. */
const MAYBE: Place = [
  [NO_SPEECH, 4],
  [language(0), 4],
];
const MAYBE_PROBABILITY = probability(NO_SPEECH, SOT, MAYBE);
const near = (a: number | undefined, b: number, what?: string) =>
  assert.ok(Math.abs((a ?? Number.NaN) - b) < 1e-3, `${what}: ${a}, expected ${b}`);

test('no speech: its probability after <|startoftranscript|>, wherever that stands', async () => {
  assert.ok(MAYBE_PROBABILITY > 0.1 && MAYBE_PROBABILITY < 0.9, `${MAYBE_PROBABILITY}`);
  const before = { 0: MAYBE };
  for (const options of [
    {},
    { beamSize: 5 },
    { window: 'fitted' as const },
    { wordTimestamps: true },
    { language: 'auto' },
  ]) {
    const result = await say(HELLO, options, { before });
    assert.is(result.text, ' Hello world.');
    near(result.segments[0]?.noSpeechProb, MAYBE_PROBABILITY, JSON.stringify(options));
  }
  // <|prev|> and the prompt's two tokens stand before it.
  const prompted = await say(HELLO, { initialPrompt: ' Hello world' }, { before: { 3: MAYBE }, at: 5 });
  near(prompted.segments[0]?.noSpeechProb, MAYBE_PROBABILITY, 'with a prompt');
  const elsewhere = await say(HELLO, { initialPrompt: ' Hello world' }, { before: { 0: MAYBE, 2: MAYBE }, at: 5 });
  near(elsewhere.segments[0]?.noSpeechProb, 0, 'after other tokens');
});

test('no speech: of each window, before what is said of the one before it', async () => {
  const samples = new Float32Array(16000 * 40).fill(0.01);
  // The second window's prompt: <|prev|>, the four tokens of the first with its times, <|startoftranscript|> at place 5.
  const script: Place[] = [time(0), token(' one'), time(2), EOT];
  const result = await say(script, {}, { before: { 0: MAYBE, 6: time(0), 7: time(0) }, samples });
  assert.equal(
    result.segments.map((segment) => segment.start >= 30),
    [false, true],
  );
  near(result.segments[0]?.noSpeechProb, MAYBE_PROBABILITY, 'first window');
  near(result.segments[1]?.noSpeechProb, 0, 'second window');
});

test('no speech: of the first prompt, where later tries have none', async () => {
  const before = { 3: MAYBE };
  const options = { initialPrompt: ' Hello world', temperatureIncrement: 0.5 };
  const result = await say(REPEATED, options, { before, at: 5 });
  assert.ok(result.segments.length > 0 && result.fallbacks.length > 0);
  assert.ok(result.segments.every((segment) => segment.temperature >= 0.5));
  for (const segment of result.segments) near(segment.noSpeechProb, MAYBE_PROBABILITY, 'later try');
});

test('a window is skipped where nobody may speak and the text is unlikely', async () => {
  const before = { 0: MAYBE };
  const unlikely = { logProbThreshold: -0.01, temperatureIncrement: 0.5 };
  const skipped = await say(DOUBTFUL, { ...unlikely, noSpeechThreshold: MAYBE_PROBABILITY - 0.01 }, { before });
  assert.equal([skipped.text, skipped.segments, skipped.fallbacks], ['', [], []]);
  const tried = await say(DOUBTFUL, { ...unlikely, noSpeechThreshold: MAYBE_PROBABILITY + 0.01 }, { before });
  assert.is(tried.fallbacks.length, 2);
  assert.is.not(tried.text, '');
  const likely = await say(HELLO, { noSpeechThreshold: MAYBE_PROBABILITY - 0.01 }, { before });
  assert.is(likely.text, ' Hello world.');
});

test('a text that ends without a time, with audio left behind the window, fails by that', async () => {
  const samples = new Float32Array(16000 * 32).fill(0.01);
  const result = await say([time(0), token(' one'), EOT], { temperatureIncrement: 0.5 }, { samples });
  assert.equal(
    result.fallbacks.filter((fallback) => fallback.start === 0).map((fallback) => fallback.reason),
    ['timestamps', 'timestamps'],
  );
  const timed = await say([time(0), token(' one'), time(2), EOT], {}, { samples });
  assert.equal(timed.fallbacks, []);
  assert.equal(
    timed.segments.map((segment) => segment.start),
    [0, 30],
  );
});

test('of several candidates the likeliest is kept; beams find a likelier text than the greedy one', async () => {
  const logProb = async (script: Place[], options: Partial<WhisperOptions>) =>
    (await say(script, { temperatureIncrement: 0, ...options })).segments[0]?.avgLogProb ?? Number.NaN;
  const one = await logProb(DOUBTFUL, { temperature: 1, bestOf: 1 });
  const eight = await logProb(DOUBTFUL, { temperature: 1, bestOf: 8 });
  assert.ok(eight > one, `${eight} of eight, ${one} of one`);
  assert.is(await logProb(DOUBTFUL, { temperature: 1, bestOf: 8 }), eight, 'and the same again');
  // The likelier first word is followed by an unlikely second.
  const gardenPath = doubtful(3.85);
  const [greedy, beams] = [await logProb(gardenPath, { beamSize: 1 }), await logProb(gardenPath, { beamSize: 5 })];
  assert.ok(beams > greedy + 0.01, `${beams} of five beams, ${greedy} of one`);
});

test('a fitted window: short where it does, full where the text shows trouble', async () => {
  const fitted = await say(HELLO, { window: 'fitted' });
  assert.equal([fitted.text, fitted.fallbacks], [' Hello world.', []]);
  assert.ok(fitted.audioContext >= 200 && fitted.audioContext < 1500, `${fitted.audioContext}`);
  const told: string[] = [];
  const failed = await say(REPEATED, {
    window: 'fitted',
    temperatureIncrement: 0.5,
    onSegment: (segment) => told.push(segment.text),
  });
  assert.equal(
    failed.fallbacks.map(({ temperature, reason }) => [temperature, reason]),
    [
      [0, 'window'],
      [0, 'repetition'],
      [0.5, 'repetition'],
    ],
  );
  assert.is(failed.audioContext, 1500);
  assert.equal(told, [' no'.repeat(40)], 'segments of the try in the fitted window are not told');
  const long = await say(HELLO, { window: 'fitted' }, { samples: new Float32Array(16000 * 29.5).fill(0.01) });
  assert.is(long.audioContext, 1500);
});

test('words begin with a space, punctuation belongs to them, times rise within the segment', async () => {
  const parts = [' Hello', ',', ' well', '-', 'known', ' (', 'world', ').'];
  const result = await say([time(0.5), ...parts.map(token), time(3), EOT], { wordTimestamps: true });
  const [segment] = result.segments;
  assert.equal(
    segment?.words?.map((word) => word.text),
    [' Hello,', ' well', '-known', ' (world).'],
  );
  let last = segment?.start ?? Number.NaN;
  for (const word of segment?.words ?? []) {
    assert.ok(word.start >= last && word.end >= word.start && word.probability > 0.5, JSON.stringify(word));
    last = word.end;
  }
  assert.ok(last <= (segment?.end ?? 0));
  const chinese = [0xe4, 0xbd, 0xa0, 0xe5, 0xa5, 0xbd].map((byte) => token(Uint8Array.of(byte)));
  const spelled = await say([time(0), ...chinese, token('。'), time(3), EOT], { language: 'zh', wordTimestamps: true });
  assert.equal(
    spelled.segments[0]?.words?.map((word) => word.text),
    ['你', '好。'],
  );
});

test('word timestamps change nothing else', async () => {
  const samples = SAMPLES;
  const plain = await say(HELLO, {}, { samples });
  const timed = await say(HELLO, { wordTimestamps: true }, { samples });
  assert.equal(
    timed.segments.map((segment) => ({ ...segment, words: null })),
    plain.segments,
  );
});

test('what onSegment throws rejects the promise and stops the call', async () => {
  const script = [time(0), token(' one'), time(1), time(1), token(' two'), time(3), EOT];
  let calls = 0;
  const thrown = new RangeError('enough');
  const error = await failure('thrown', () =>
    say(script, {
      onSegment: () => {
        calls++;
        throw thrown;
      },
    }),
  );
  assert.ok((error as unknown) === thrown && calls === 1, `${error}, ${calls} calls`);
});

test('onSegment: the handle may be closed in it, and an abort silences it', async () => {
  const whisper = await loadNative().openWhisper(BUNDLED);
  const samples = new Float32Array(16000 * 60).map((_, i) => 0.2 * Math.sin(i * 0.05));
  let told = 0;
  const controller = new AbortController();
  const options: WhisperOptions = {
    ...{ language: 'en', threads: 1, temperatureIncrement: 0 },
    onSegment: () => {
      told++;
      whisper.close();
      controller.abort();
    },
  };
  const error = await failure('aborted', () => whisper.transcribe(samples, options, controller.signal));
  assert.equal([error.code, told], ['E_ABORTED', 1]);
});

test('a worker thread that ends in the middle of a call takes nothing down', async () => {
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    const native = require(workerData.addon);
    native.openWhisper(workerData.model).then((whisper) => {
      const samples = new Float32Array(16000 * 60).map((_, i) => 0.2 * Math.sin(i * 0.05));
      const options = { language: 'en', threads: 1, onSegment: () => parentPort.postMessage('segment') };
      whisper.transcribe(samples, options).then(() => {}, () => {});
      parentPort.postMessage('started');
    });`;
  const addon = fileURLToPath(new URL('../build/Release/voicegrpo.node', import.meta.url));
  for (const moment of ['started', 'segment']) {
    const worker = new Worker(code, { eval: true, workerData: { addon, model: BUNDLED } });
    await new Promise<void>((resolve, reject) => {
      worker.on('error', reject);
      worker.on('message', (message) => message === moment && resolve());
    });
    assert.is(await worker.terminate(), 1);
  }
});

test('a worker thread that is terminated while it makes a call takes nothing down', async () => {
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    const native = require(workerData.addon);
    native.openWhisper(workerData.model).then((whisper) => {
      const samples = new Float32Array(16000 * 120);
      const calls = () => {
        for (let i = 0; i < 20; i++) whisper.transcribe(samples, { language: 'xx', threads: 1 }).catch(() => {});
        setImmediate(calls);
      };
      calls();
      parentPort.postMessage('started');
    });`;
  const addon = fileURLToPath(new URL('../build/Release/voicegrpo.node', import.meta.url));
  for (let round = 0; round < 20; round++) {
    const worker = new Worker(code, { eval: true, workerData: { addon, model: BUNDLED } });
    await new Promise<void>((resolve, reject) => {
      worker.on('error', reject);
      worker.on('message', () => resolve());
    });
    await new Promise((resolve) => setTimeout(resolve, round));
    assert.is(await worker.terminate(), 1);
  }
});

test('calls side by side, and after one another, do not change each other', async () => {
  const path = join(folder, 'side.bin');
  writeScriptedWhisper(path, Object.fromEntries(DOUBTFUL.map((place, i) => [i + 2, place])));
  const whisper = await loadNative().openWhisper(path);
  const options = { ...BASE, temperature: 0.8, temperatureIncrement: 0 };
  const once = await whisper.transcribe(SAMPLES, options);
  await whisper.transcribe(SAMPLES, { ...BASE, window: 'fitted', wordTimestamps: true });
  const results = await Promise.all(Array.from({ length: 4 }, () => whisper.transcribe(SAMPLES, options)));
  for (const result of results) assert.equal(result, once);
  whisper.close();
});

test('audio that is no audio: nothing, too little, not finite, far too loud', async () => {
  for (const n of [0, 1, 100, 201, 1599]) {
    const samples = new Float32Array(n).fill(0.5);
    for (const more of [{}, { language: 'auto' }, { window: 'fitted' as const, wordTimestamps: true }]) {
      const result = await say(HELLO, more, { samples });
      assert.equal([result.text, result.segments, result.fallbacks], ['', [], []]);
      assert.is(result.languageProbability, 'language' in more ? 0 : 1);
    }
  }
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, -1e6]) {
    const samples = new Float32Array(16000);
    samples[77] = value;
    const error = await failure(`${value}`, () => say(HELLO, {}, { samples }));
    assert.is(error.code, 'E_ARGUMENT');
    assert.match(error.message, 'sample 77');
  }
});

test('wrong options are named', async () => {
  const whisper = await loadNative().openWhisper(BUNDLED);
  const cases: [Record<string, unknown>, string][] = [
    [{ beamSize: 0 }, 'beamSize'],
    [{ beamSize: 9 }, 'beamSize'],
    [{ beamSize: 1.5 }, 'beamSize'],
    [{ bestOf: 9 }, 'bestOf'],
    [{ temperature: 1.1 }, 'temperature'],
    [{ temperature: Number.NaN }, 'temperature'],
    [{ temperatureIncrement: 1e-9 }, 'temperatureIncrement'],
    [{ temperatureIncrement: -0.2 }, 'temperatureIncrement'],
    [{ entropyThreshold: Number.POSITIVE_INFINITY }, 'entropyThreshold'],
    [{ logProbThreshold: 'low' }, 'logProbThreshold'],
    [{ noSpeechThreshold: 2 }, 'noSpeechThreshold'],
    [{ window: 'half' }, "'full' or 'fitted'"],
    [{ wordTimestamps: 1 }, 'wordTimestamps'],
    [{ initialPrompt: 7 }, 'initialPrompt'],
    [{ initialPrompt: 'x'.repeat(2 ** 21) }, 'initialPrompt'],
    [{ vadModel: '' }, 'vadModel'],
    [{ onSegment: 'print' }, 'onSegment'],
    [{ language: 'de' }, 'language'],
  ];
  for (const [options, part] of cases) {
    const error = await failure(part, () =>
      whisper.transcribe(SAMPLES, { language: 'en', threads: 1, ...options } as WhisperOptions),
    );
    assert.is(error.code, 'E_ARGUMENT', `${part}: ${error.message}`);
    assert.match(error.message, part);
  }
  whisper.close();
});

/* ---- Speech detection ---- */

/** A Silero model in ggml's format that takes for speech what its last bias says: sigmoid(bias). */
function silero(bias: number): Buffer {
  const integers = (...values: number[]) => Buffer.from(Int32Array.from(values).buffer);
  const type = 'silero-16k';
  const tensors: [name: string, type: 0 | 1, ...shape: number[]][] = [
    ...[0, 1, 2, 3].flatMap((i): [string, 0 | 1, ...number[]][] => {
      const channels = [129, 128, 64, 64, 128];
      const name = `_model.encoder.${i}.reparam_conv`;
      return [
        [`${name}.weight`, 1, 3, channels[i]!, channels[i + 1]!],
        [`${name}.bias`, 0, channels[i + 1]!],
      ];
    }),
    ['_model.decoder.rnn.weight_ih', 0, 128, 512],
    ['_model.decoder.rnn.weight_hh', 0, 128, 512],
    ['_model.decoder.rnn.bias_ih', 0, 512],
    ['_model.decoder.rnn.bias_hh', 0, 512],
    ['_model.decoder.decoder.2.weight', 1, 128],
    ['_model.decoder.decoder.2.bias', 0],
    ['_model.stft.forward_basis_buffer', 1, 256, 1, 258],
  ];
  const header = [0x67676d6c, type.length];
  const shape = [5, 1, 2, 512, 64, 4, 129, 128, 3, 128, 64, 3, 64, 64, 3, 64, 128, 3, 128, 128, 128, 1];
  return Buffer.concat([
    integers(...header),
    Buffer.from(type),
    integers(...shape),
    ...tensors.flatMap(([name, kind, ...dims]) => {
      const data = Buffer.alloc(dims.reduce((all, n) => all * n, 1) * (kind === 1 ? 2 : 4));
      if (name.endsWith('decoder.2.bias')) data.writeFloatLE(bias);
      return [integers(dims.length, name.length, kind, ...dims), Buffer.from(name), data];
    }),
  ]);
}

test('vadModel: without speech nothing is heard, with nothing but speech everything', async () => {
  const path = join(folder, 'silero.bin');
  writeFileSync(path, silero(-5));
  const none = await say(HELLO, { vadModel: path });
  assert.equal([none.text, none.segments, none.languageProbability], ['', [], 1]);
  writeFileSync(path, silero(5));
  const all = await say(HELLO, { vadModel: path, wordTimestamps: true });
  assert.is(all.text, ' Hello world.');
  assert.equal([all.segments[0]?.start, all.segments[0]?.end], [0, 3]);
});

test('a damaged Silero model is an error: cut anywhere, with any number changed, or something else', async () => {
  const model = silero(0);
  const path = join(folder, 'damaged.bin');
  const whisper = await loadNative().openWhisper(BUNDLED);
  const use = async (what: string, bytes: Uint8Array) => {
    writeFileSync(path, bytes);
    const error = await failure(what, () =>
      whisper.transcribe(SAMPLES, { language: 'en', threads: 1, vadModel: path }),
    );
    assert.is(error.code, 'E_MODEL', `${what}: ${error.message}`);
    assert.ok(error.message.includes(path) && error.hint !== '', `${what}: ${error.message}`);
  };
  for (const length of [0, 3, 4, 8, 17, 30, 100, 110, 150, 5000, 200_000, model.length - 1]) {
    await use(`cut to ${length}`, model.subarray(0, length));
  }
  const numbers = [0, 4, ...Array.from({ length: 19 }, (_, i) => 18 + 4 * (i + 3)), 106, 110, 114, 118, 122, 126];
  for (const at of numbers) {
    for (const value of [-1, 7, 0x7fffffff]) {
      const changed = Buffer.from(model);
      changed.writeInt32LE(value, at);
      await use(`the number at ${at} = ${value}`, changed);
    }
  }
  const infinite = Buffer.from(model);
  infinite.writeUInt16LE(0x7c00, model.length - 2);
  await use('infinity', infinite);
  await use('bytes behind it', Buffer.concat([model, Buffer.alloc(12)]));
  await use('a tensor twice', Buffer.concat([model, model.subarray(-(4 * 6 + 32 + 256 * 258 * 2))]));
  await use('a Whisper', Buffer.from('a text that is no model'));
  const missing = await failure('missing', () =>
    whisper.transcribe(SAMPLES, { language: 'en', threads: 1, vadModel: join(folder, 'no-such-file') }),
  );
  assert.is(missing.code, 'E_MODEL');
  whisper.close();
});

test('samples are copied when the call is made: what becomes of their memory afterwards is of no account', async () => {
  const whisper = await loadNative().openWhisper(BUNDLED);
  const options = { language: 'en', threads: 1 };
  const expected = await whisper.transcribe(SAMPLES, options);
  for (let i = 0; i < 3; i++) {
    const samples = SAMPLES.slice();
    const call = whisper.transcribe(samples, options);
    const { buffer } = samples;
    new Float32Array(structuredClone(buffer, { transfer: [buffer] })).fill(Number.NaN);
    assert.is(samples.length, 0);
    assert.equal(await call, expected);
  }
  const Resizable = ArrayBuffer as unknown as new (n: number, o: object) => ArrayBuffer & { resize(n: number): void };
  const resizable = new Resizable(SAMPLES.byteLength, { maxByteLength: SAMPLES.byteLength });
  const samples = new Float32Array(resizable);
  samples.set(SAMPLES);
  const call = failure('resizable', () => whisper.transcribe(samples, options));
  resizable.resize(0);
  assert.is((await call).code, 'E_ARGUMENT');
  assert.match((await call).message, 'resizable');
  whisper.close();
});

test.run();
