/** What a transcription is written as: subtitles beside openai-whisper's own, JSON, times, words, and the reasons to doubt it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VoiceGrpoError } from '../src/errors.js';
import type { WhisperResult, WhisperSegment, WhisperToken } from '../src/native/addon.js';
import { compressionRatio } from '../src/transcription/compression-ratio.js';
import type { CueSegment } from '../src/transcription/cues.js';
import { decodingOf } from '../src/transcription/decoding.js';
import { formatsOf, type TextFormat, writtenAs } from '../src/transcription/formats.js';
import { failureJson, transcriptionJson } from '../src/transcription/json.js';
import { milliseconds, timestamp } from '../src/transcription/timestamp.js';
import { joined, spokenText, type Transcription } from '../src/transcription/transcription.js';
import { normalized, sumErrors, wordErrorRate, wordErrors } from '../src/transcription/word-error-rate.js';
import { words } from '../src/transcription/words.js';

interface PythonSegment {
  start: number;
  end: number;
  text: string;
  words?: { word: string; start: number; end: number; probability: number }[];
}

/** tools/golden/whisper_writers.py */
const golden = JSON.parse(readFileSync(join('test', 'golden', 'writers.json'), 'utf8')) as {
  segments: Record<string, PythonSegment[]>;
  written: { segments: string; format: TextFormat; options: Record<string, number | boolean>; text: string }[];
  normalized: [string, string][];
  compression_ratio: [string, number][];
};

const ours = ({ words: timed, ...rest }: PythonSegment): CueSegment => ({
  ...rest,
  words: timed?.map(({ word, ...word_ }) => ({ ...word_, text: word })) ?? null,
});
const camel = (name: string) => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

const token = (text: string, probability: number): WhisperToken => ({
  id: text.length,
  text,
  probability,
  logProb: Math.log(probability),
});

function segment(start: number, end: number, text: string, more: Partial<WhisperSegment> = {}): WhisperSegment {
  const tokens = text.split(/(?= )/).map((part) => token(part, 0.8));
  return { start, end, text, avgLogProb: -0.2, noSpeechProb: 0.01, temperature: 0, tokens, words: null, ...more };
}

function result(segments: WhisperSegment[], more: Partial<WhisperResult> = {}): WhisperResult {
  const text = segments.map((each) => each.text).join('');
  return { text, language: 'en', languageProbability: 1, segments, fallbacks: [], audioContext: 1500, ...more };
}

test("txt, srt, vtt and tsv are byte-equal to openai-whisper's, with every way of splitting lines", () => {
  const formats = new Set<string>();
  for (const { segments, format, options, text } of golden.written) {
    const given = Object.fromEntries(Object.entries(options).map(([name, value]) => [camel(name), value]));
    const written = writtenAs(format, { segments: golden.segments[segments]!.map(ours) as never }, given);
    assert.is(written, text, `${format} of '${segments}' with ${JSON.stringify(options)}`);
    formats.add(format);
  }
  assert.equal([...formats].sort(), ['srt', 'tsv', 'txt', 'vtt']);
  assert.ok(golden.written.length >= 30);
});

test('times: hours where there are some, halves of a millisecond to the even one', () => {
  assert.is(timestamp(0), '00:00.000');
  assert.is(timestamp(3599.9996), '01:00:00.000');
  assert.is(timestamp(61.5, { hours: true, decimal: ',' }), '00:01:01,500');
  assert.is(timestamp(-0.01), '00:00.000', 'a time before the beginning is the beginning');
  assert.equal([0.0005, 0.0015, 0.0025, 0.00251].map(milliseconds), [0, 2, 2, 3]);
});

test('formats: several, by commas too, each once; all are those of one recording; another is named', () => {
  assert.equal(formatsOf(['txt']), ['txt']);
  assert.equal(formatsOf(['vtt,srt', 'srt', 'jsonl']), ['srt', 'vtt', 'jsonl']);
  assert.equal(formatsOf(['all']), ['txt', 'srt', 'vtt', 'tsv', 'json']);
  for (const wrong of ['xml', '', 'srt, vtt', 'toString']) {
    assert.throws(
      () => formatsOf([wrong]),
      (error: VoiceGrpoError) => error instanceof VoiceGrpoError && error.exitCode === 2 && /srt/.test(error.message),
    );
  }
});

test("normalised text and compression ratio are openai-whisper's", () => {
  for (const [text, expected] of golden.normalized) {
    assert.is(normalized(text), expected, text);
  }
  for (const [text, expected] of golden.compression_ratio) {
    // zlib's implementations may differ by a byte or two.
    assert.ok(
      Math.abs(compressionRatio(text) / expected - 1) < 0.03,
      `${text}: ${compressionRatio(text)}, ${expected}`,
    );
  }
  assert.is(compressionRatio(''), 0);
});

test('word errors: substitutions, insertions and deletions, checked by hand and by their sum', () => {
  const count = (said: string, heard: string) => {
    const { substitutions, insertions, deletions, words: total } = wordErrors(said, heard);
    return [substitutions, insertions, deletions, total];
  };
  assert.equal(count('the cat sat', 'The cat, sat.'), [0, 0, 0, 3]);
  assert.equal(count('the cat sat', 'the bat sat'), [1, 0, 0, 3]);
  assert.equal(count('the cat sat', 'the cat sat down'), [0, 1, 0, 3]);
  assert.equal(count('the cat sat', 'cat'), [0, 0, 2, 3]);
  assert.equal(count('', 'thank you'), [0, 2, 0, 0]);
  assert.equal(count('thank you', ''), [0, 0, 2, 2]);
  assert.equal(count('a b c d', 'b c x d e'), [0, 2, 1, 4]);
  const sum = sumErrors([wordErrors('a b', 'a'), wordErrors('c', 'c d')]);
  assert.equal(sum, { substitutions: 0, insertions: 1, deletions: 1, words: 3 });
  assert.is(wordErrorRate(sum), 2 / 3);
  assert.is(wordErrorRate(wordErrors('', 'x')), null);
});

test('words are counted in languages without spaces too', () => {
  assert.equal(words(" And so, it's 20 o'clock!"), ['and', 'so', "it's", '20', "o'clock"]);
  assert.ok(words('私は学校に行きます', 'ja').length >= 4);
  assert.equal(words('♪ ...', 'xx'), []);
});

test("Whisper's notes in brackets are no speech", () => {
  for (const note of [' [BLANK_AUDIO]', ' (upbeat music) ♪ ... ', ' * Musik *', '（音楽）', '【拍手】', '']) {
    assert.is(spokenText({ text: note }), '', note);
  }
  assert.is(spokenText({ text: ' Hello (aside) there. ' }), 'Hello (aside) there.');
});

test('pieces of a recording are one result with the times of the recording', () => {
  const timed = segment(1, 2, ' two', { words: [{ text: ' two', start: 1.25, end: 1.5, probability: 0.9 }] });
  const { text, segments, fallbacks } = joined([
    { start: 0, result: result([segment(0, 3, ' One.')]) },
    { start: 20.5, result: result([]) },
    {
      start: 41.5,
      result: result([timed], { fallbacks: [{ start: 0, temperature: 0.2, reason: 'repetition' }] }),
    },
  ]);
  assert.is(text, 'One. two');
  assert.equal(
    segments.map(({ start, end }) => [start, end]),
    [
      [0, 3],
      [42.5, 43.5],
    ],
  );
  assert.equal(segments[1]!.words, [{ text: ' two', start: 42.75, end: 43, probability: 0.9 }]);
  assert.equal(fallbacks, [{ start: 41.5, temperature: 0.2, reason: 'repetition' }]);
  assert.is(timed.start, 1, 'what was given is not changed: it may be in the cache');
});

test("json has openai-whisper's names, the settings, the model and the doubts", () => {
  const heard: Transcription = {
    ...joined([
      {
        start: 0,
        result: result(
          [segment(0, 1.23456789, ' Hi you', { words: [{ text: ' Hi', start: 0, end: 1, probability: 0.5 }] })],
          { fallbacks: [{ start: 0, temperature: 0, reason: 'log_prob' }] },
        ),
      },
    ]),
    note: null,
    language: 'en',
    languageProbability: 0.75,
    doubts: [{ reason: 'repetition', value: 7, limit: 5, start: 0, end: 2 }],
  };
  const audio = { duration: 2, sampleRate: 44100, channels: 2, format: 'mp3', peak: 0.5, rms: 0.1 };
  const record = transcriptionJson('a.mp3', audio, heard, {
    decoding: decodingOf({ language: 'en', beamSize: undefined, translate: true }, 1500),
    model: { file: 'ggml-base.bin', sha256: 'abc' },
    vad: null,
  });
  assert.equal(JSON.parse(JSON.stringify(record)), {
    file: 'a.mp3',
    text: 'Hi you',
    duration: 2,
    sample_rate: 44100,
    channels: 2,
    format: 'mp3',
    peak: 0.5,
    rms: 0.1,
    language: 'en',
    language_probability: 0.75,
    suspect: true,
    suspect_reasons: [{ reason: 'repetition', value: 7, limit: 5, start: 0, end: 2 }],
    segments: [
      {
        id: 0,
        start: 0,
        end: 1.234568,
        text: 'Hi you',
        tokens: [3, 4],
        token_texts: [' Hi', ' you'],
        token_probabilities: [0.8, 0.8],
        temperature: 0,
        avg_logprob: -0.2,
        compression_ratio: 0.466667,
        no_speech_prob: 0.01,
        words: [{ word: ' Hi', start: 0, end: 1, probability: 0.5 }],
      },
    ],
    fallbacks: [{ start: 0, temperature: 0, reason: 'log_prob' }],
    decoding: {
      language: 'en',
      task: 'translate',
      initial_prompt: null,
      beam_size: 5,
      best_of: 5,
      temperature: 0,
      temperature_increment_on_fallback: 0.2,
      entropy_threshold: 2.4,
      logprob_threshold: -1,
      no_speech_threshold: 0.6,
      window: 'fitted',
      word_timestamps: false,
    },
    model: { file: 'ggml-base.bin', sha256: 'abc' },
  });
  assert.equal(failureJson('b.mp3', 'b.mp3: no such file.'), {
    file: 'b.mp3',
    text: '',
    duration: null,
    error: 'b.mp3: no such file.',
  });
});

test.run();
