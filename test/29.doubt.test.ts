/** Reasons to doubt a transcript: real hallucinations, real speech, each reason by itself; and what training and eval make of them. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { costTable } from '../src/commands/eval.js';
import { type FlagSetting, loadConfig } from '../src/config/load.js';
import { loadClip } from '../src/pipeline/clip.js';
import { classificationScores } from '../src/pipeline/evaluate.js';
import { recognitionCost } from '../src/pipeline/recognition-cost.js';
import { transcribeDataset } from '../src/pipeline/transcripts.js';
import { createRun, openRun, runFolder } from '../src/run/folder.js';
import { Progress } from '../src/run/progress.js';
import { DOUBT_LIMITS, type Doubtful, type DoubtReason, doubtSentence, doubts } from '../src/transcription/doubt.js';
import { spokenText } from '../src/transcription/transcription.js';
import { Voiced } from '../src/transcription/voiced.js';
import type { Clip, Evaluation, Prediction, TranscribedClip } from '../src/types.js';

const MODEL = join('assets', 'models', 'whisper-tiny.bin');

/** tools/golden/hallucinations.py; `tokens` is their number. */
interface Heard {
  model: string;
  audio: string;
  speech: boolean;
  duration: number;
  language: string;
  language_probability: number;
  segments: { start: number; end: number; text: string; avg_logprob: number; no_speech_prob: number; tokens: number }[];
}
const golden = JSON.parse(readFileSync(join('test', 'golden', 'hallucinations.json'), 'utf8')) as Heard[];

const tokens = (count: number) =>
  Array.from({ length: count }, () => ({ id: 1, text: '', probability: 1, logProb: 0 }));

function doubtful({ segments, duration, language, language_probability }: Heard): Doubtful {
  return {
    segments: segments.map(({ avg_logprob, no_speech_prob, tokens: count, ...rest }) => ({
      ...rest,
      avgLogProb: avg_logprob,
      noSpeechProb: no_speech_prob,
      tokens: tokens(count),
    })),
    duration,
    language,
    languageProbability: language_probability,
    voicedSeconds: null,
  };
}

const SENTENCE = ' The bus was late again and nobody told us why it had to be so.';

function spoken(text: string, more: Partial<Doubtful> = {}, segment: object = {}): Doubtful {
  const duration = more.duration ?? 6;
  return {
    segments: [{ start: 0, end: duration, text, avgLogProb: -0.3, noSpeechProb: 0.02, tokens: tokens(15), ...segment }],
    duration,
    language: 'en',
    languageProbability: 0.95,
    voicedSeconds: () => 4,
    ...more,
  };
}
const reasons = (transcript: Doubtful): DoubtReason[] => doubts(transcript).map(({ reason }) => reason);

test('what Whisper made up where nobody spoke is suspect, and what it heard of real speech is not', () => {
  const invented = golden.filter(({ speech, segments }) => !speech && segments.some((each) => spokenText(each) !== ''));
  assert.ok(invented.length >= 25, `${invented.length}`);
  for (const heard of invented) {
    assert.ok(doubts(doubtful(heard)).length > 0, `${heard.model}, ${heard.audio}: ${JSON.stringify(heard.segments)}`);
  }
  const real = golden.filter(({ speech }) => speech);
  assert.ok(real.length >= 12);
  for (const heard of real) {
    assert.equal(doubts(doubtful(heard)), [], `${heard.model}, ${heard.audio}`);
  }
  const seen = new Set(invented.flatMap((heard) => reasons(doubtful(heard))));
  assert.equal(
    [...seen].sort(),
    ['avg_logprob', 'compression_ratio', 'language', 'no_speech', 'repetition'],
    'the reasons that real examples give',
  );
});

test('each reason by itself, on either side of its limit', () => {
  assert.equal(reasons(spoken(SENTENCE)), []);
  assert.equal(reasons(spoken(SENTENCE, {}, { avgLogProb: -1.01 })), ['avg_logprob']);
  assert.equal(reasons(spoken(SENTENCE, {}, { avgLogProb: -0.99 })), []);
  assert.equal(reasons(spoken(SENTENCE, {}, { noSpeechProb: 0.61 })), ['no_speech']);
  assert.equal(reasons(spoken(SENTENCE, {}, { noSpeechProb: 0.6 })), []);
  assert.equal(reasons(spoken(SENTENCE, { languageProbability: 0.49 })), ['language']);
  assert.equal(reasons(spoken(SENTENCE, { duration: 1.5 })), ['too_many_words']);
  assert.equal(reasons(spoken(SENTENCE, { duration: 2 })), []);
  assert.equal(reasons(spoken(' Well then.', { duration: 0.2 })), [], 'two words may be fast');
  assert.equal(reasons(spoken(' you', { voicedSeconds: () => 6 })), ['too_few_words']);
  assert.equal(reasons(spoken(' you', { voicedSeconds: () => 2 })), []);
  assert.equal(reasons(spoken(' you', { voicedSeconds: null })), []);
  assert.equal(reasons(spoken(' No, no, no, no!')), [], 'four times is speech');
  assert.equal(reasons(spoken(' No, no, no, no, no!')), ['repetition']);
  assert.equal(reasons(spoken(' Bye bye. I said it, I said it.')), []);
  assert.equal(reasons(spoken(' Thank you. Thank you. Thank you.')), ['repetition']);
  assert.equal(
    reasons(spoken(' he says that we go and he says that we go and he says that we go and')),
    ['repetition'],
    'a phrase of several words',
  );
  assert.equal(
    reasons(spoken(' 1.5x4.0x4.0x4.0x4.0x4.0x4.0x4.0x4.0x4.0x4.0x4.0x4.0x4.0x4.0', { voicedSeconds: null })),
    ['compression_ratio'],
  );
  assert.equal(reasons(spoken(' 谢谢观看谢谢观看谢谢观看谢谢观看', { language: 'zh' })), ['repetition']);
  assert.equal(reasons(spoken(' Ask not what your country can do for you, ask what you can do for your country.')), []);
});

test('a likely sentence over noise is suspect by the probability of no speech alone', () => {
  // base, told to hear Japanese, of five seconds of pink noise: "Thank you for watching".
  const segment = { start: 0, end: 4.96, avgLogProb: -0.6558, noSpeechProb: 0.8298, tokens: tokens(5) };
  const more = { language: 'ja', languageProbability: 1, duration: 5, voicedSeconds: () => 5 };
  assert.equal(reasons(spoken('ご視聴ありがとうございました', more, segment)), ['no_speech']);
  assert.equal(reasons(spoken('ご視聴ありがとうございました', more, { ...segment, noSpeechProb: 0 })), []);
});

test('nothing is said of an empty text, of notes, or of a note beside speech', () => {
  const bad = { avgLogProb: -3, noSpeechProb: 0.99 };
  assert.equal(doubts({ ...spoken(''), segments: [] }), []);
  assert.equal(doubts(spoken(' [Music]', { languageProbability: 0.1 }, bad)), []);
  const both = spoken(SENTENCE);
  const note = { start: 6, end: 9, text: ' (music)', tokens: tokens(3), ...bad };
  assert.equal(doubts({ ...both, segments: [...both.segments, note], duration: 9 }), []);
});

test('a long recording is judged window by window, and a doubt says where', () => {
  const segment = (start: number, text: string) => ({
    start,
    end: start + 6,
    text,
    avgLogProb: -0.3,
    noSpeechProb: 0.02,
    tokens: tokens(15),
  });
  const honest = Array.from({ length: 200 }, (_, i) => segment(6 * i, SENTENCE.replace('bus', `bus ${i * 7919}`)));
  const heard = { ...spoken(''), segments: honest, duration: 1200 };
  assert.equal(
    doubts(heard).filter(({ reason }) => reason !== 'compression_ratio'),
    [],
  );
  const loop = honest.map((each, i) => (i === 100 ? segment(600, ' Thank you. Thank you. Thank you.') : each));
  const [doubt, ...rest] = doubts({ ...heard, segments: loop }).filter(({ reason }) => reason === 'repetition');
  assert.equal(rest, []);
  assert.ok(doubt!.start <= 600 && doubt!.end >= 606 && doubt!.end - doubt!.start <= 30, JSON.stringify(doubt));
  // Three quarters of an hour of music after a sentence are not the sentence's.
  const music = { ...spoken(SENTENCE, { duration: 3000 }, { end: 6 }), voicedSeconds: (a: number, b: number) => b - a };
  assert.equal(doubts(music), []);
});

test('doubts in words: each reason once', () => {
  const found = doubts(spoken(' you you you you you', { voicedSeconds: () => 30 }, { noSpeechProb: 0.9 }));
  assert.is(
    doubtSentence([...found, ...found]),
    'there may be no speech (probability 0.90); it repeats itself (the same words 5 times); it has few words for so much sound (0.2 a second)',
  );
  assert.is(doubtSentence([]), '');
  assert.is(DOUBT_LIMITS.compressionRatio, 2.4);
});

test('seconds of sound: above the floor, whatever it is; the same in pieces', () => {
  const rate = 16000;
  // 2 s of noise at -40 dB, 3 s of a tone that swells 4 times a second at -10 dB, 5 s of noise.
  let state = 1;
  const noise = () => {
    state = (state * 16807) % 2147483647;
    return (state / 2147483647 - 0.5) * 0.03;
  };
  const samples = Float32Array.from({ length: 10 * rate }, (_, i) => {
    const t = i / rate;
    return (
      noise() + (t >= 2 && t < 5 ? 0.3 * Math.sin(440 * 2 * Math.PI * t) * (1 + 0.5 * Math.sin(8 * Math.PI * t)) : 0)
    );
  });
  const whole = new Voiced();
  whole.add(samples);
  assert.ok(Math.abs(whole.seconds(0, 10) - 3) < 0.15, `${whole.seconds(0, 10)}`);
  assert.ok(whole.seconds(6, 10) < 0.2, `${whole.seconds(6, 10)}`);
  const pieces = new Voiced();
  for (let at = 0; at < samples.length; at += 1.5 * rate) {
    pieces.add(samples.subarray(at, at + 1.5 * rate));
  }
  assert.ok(Math.abs(pieces.seconds(0, 10) - whole.seconds(0, 10)) < 0.1);
  // Pieces that end within a frame: times stay exact over thousands of them.
  const odd = new Voiced();
  const quiet = new Float32Array(959); // a sample less than two frames
  for (let i = 0; i < 5000; i++) odd.add(quiet);
  const begin = (5000 * quiet.length) / rate;
  for (let i = 0; i < 4; i++) odd.add(samples.subarray(2 * rate, 3 * rate));
  odd.add(new Float32Array(4 * rate));
  const voiced = odd.seconds(begin - 4, begin + 8);
  assert.ok(Math.abs(voiced - 4) < 0.1, `${voiced}`);
  assert.ok(odd.seconds(begin - 6, begin - 0.1) === 0 && odd.seconds(begin + 4.1, begin + 8) === 0);
  assert.is(new Voiced().seconds(0, 5), 0);
});

const scratch = mkdtempSync(join(tmpdir(), 'voicegrpo-doubt-'));

function wav(file: string, samples: Float32Array): void {
  const data = Int16Array.from(samples, (value) => Math.round(value * 32767));
  const header = Buffer.from('524946460000000057415645666d74201000000001000100803e0000007d00000200100064617461', 'hex');
  const bytes = Buffer.concat([header, Buffer.alloc(4), Buffer.from(data.buffer)]);
  bytes.writeUInt32LE(36 + data.byteLength, 4);
  bytes.writeUInt32LE(data.byteLength, 40);
  writeFileSync(file, bytes);
}

/** A clip at a third of its speed: the bundled Whisper makes two or three words of seven seconds. */
async function slowed(from: string, file: string): Promise<string> {
  const { samples } = await loadClip(from);
  wav(
    file,
    Float32Array.from({ length: 3 * samples.length }, (_, i) => samples[Math.floor(i / 3)] as number),
  );
  return file;
}

test('training drops suspect transcripts and says how many; held-out ones stay; --no-drop-suspect keeps all', async () => {
  const clip = (file: string, label: string): Clip => ({ id: file, file, label });
  const good = (name: string, label: string) => clip(join('assets', 'clips', `${name}.ogg`), label);
  const bad = await slowed(join('assets', 'clips', 'wildvoice', '050.ogg'), join(scratch, 'a.wav'));
  const worse = await slowed(join('assets', 'clips', 'ifeval', '010.ogg'), join(scratch, 'b.wav'));
  const silence = join(scratch, 'silence.wav');
  wav(silence, new Float32Array(16000));
  const sides = {
    train: [good('ifeval/000', 'x'), clip(bad, 'x'), good('commoneval/000', 'y')],
    heldOut: [good('ifeval/001', 'x'), clip(worse, 'x'), good('commoneval/001', 'y'), clip(silence, 'y')],
  };
  const run = async (flags: FlagSetting[] = [], given = sides) => {
    const { config } = loadConfig('tiny', flags);
    let said = '';
    const stream = new Writable({
      write(chunk, _, done) {
        said += chunk;
        done();
      },
    });
    const heard = await transcribeDataset(given, config, MODEL, 2, new Progress(stream));
    return { ...heard, said };
  };
  const dropped = await run();
  assert.equal(dropped.suspect, { dropped: 1, heldOut: 1 });
  assert.equal(
    dropped.train.map(({ file, suspect }) => [file, suspect]),
    [
      [sides.train[0]!.file, undefined],
      [sides.train[2]!.file, undefined],
    ],
  );
  assert.equal(
    dropped.heldOut.map(({ suspect }) => (suspect ?? []).length > 0),
    [false, true, false],
  );
  assert.equal(
    dropped.unheard.map(({ file }) => file),
    [silence],
  );
  const folder = runFolder(join(scratch, 'run'));
  const { suspect: _, said: __, ...heard } = dropped;
  createRun(folder, { loaded: loadConfig('tiny'), manifest: {}, dataset: { labels: ['x', 'y'], ...heard } });
  assert.equal(openRun(folder.path).dataset, { labels: ['x', 'y'], ...heard });
  assert.match(dropped.said, /1 of 3 training clips have a suspect transcript \(.*too_few_words 1.*\); dropped\./);
  assert.match(dropped.said, /1 of 3 held-out clips have a suspect transcript \(.*\); kept\./);

  const kept = await run([{ flag: '--no-drop-suspect', path: 'data.drop_suspect', value: false }]);
  assert.equal(kept.suspect, { dropped: 0, heldOut: 1 });
  assert.is(kept.train.length, 3);
  assert.match(kept.said, /training clips .*; kept\./);

  const only = { ...sides, train: [clip(bad, 'x'), good('commoneval/000', 'y')] };
  const error = await run([], only).then(
    () => null,
    (cause: Error & { hint: string }) => cause,
  );
  assert.match(error!.message, /none for 'x' \(1 with a suspect transcript were dropped\)/);
  assert.match(error!.hint, '--no-drop-suspect');
});

test('what recognition errors cost: the same clips answered by transcript and by text', async () => {
  const labels = ['x', 'y'];
  // The policy of this test knows a label by its word.
  const answer = async (clips: readonly TranscribedClip[]): Promise<Evaluation> => {
    const predictions = clips.map(({ id, label, transcript }): Prediction => {
      const predicted = transcript.includes('bus') ? 'x' : transcript.includes('poem') ? 'y' : null;
      return { id, label, predicted, answer: predicted ?? '?', reward: 0, probabilities: {}, label_mass: 1 };
    });
    return { ...classificationScores(predictions, labels), reward: 0, predictions };
  };
  const clip = (id: string, label: string, transcript: string, reference?: string): TranscribedClip => ({
    id,
    file: `${id}.wav`,
    label,
    transcript,
    ...(reference !== undefined && { reference }),
  });
  const clips = [
    clip('1', 'x', 'The boss was late.', 'the bus was late'),
    clip('2', 'x', 'A bus, again!', 'a bus again'),
    clip('3', 'y', 'Write me a poem', 'write a pome'),
    { ...clip('4', 'y', 'poem poem poem', 'poem'), suspect: ['repetition'] },
    clip('5', 'y', 'bus', 'bus'),
    clip('6', 'x', 'bus', ' '),
    clip('7', 'x', 'bus'),
  ];
  const heard = await answer(clips);
  const cost = await recognitionCost(clips, heard, answer);
  assert.is(cost.without_text, 2);
  assert.equal(cost.labels.x, {
    n: 2,
    word_error_rate: 1 / 7,
    substitutions: 1,
    insertions: 0,
    deletions: 0,
    words: 7,
    suspect: 0,
    unheard: 0,
  });
  assert.equal(cost.labels.y, {
    n: 3,
    word_error_rate: 4 / 5,
    substitutions: 1,
    insertions: 3,
    deletions: 0,
    words: 5,
    suspect: 1,
    unheard: 0,
  });
  assert.equal([cost.total.n, cost.total.words, cost.total.word_error_rate], [5, 12, 5 / 12]);
  assert.equal([cost.lost, cost.gained], [1, 1]);
  assert.equal([cost.transcripts.accuracy, cost.references.accuracy, cost.cost.accuracy], [3 / 5, 3 / 5, 0]);
  const first = [clips[0] as TranscribedClip];
  const one = await recognitionCost(first, await answer(first), answer);
  assert.equal([one.transcripts.accuracy, one.references.accuracy, one.cost.accuracy, one.lost], [0, 1, 1, 1]);
  const silent: Clip[] = [
    { id: '8', file: '8.wav', label: 'x', reference: 'the bus is late again' },
    { id: '9', file: '9.wav', label: 'y' },
  ];
  const withSilence = await recognitionCost(clips, heard, answer, silent);
  assert.equal([withSilence.total.n, withSilence.total.unheard, withSilence.without_text], [6, 1, 3]);
  const { n, deletions, words, unheard } = withSilence.labels.x!;
  assert.equal([n, deletions, words, unheard], [3, 5, 12, 1], 'every word of it is missed');
  assert.equal([withSilence.transcripts.accuracy, withSilence.references.accuracy], [3 / 6, 4 / 6]);
  assert.is(withSilence.lost, 2);
  assert.match(costTable(withSilence), /suspect {2}unheard\n/);
  assert.match(costTable(withSilence), /^all .* 1 +1$/m);
  const without = clips.slice(5);
  const error = await recognitionCost(without, await answer(without), answer).then(
    () => null,
    (cause: Error & { code: string }) => cause,
  );
  assert.is(error?.code, 'E_DATA');
  assert.match(error!.message, 'none among 2');
});

test.run();
