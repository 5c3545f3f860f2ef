/** voicegrpo transcribe as a user runs it: formats, files, folders, stdin, settings, refusals. */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Transcriber } from '../src/pipeline/transcript.js';
import { Listening, Progress } from '../src/run/progress.js';
import { outputNames } from '../src/transcription/output-files.js';
import { wordErrorRate, wordErrors } from '../src/transcription/word-error-rate.js';
import { runCli } from './cli.js';

const scratch = mkdtempSync(join(tmpdir(), 'voicegrpo-transcribe-'));
const MODEL = join('assets', 'models', 'whisper-tiny.bin');
const manifest = readFileSync(join('assets', 'clips', 'manifest.jsonl'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as { audio: string; text: string });
const said = (name: string) => manifest.find(({ audio }) => audio === name)!.text;
const A = 'ifeval/000.ogg';
const B = 'commoneval/000.ogg';
const clip = (name: string) => join('assets', 'clips', name);

const transcribe = (args: string[], input?: Uint8Array) =>
  runCli(['transcribe', ...args], { VOICEGRPO_CACHE: join(scratch, 'cache') }, undefined, input);

const close = (name: string, text: string) => (wordErrorRate(wordErrors(said(name), text)) as number) < 0.3;

/** A folder with recordings of the same name in two subfolders, and of the same name but for the extension. */
function recordings(name: string): string {
  const root = join(scratch, name);
  for (const folder of ['a', 'b']) {
    mkdirSync(join(root, folder), { recursive: true });
  }
  copyFileSync(clip(A), join(root, 'a', 'x.ogg'));
  copyFileSync(clip(B), join(root, 'b', 'x.ogg'));
  copyFileSync(clip(B), join(root, 'b', 'x.oga'));
  return root;
}

const filesIn = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();

test('srt, vtt and tsv of one recording on stdout, nothing on stderr', async () => {
  const srt = await transcribe(['--format', 'srt', clip(A)]);
  assert.equal([srt.code, srt.stderr], [0, '']);
  assert.match(srt.stdout, /^1\n00:00:0\d,\d{3} --> 00:00:0\d,\d{3}\n.+\n\n/);
  const vtt = await transcribe(['--format', 'vtt', clip(A)]);
  assert.match(vtt.stdout, /^WEBVTT\n\n00:0\d\.\d{3} --> 00:0\d\.\d{3}\n.+\n\n/);
  const tsv = await transcribe(['--format', 'tsv', clip(A)]);
  assert.match(tsv.stdout, /^start\tend\ttext\n\d+\t\d+\t.+\n/);
});

test('jsonl: a line a recording with what was heard and how, failures among them', async () => {
  const { code, stdout } = await transcribe([
    '--format',
    'jsonl',
    '--temperature',
    '0.2',
    clip(A),
    'absent.ogg',
    clip(B),
  ]);
  assert.is(code, 1);
  const files = [clip(A), 'absent.ogg', clip(B)];
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.is(lines.length, 3);
  const [a, absent, b] = files.map((name) => lines.find(({ file }) => file === name));
  assert.ok(close(A, a.text) && close(B, b.text), stdout);
  assert.match(absent.error, 'absent.ogg');
  assert.equal([a.language, a.language_probability, a.suspect, a.suspect_reasons], ['en', 1, false, []]);
  assert.is(a.decoding.temperature, 0.2);
  assert.match(a.model.sha256, /^[0-9a-f]{64}$/);
  const [segment] = a.segments;
  assert.ok(segment.tokens.length > 3);
  assert.is(segment.tokens.length, segment.token_probabilities.length);
  assert.is(segment.token_texts.join('').trim(), segment.text);
  assert.ok(segment.token_probabilities.every((value: number) => value > 0 && value <= 1));
  assert.ok(segment.compression_ratio > 0 && segment.temperature === 0.2 && segment.id === 0);
});

test('several formats beside the recordings; jsonl goes to stdout besides', async () => {
  const root = recordings('beside');
  const { code, stdout, stderr } = await transcribe([
    '--format',
    'all',
    '--format',
    'jsonl',
    '--beside',
    join(root, 'a'),
  ]);
  assert.equal([code, stderr], [0, '']);
  assert.equal(filesIn(root), [
    'a/x.json',
    'a/x.ogg',
    'a/x.srt',
    'a/x.tsv',
    'a/x.txt',
    'a/x.vtt',
    'b/x.oga',
    'b/x.ogg',
  ]);
  const record = JSON.parse(stdout);
  assert.equal(JSON.parse(readFileSync(join(root, 'a', 'x.json'), 'utf8')), record);
  assert.is(readFileSync(join(root, 'a', 'x.txt'), 'utf8').trim(), record.text);
});

test('a folder into --output-dir: equal names keep their folders, and their extension where that is all that differs', async () => {
  const root = recordings('folder');
  const out = join(scratch, 'out', 'deep');
  const { code, stdout, stderr } = await transcribe(['--format', 'txt,srt', '--output-dir', out, root]);
  assert.equal([code, stdout, stderr], [0, '', '']);
  assert.equal(filesIn(out), ['a/x.srt', 'a/x.txt', 'b/x.oga.srt', 'b/x.oga.txt', 'b/x.ogg.srt', 'b/x.ogg.txt']);
  assert.ok(close(A, readFileSync(join(out, 'a', 'x.txt'), 'utf8')));
  assert.ok(close(B, readFileSync(join(out, 'b', 'x.ogg.txt'), 'utf8')));
});

test('names of the files: flat where they can be, never those of a recording', () => {
  const names = (inputs: string[], folder: string | null, formats: ('txt' | 'json')[] = ['txt']) =>
    inputs.map((input) => outputNames(inputs, folder, formats).get(input));
  assert.equal(names(['/r/a.wav', '/s/b.mp3'], '/o'), ['/o/a', '/o/b']);
  assert.equal(names(['/r/a.wav', '/r/s/a.wav', '/r/b.wav'], '/o'), ['/o/a', '/o/s/a', '/o/b']);
  assert.equal(names(['/r/a.wav', '/r/a.mp3'], '/o'), ['/o/a.wav', '/o/a.mp3']);
  assert.equal(names(['/r/a.wav', '/s/a.wav'], null), ['/r/a', '/s/a']);
  assert.equal(names(['/r/a.json', '/r/b.wav'], null, ['txt', 'json']), ['/r/a.json', '/r/b']);
  assert.equal(names(['-', '/r/a.wav'], '/o'), ['/o/stdin', '/o/a']);
  assert.equal(names(['/r/a.mp3', '/r/a.wav', '/r/a.mp3.wav'], '/o'), ['/o/a.mp3', '/o/a.wav', '/o/a.mp3.wav']);
  assert.equal(names(['/r/a.mp3.wav', '/r/a.mp3', '/r/a.wav'], null), ['/r/a.mp3.wav', '/r/a.mp3', '/r/a.wav']);
  assert.equal(names(['/r/a.json', '/r/a.json.wav'], null, ['json']), ['/r/a.json', '/r/a.json.wav']);
  assert.equal(names(['/r/a.json', '/r/a.json.json'], null, ['json']), ['/r/a.json.2', '/r/a.json.json']);
  assert.equal(names(['-', 'stdin'], null), [resolve('stdin'), resolve('stdin.2')]);
});

test('stdin: text alone, and a name for its files', async () => {
  const bytes = readFileSync(clip(A));
  const { code, stdout, stderr } = await transcribe(['-'], bytes);
  assert.equal([code, stderr], [0, '']);
  assert.ok(close(A, stdout), stdout);
  const out = join(scratch, 'piped');
  assert.is((await transcribe(['--format', 'vtt', '--output-dir', out, '-'], bytes)).code, 0);
  assert.equal(filesIn(out), ['stdin.vtt']);
  const nothing = await transcribe(['-'], new Uint8Array(0));
  assert.equal([nothing.code, nothing.stdout], [1, '']);
  assert.match(nothing.stderr, 'stdin');
});

test('word times: in json, as short lines, and each underlined while it is said', async () => {
  const json = JSON.parse((await transcribe(['--json', '--word-timestamps', clip(A)])).stdout);
  const { words, text, start, end } = json[0].segments[0];
  assert.is(
    words
      .map(({ word }: { word: string }) => word)
      .join('')
      .trim(),
    text,
  );
  for (const [i, word] of words.entries()) {
    assert.ok(word.start <= word.end && word.start >= (words[i - 1]?.start ?? start), JSON.stringify(words));
    assert.ok(word.end <= end + 1e-6 && word.probability > 0 && word.probability <= 1, JSON.stringify(words));
  }
  const short = await transcribe(['--format', 'srt', '--max-line-width', '16', clip(A)]);
  const lines = short.stdout.split('\n').filter((line) => line !== '' && !/^\d+$|-->/.test(line));
  assert.ok(lines.length > 1 && lines.every((line) => line.length <= 16), short.stdout);
  assert.is(lines.join(' '), text);
  const marked = await transcribe(['--format', 'vtt', '--highlight-words', clip(A)]);
  assert.is(marked.stdout.match(/<u>[^<]+<\/u>/g)?.length, words.length, marked.stdout);
});

test('every setting that changes the text has its own place in the cache', async () => {
  const cache = join(scratch, 'settings');
  const settings = [
    {},
    { language: 'en' },
    { initialPrompt: 'Manners.' },
    { beamSize: 2 },
    { temperature: 0.1 },
    { temperatureIncrement: 0 },
    { entropyThreshold: 2 },
    { logProbThreshold: -2 },
    { noSpeechThreshold: 0.5 },
    { window: 'fitted' as const },
    { wordTimestamps: true },
    { bestOf: 2 },
  ];
  for (const cached of [false, true]) {
    for (const setting of settings) {
      using transcriber = await Transcriber.open({ model: MODEL, threads: 2, cache, ...setting });
      assert.is((await transcriber.transcribe(clip(A))).cached, cached, JSON.stringify(setting));
    }
  }
  using other = await Transcriber.open({ model: MODEL, threads: 1, cache, longest: { seconds: 30, setting: 'x' } });
  assert.ok((await other.transcribe(clip(A))).cached, 'threads and bounds change no text');
});

test('--no-cache listens again and keeps nothing', async () => {
  const cache = join(scratch, 'untouched');
  const { code } = await runCli(['transcribe', '--no-cache', clip(A)], { VOICEGRPO_CACHE: cache });
  assert.equal([code, existsSync(cache)], [0, false]);
});

test('a recording that is too long is refused by its length, before it is heard', async () => {
  using transcriber = await Transcriber.open({
    model: MODEL,
    threads: 1,
    cache: null,
    longest: { seconds: 1, setting: 'data.max_duration' },
  });
  const error = await transcriber.transcribe(clip(A)).then(
    () => null,
    (cause: Error & { code: string }) => cause,
  );
  assert.is(error?.code, 'E_LIMIT');
  assert.match(error!.message, /ifeval\/000\.ogg: expected at most 1 s \(data\.max_duration\), got 2\.6 s/);
});

test('progress: how far, how fast, how long still; nothing in the first moment', () => {
  const written: string[] = [];
  const stream = { isTTY: true, columns: 120, write: (text: string) => written.push(text) };
  const clock = performance.now;
  let now = 1000;
  performance.now = () => now;
  try {
    const listening = new Listening(new Progress(stream as never), 1);
    listening.at('talk.mp3', 5, 3725);
    now += 10_000;
    listening.at('talk.mp3', 125, 3725);
    const many = new Listening(new Progress(stream as never), 3);
    many.at('b.wav', 2, 2);
    many.done('b.wav');
    now += 10_000;
    many.at('a.wav', 3, 4);
    many.done('a.wav');
    now += 10_000;
    many.at('c.wav', 75, null);
  } finally {
    performance.now = clock;
  }
  assert.equal(
    written.map((text) => text.replace(/^\r.\[2K/, '')),
    [
      'talk.mp3: 2:05 of 1:02:05, 12.5 times real time, 4:48 left',
      '1 of 3 recordings, 0.5 times real time, 0:20 left',
      '2 of 3 recordings, c.wav: 1:15, 4.0 times real time, 0:10 left',
    ],
  );
});

test('refusals end with 2 and a sentence that says what to type, before anything is heard', async () => {
  const a = clip(A);
  const cases: [string[], RegExp][] = [
    [['--format', 'srt', a, clip(B)], /2 recordings[\s\S]*--output-dir DIR or --beside/],
    [['--format', 'srt,txt', a], /one format on stdout[\s\S]*--output-dir/],
    [['--format', 'jsonl', '--beside', a], /jsonl, which goes to stdout/],
    [['--format', 'srt', '--beside', '-'], /--output-dir DIR instead/],
    [['--output-dir', 'x', '--beside', a], /one place/],
    [['--output-dir', 'package.json', a], /--output-dir: expected a folder/],
    [['--format', 'srt', '--max-line-count', '2', a], /--max-line-width 42/],
    [['--max-line-width', '0', a], /--max-line-width: expected a whole number from 1/],
    [['--temperature', '1.5', a], /--temperature: expected a number from 0 to 1, got '1.5'/],
    [['--beam-size', '9', a], /--beam-size: expected a whole number from 1 to 8/],
    [['--best-of', 'x', a], /--best-of/],
    [['--temperature-increment', '', a], /--temperature-increment/],
    [['--entropy-threshold', 'NaN', a], /--entropy-threshold/],
    [['--logprob-threshold', '1', a], /--logprob-threshold: expected a number from -100 to 0/],
    [['--no-speech-threshold', '-0.0001', a], /--no-speech-threshold/],
    [['--window', 'half', a], /--window: expected one of full, fitted/],
    [['--host', '0.0.0.0', '--log-format', 'json', a], /--host, --log-format: expected --serve PORT/],
    [['--parallel', '2', a], /--parallel: expected --serve PORT/],
    [['--serve', '0', '--format', 'srt', '--no-cache'], /--format, --no-cache: expected no --serve/],
    [
      ['--serve', '0', '--json', '--beside', '--output-dir', 'x'],
      /--json, --output-dir, --beside: expected no --serve/,
    ],
    [['--translate', a], /translate: expected a multilingual model/],
  ];
  for (const [args, pattern] of cases) {
    const { code, stdout, stderr } = await transcribe(args);
    assert.is(code, 2, `${args.join(' ')}: ${stderr}`);
    assert.is(stdout, '');
    assert.match(stderr, pattern, args.join(' '));
    assert.not.match(stderr, /^\s+at .*:\d+/m, 'a stack');
  }
  const negative = await transcribe(['--logprob-threshold=-0.5', a]);
  assert.is(negative.code, 0, negative.stderr);
  const vad = await transcribe(['--vad-model', 'absent/silero.bin', a]);
  assert.is(vad.code, 3);
  assert.match(vad.stderr, /--vad-model: expected a Silero model/);
  const offline = await transcribe(['--vad', '--offline', a]);
  assert.is(offline.code, 1);
  assert.match(offline.stderr, /ggml-org\/whisper-vad/);
  const empty = join(scratch, 'empty');
  mkdirSync(empty);
  writeFileSync(join(empty, 'notes.txt'), 'no audio');
  assert.is((await transcribe([empty])).code, 3);
});

test.run();
