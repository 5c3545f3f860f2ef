/** A transcription as the OpenAI API answers it. */
import type { WhisperSegment, WhisperToken } from '../native/addon.js';
import { compressionRatio } from '../transcription/compression-ratio.js';
import { srt } from '../transcription/srt.js';
import { vtt } from '../transcription/vtt.js';
import type { WhisperTranscription } from '../whisper.js';
import { languageName } from './language-name.js';
import type { Parameters, ResponseFormat, Task } from './parameters.js';

export interface Answer {
  contentType: string;
  body: string;
}

const JSON_TYPE = 'application/json; charset=utf-8';
const TEXT_TYPE = 'text/plain; charset=utf-8';

export function jsonAnswer(value: unknown): Answer {
  return { contentType: JSON_TYPE, body: JSON.stringify(value) };
}

const WRITERS: Record<ResponseFormat, (heard: WhisperTranscription, parameters: Parameters) => Answer> = {
  json: (heard, { logprobs }) =>
    jsonAnswer({
      text: heard.text,
      ...(logprobs && { logprobs: heard.segments.flatMap(({ tokens }) => tokens.map(logprob)) }),
      usage: usage(heard),
    }),
  text: ({ text }) => ({ contentType: TEXT_TYPE, body: `${text}\n` }),
  srt: ({ segments }) => ({ contentType: TEXT_TYPE, body: srt(segments) }),
  vtt: ({ segments }) => ({ contentType: 'text/vtt; charset=utf-8', body: vtt(segments) }),
  verbose_json: (heard, { task, granularities }) =>
    jsonAnswer({
      task,
      language: writtenLanguage(heard, task),
      duration: rounded(heard.duration),
      text: heard.text,
      ...(granularities.has('segment') && { segments: heard.segments.map(verboseSegment) }),
      ...(granularities.has('word') && {
        words: (heard.words ?? []).map(({ text, start, end }) => ({
          word: text.trim(),
          start: rounded(start),
          end: rounded(end),
        })),
      }),
      usage: usage(heard),
    }),
};

export function answerOf(heard: WhisperTranscription, parameters: Parameters): Answer {
  return WRITERS[parameters.format](heard, parameters);
}

/** Of what is written, which is English for a translation. The API has a name there, also where nothing was said. */
function writtenLanguage({ language }: WhisperTranscription, task: Task): string {
  const code = task === 'translate' ? 'en' : language;
  return code === null ? 'unknown' : languageName(code);
}

/** Server-sent events: `transcript.text.delta` for each segment, `transcript.text.done` at the end. */
export function deltaEvent(delta: string, segment: WhisperSegment, { logprobs }: Parameters): string {
  return event({
    type: 'transcript.text.delta',
    delta,
    ...(logprobs && { logprobs: segment.tokens.map(logprob) }),
  });
}

export function doneEvent({ text, segments }: WhisperTranscription, { logprobs }: Parameters): string {
  return event({
    type: 'transcript.text.done',
    text,
    ...(logprobs && { logprobs: segments.flatMap(({ tokens }) => tokens.map(logprob)) }),
  });
}

export function event(data: object): string {
  return `data: ${JSON.stringify(data)}\n\n`;
}

function verboseSegment(segment: WhisperSegment, id: number): object {
  return {
    id,
    seek: Math.round(segment.start * 100), // in frames of 10 ms
    start: rounded(segment.start),
    end: rounded(segment.end),
    text: segment.text,
    tokens: segment.tokens.map((token) => token.id),
    temperature: rounded(segment.temperature),
    avg_logprob: rounded(segment.avgLogProb),
    compression_ratio: rounded(compressionRatio(segment.text)),
    no_speech_prob: rounded(segment.noSpeechProb),
  };
}

function logprob({ text, logProb }: WhisperToken): object {
  return { token: text, logprob: rounded(logProb), bytes: [...Buffer.from(text)] };
}

function usage({ duration }: WhisperTranscription): object {
  return { type: 'duration', seconds: Math.ceil(duration) };
}

function rounded(value: number): number {
  return Math.round(value * 1e6) / 1e6;
}
