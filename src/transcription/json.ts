/** A transcription as JSON: openai-whisper's names, and what it has none for. Times in seconds, levels as shares of full scale. */
import type { WhisperSegment } from '../native/addon.js';
import { compressionRatio } from './compression-ratio.js';
import { type Decoding, decodingJson } from './decoding.js';
import type { Doubt } from './doubt.js';
import type { AudioFacts, Transcription } from './transcription.js';

/** What was used to transcribe. */
export interface Provenance {
  decoding: Decoding;
  model: { file: string; sha256: string };
  /** Null without voice activity detection. */
  vad: { file: string; sha256: string } | null;
}

export function transcriptionJson(
  file: string,
  audio: AudioFacts,
  transcription: Transcription,
  { decoding, model, vad }: Provenance,
): Record<string, unknown> {
  const { text, note, language, languageProbability, segments, fallbacks, doubts } = transcription;
  return {
    file,
    text,
    ...audioJson(audio),
    language,
    language_probability: languageProbability === null ? null : rounded(languageProbability),
    ...(note !== null && { note }),
    suspect: doubts.length > 0,
    suspect_reasons: doubts.map(doubtJson),
    segments: segments.map(segmentJson),
    fallbacks: fallbacks.map(({ start, temperature, reason }) => ({
      start: rounded(start),
      temperature: rounded(temperature),
      reason,
    })),
    decoding: decodingJson(decoding),
    model,
    ...(vad !== null && { vad }),
  };
}

/** A recording that could not be read. */
export function failureJson(file: string, error: string): Record<string, unknown> {
  return { file, text: '', duration: null, error };
}

function audioJson({ duration, sampleRate, channels, format, peak, rms }: AudioFacts): Record<string, unknown> {
  return {
    duration: rounded(duration),
    sample_rate: sampleRate,
    channels,
    format,
    peak: rounded(peak),
    rms: rounded(rms),
  };
}

function doubtJson({ reason, value, limit, start, end }: Doubt): Record<string, unknown> {
  return { reason, value: rounded(value), limit, start: rounded(start), end: rounded(end) };
}

function segmentJson(segment: WhisperSegment, id: number): Record<string, unknown> {
  const { start, end, text, tokens, words } = segment;
  return {
    id,
    start: rounded(start),
    end: rounded(end),
    text: text.trim(),
    tokens: tokens.map((token) => token.id),
    token_texts: tokens.map((token) => token.text),
    token_probabilities: tokens.map(({ probability }) => rounded(probability)),
    temperature: rounded(segment.temperature),
    avg_logprob: rounded(segment.avgLogProb),
    compression_ratio: rounded(compressionRatio(text)),
    no_speech_prob: rounded(segment.noSpeechProb),
    ...(words && {
      words: words.map((word) => ({
        word: word.text,
        start: rounded(word.start),
        end: rounded(word.end),
        probability: rounded(word.probability),
      })),
    }),
  };
}

function rounded(value: number): number {
  return Math.round(value * 1e6) / 1e6;
}
