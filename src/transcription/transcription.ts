/** What came of listening to one recording, whatever it is written as. */
import type { WhisperFallback, WhisperResult, WhisperSegment, WhisperWord } from '../native/addon.js';
import type { Doubt } from './doubt.js';

export interface Transcription {
  /** '' where there is no speech. */
  text: string;
  /** Why there is no text; null where there is one. */
  note: string | null;
  /** ISO code; null where it was to be found and nothing was heard. */
  language: string | null;
  /** 1 where the language was given, null where there is none. */
  languageProbability: number | null;
  /** Empty where there is no speech. */
  segments: WhisperSegment[];
  /** Tries that were thrown away. */
  fallbacks: WhisperFallback[];
  /** Why it may be wrong; empty where nothing speaks against it. */
  doubts: Doubt[];
}

/** What is known of the audio itself. */
export interface AudioFacts {
  duration: number; // s
  sampleRate: number; // Hz, of the file
  channels: number;
  format: string;
  /** Largest absolute sample of the file, 1 is full scale. */
  peak: number;
  /** Root mean square over all channels. */
  rms: number;
}

/** What Whisper wrote of one piece of a recording. */
export interface Piece {
  /** Where the piece begins in the recording, s. */
  start: number;
  result: WhisperResult;
}

/** The pieces of a recording as one result, with the times of the recording. The language is the first piece's. */
export function joined(pieces: readonly Piece[]): Pick<WhisperResult, 'text' | 'segments' | 'fallbacks'> {
  return {
    text: pieces
      .map(({ result }) => result.text.trim())
      .filter((text) => text !== '')
      .join(' '),
    segments: pieces.flatMap(({ start, result }) => result.segments.map((segment) => later(segment, start))),
    fallbacks: pieces.flatMap(({ start, result }) =>
      result.fallbacks.map((fallback) => ({ ...fallback, start: fallback.start + start })),
    ),
  };
}

/** The segment of a piece with the times of the recording. @param by where the piece begins, s */
export function later(segment: WhisperSegment, by: number): WhisperSegment {
  if (by === 0) {
    return segment;
  }
  const move = <T extends WhisperSegment | WhisperWord>(timed: T): T => ({
    ...timed,
    start: timed.start + by,
    end: timed.end + by,
  });
  return { ...move(segment), words: segment.words?.map(move) ?? null };
}

/** Whisper's notes, "[BLANK_AUDIO]", "(music)", "*Musik*", "（音楽）" or "♪", are not speech; a text of nothing else is none. */
export function spokenText(result: Pick<WhisperResult, 'text'>): string {
  const text = result.text.trim();
  const withoutNotes = text.replace(/\[[^\]]*\]|\([^)]*\)|（[^）]*）|【[^】]*】|\*[^*]*\*|♪/g, '');
  return /[\p{L}\p{N}]/u.test(withoutNotes) ? text : '';
}
