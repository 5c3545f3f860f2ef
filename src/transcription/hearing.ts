/**
 * A recording, listened to piece by piece: segments come out as soon as they are final, the transcription when all is heard. What listens
 * to one piece is a parameter, so that it can be Whisper itself or a cache before it.
 */
import type { WhisperResult, WhisperSegment } from '../native/addon.js';
import { SAMPLE_RATE } from '../pipeline/clip.js';
import { whyNoSpeech } from '../pipeline/speech.js';
import { doubts } from './doubt.js';
import { joined, later, type Piece, spokenText, type Transcription } from './transcription.js';
import { Voiced } from './voiced.js';

export interface RecordedPiece {
  /** Where the piece begins in the recording, s. */
  start: number;
  /** Mono at 16 kHz in [-1, 1]. */
  samples: Float32Array;
}

/** Writes down one piece. It may tell segments before it is done; those that it has not told are taken from the result. */
export type Listen = (
  samples: Float32Array,
  language: string,
  onSegment: (segment: WhisperSegment) => void,
  signal: AbortSignal,
) => Promise<WhisperResult>;

/** A segment with the times of the recording. */
export interface HeardSegment extends WhisperSegment {
  /** What the text of the recording grows by; put together these are the text. '' for a segment without a word. */
  delta: string;
}

/** A transcription, and how much was heard. */
export interface Heard extends Transcription {
  /** Of the recording, s. */
  duration: number;
}

/**
 * Pieces without speech are not given to Whisper, which would invent words. The first piece with speech decides the language of the
 * recording. Leaving the iteration aborts what is under way and waits for its end.
 *
 * @param pieces in the order of time
 * @param language ISO code or 'auto'
 * @throws what `pieces` and `listen` throw, and the signal's reason
 */
export async function* hear(
  pieces: AsyncIterable<RecordedPiece> | Iterable<RecordedPiece>,
  listen: Listen,
  language: string,
  signal?: AbortSignal,
): AsyncGenerator<HeardSegment, Heard, void> {
  const spoken: Piece[] = [];
  const silences: string[] = [];
  const voiced = new Voiced();
  const text = new GrowingText();
  let languageProbability = 1;
  let duration = 0;
  for await (const { start, samples } of pieces) {
    signal?.throwIfAborted();
    voiced.add(samples);
    duration = start + samples.length / SAMPLE_RATE;
    const silence = whyNoSpeech(samples);
    if (silence !== null) {
      silences.push(silence);
      continue;
    }
    text.beginPiece();
    const result = yield* heardPiece(listen, samples, language, signal, (segment) => ({
      ...later(segment, start),
      delta: text.grow(segment.text),
    }));
    if (spokenText(result) === '') {
      silences.push('Whisper hears none');
      continue;
    }
    if (spoken.length === 0) {
      ({ language, languageProbability } = result);
    }
    spoken.push({ start, result });
  }
  const whole = { ...joined(spoken), duration };
  return {
    ...whole,
    language: language === 'auto' ? null : language,
    languageProbability: language === 'auto' ? null : languageProbability,
    note: whole.text === '' ? (silences[0] ?? 'it is empty') : null,
    doubts: doubts({
      ...whole,
      language,
      languageProbability,
      voicedSeconds: (start, end) => voiced.seconds(start, end),
    }),
  };
}

/**
 * The segments of one piece as soon as they are final. Notes such as "[music]" are held back until a segment with speech follows: a
 * piece of nothing else has no text.
 */
async function* heardPiece(
  listen: Listen,
  samples: Float32Array,
  language: string,
  outer: AbortSignal | undefined,
  placed: (segment: WhisperSegment) => HeardSegment,
): AsyncGenerator<HeardSegment, WhisperResult, void> {
  const controller = new AbortController();
  const abort = () => controller.abort(outer?.reason);
  outer?.addEventListener('abort', abort, { once: true });
  const ready: WhisperSegment[] = [];
  const notes: WhisperSegment[] = [];
  let told = 0;
  let speaks = false;
  let done = false;
  let wake = () => {};
  const work = listen(
    samples,
    language,
    (segment) => {
      told++;
      ready.push(segment);
      wake();
    },
    controller.signal,
  ).finally(() => {
    done = true;
    wake();
  });
  work.catch(() => {}); // thrown below, where it is awaited
  const settled = () => done;
  try {
    while (!settled()) {
      if (ready.length === 0) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      yield* release();
    }
    const result = await work;
    ready.push(...result.segments.slice(told));
    yield* release();
    return result;
  } finally {
    controller.abort();
    outer?.removeEventListener('abort', abort);
    await work.catch(() => {});
  }

  function* release(): Generator<HeardSegment, void, void> {
    for (let segment = ready.shift(); segment !== undefined; segment = ready.shift()) {
      notes.push(segment);
      speaks ||= spokenText(segment) !== '';
      while (speaks && notes.length > 0) {
        yield placed(notes.shift()!);
      }
    }
  }
}

/** The text of a recording while it grows, to be the same as `joined` makes it in the end. */
class GrowingText {
  /** Space that stands before the next word, if one comes. */
  #gap = '';
  #isEmpty = true;
  #pieceIsEmpty = true;

  beginPiece(): void {
    this.#gap = this.#isEmpty ? '' : ' ';
    this.#pieceIsEmpty = true;
  }

  /** @param text of the next segment @returns what it adds */
  grow(text: string): string {
    const said = this.#pieceIsEmpty ? text.trimStart() : text;
    const kept = said.trimEnd();
    if (kept === '') {
      this.#gap += said;
      return '';
    }
    const delta = this.#gap + kept;
    this.#gap = said.slice(kept.length);
    this.#isEmpty = false;
    this.#pieceIsEmpty = false;
    return delta;
  }
}
