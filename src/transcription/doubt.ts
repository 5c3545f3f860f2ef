/**
 * Why a transcript may be wrong. A recogniser always answers; these are the marks by which invented text is known. Pure: segments and
 * what the audio was like go in, reasons come out.
 *
 * Judged in stretches of at most 30 s, Whisper's window: over a longer text every ratio evens out, and an honest one of ten minutes
 * compresses as well as a short one that repeats itself.
 */
import type { WhisperSegment } from '../native/addon.js';
import { compressionRatio } from './compression-ratio.js';
import { spokenText } from './transcription.js';
import { words } from './words.js';

export const DOUBT_REASONS = [
  'compression_ratio',
  'avg_logprob',
  'no_speech',
  'repetition',
  'too_many_words',
  'too_few_words',
  'language',
] as const;

export type DoubtReason = (typeof DOUBT_REASONS)[number];

/** The bounds beyond which a transcript is suspect. The first three are openai-whisper's. */
export const DOUBT_LIMITS = {
  /** Bytes of the text over bytes of its zlib stream. */
  compressionRatio: 2.4,
  /** Mean log-probability of the tokens. */
  avgLogProb: -1,
  /** Probability of no speech, of a segment that has text. */
  noSpeechProb: 0.6,
  /** A word said so many times in succession. "No, no, no" is speech. */
  wordRepeats: 5,
  /** A phrase of two words or more said so many times in succession. */
  phraseRepeats: 3,
  /** Words for each second of audio. Fast talk has 5, an auctioneer 7. */
  mostWordsPerSecond: 8,
  /** Words for each second in which there is sound above the floor. Slow dictation has 1. */
  leastWordsPerSecond: 0.4,
  /** Seconds of sound that are needed to say that there are too few words. */
  leastVoicedSeconds: 4,
  /** Probability of the language, where it was found and not given. */
  languageProbability: 0.5,
} as const;

/** Longest phrase that is looked for, words. */
const LONGEST_PHRASE = 12;
/** s */
const STRETCH = 30;

export interface Doubt {
  reason: DoubtReason;
  /** What was found. */
  value: number;
  /** What it was held against. */
  limit: number;
  /** Where, s. */
  start: number;
  end: number;
}

export interface Doubtful {
  segments: readonly Pick<WhisperSegment, 'start' | 'end' | 'text' | 'avgLogProb' | 'noSpeechProb' | 'tokens'>[];
  /** Of the audio, s. */
  duration: number;
  /** Seconds of sound in [start, end), s; see voiced.ts. Null where it is not known: then nothing is said of too few words. */
  voicedSeconds: ((start: number, end: number) => number) | null;
  /** ISO code. */
  language: string;
  /** 1 where it was given. */
  languageProbability: number;
}

/** Each reason at most once for a stretch, in the order of time; none for an empty text. */
export function doubts(transcript: Doubtful): Doubt[] {
  const { segments, duration, languageProbability } = transcript;
  const spoken = segments.filter((segment) => spokenText(segment) !== '');
  const found = stretches(spoken, duration).flatMap((stretch) => stretchDoubts(stretch, transcript));
  if (spoken.length > 0 && languageProbability < DOUBT_LIMITS.languageProbability) {
    found.push({
      reason: 'language',
      value: languageProbability,
      limit: DOUBT_LIMITS.languageProbability,
      start: 0,
      end: Math.max(duration, (spoken.at(-1) as Part).end),
    });
  }
  return found;
}

function stretchDoubts({ parts, start, end }: Stretch, { voicedSeconds, language }: Doubtful): Doubt[] {
  const text = parts.map((part) => part.text).join('');
  const said = words(text, language);
  const found: Doubt[] = [];
  const doubt = (reason: DoubtReason, value: number, limit: number, from = start, to = end) =>
    found.push({ reason, value, limit, start: from, end: to });

  const ratio = compressionRatio(text.trim());
  if (ratio > DOUBT_LIMITS.compressionRatio) {
    doubt('compression_ratio', ratio, DOUBT_LIMITS.compressionRatio);
  }
  const logProb = meanLogProb(parts);
  if (logProb < DOUBT_LIMITS.avgLogProb) {
    doubt('avg_logprob', logProb, DOUBT_LIMITS.avgLogProb);
  }
  const silent = parts.reduce((worst, part) => (part.noSpeechProb > worst.noSpeechProb ? part : worst));
  if (silent.noSpeechProb > DOUBT_LIMITS.noSpeechProb) {
    doubt('no_speech', silent.noSpeechProb, DOUBT_LIMITS.noSpeechProb, silent.start, silent.end);
  }
  const repeated = mostRepeated(said);
  if (repeated !== null) {
    doubt('repetition', repeated.times, repeated.limit);
  }
  const rate = said.length / Math.max(end - start, 1e-3);
  if (said.length >= 3 && rate > DOUBT_LIMITS.mostWordsPerSecond) {
    doubt('too_many_words', rate, DOUBT_LIMITS.mostWordsPerSecond);
  }
  const voiced = voicedSeconds?.(start, end) ?? 0;
  if (voiced >= DOUBT_LIMITS.leastVoicedSeconds && said.length / voiced < DOUBT_LIMITS.leastWordsPerSecond) {
    doubt('too_few_words', said.length / voiced, DOUBT_LIMITS.leastWordsPerSecond);
  }
  return found;
}

type Part = Doubtful['segments'][number];

/** Segments that lie within one window, and the time in which nothing else was said. */
interface Stretch {
  parts: [Part, ...Part[]];
  start: number;
  end: number;
}

function stretches(segments: readonly Part[], duration: number): Stretch[] {
  const groups: [Part, ...Part[]][] = [];
  for (const segment of segments) {
    const group = groups.at(-1);
    if (group === undefined || segment.end - group[0].start > STRETCH) {
      groups.push([segment]);
    } else {
      group.push(segment);
    }
  }
  return groups.map((parts, i) => {
    const [first] = parts;
    const last = parts.at(-1) as Part;
    const start = i === 0 && last.end <= STRETCH ? 0 : first.start;
    const next = groups[i + 1]?.[0].start ?? Math.max(duration, last.end);
    return { parts, start, end: Math.min(next, Math.max(start + STRETCH, last.end)) };
  });
}

/** Over tokens; where a segment has none, it counts as one. */
function meanLogProb(parts: readonly Part[]): number {
  let sum = 0;
  let count = 0;
  for (const { avgLogProb, tokens } of parts) {
    const weight = Math.max(1, tokens.length);
    sum += avgLogProb * weight;
    count += weight;
  }
  return sum / count;
}

/** The phrase that stands most often in succession, if that is too often. */
function mostRepeated(said: readonly string[]): { times: number; limit: number } | null {
  let worst: { times: number; limit: number } | null = null;
  for (let n = 1; n <= Math.min(LONGEST_PHRASE, said.length / 2); n++) {
    const limit = n === 1 ? DOUBT_LIMITS.wordRepeats : DOUBT_LIMITS.phraseRepeats;
    // Positions in succession where a word is the same as n words before.
    let run = 0;
    for (let i = n; i < said.length; i++) {
      run = said[i] === said[i - n] ? run + 1 : 0;
      const times = Math.floor(run / n) + 1;
      if (times >= limit && times - limit > (worst === null ? -1 : worst.times - worst.limit)) {
        worst = { times, limit };
      }
    }
  }
  return worst;
}

/** For people: 'it repeats itself (said 12 times in succession); …'. Empty for none. */
export function doubtSentence(found: readonly Doubt[]): string {
  const said: Record<DoubtReason, (value: number) => string> = {
    compression_ratio: (value) => `it repeats itself (compression ratio ${value.toFixed(1)})`,
    avg_logprob: (value) => `Whisper is unsure of it (average log-probability ${value.toFixed(2)})`,
    no_speech: (value) => `there may be no speech (probability ${value.toFixed(2)})`,
    repetition: (value) => `it repeats itself (the same words ${value} times)`,
    too_many_words: (value) => `it has more words than can be said (${value.toFixed(1)} a second)`,
    too_few_words: (value) => `it has few words for so much sound (${value.toFixed(1)} a second)`,
    language: (value) => `its language is uncertain (probability ${value.toFixed(2)})`,
  };
  const first = DOUBT_REASONS.flatMap((reason) => found.find((doubt) => doubt.reason === reason) ?? []);
  return first.map(({ reason, value }) => said[reason](value)).join('; ');
}
