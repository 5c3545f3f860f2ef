/** A long recording in pieces that Whisper's window holds, cut where it is quietest. */
import { SAMPLE_RATE } from './stream.js';

export interface AudioPiece {
  /** s from the beginning of the recording; a whole number of samples. */
  start: number;
  /** Mono at 16 kHz, at most `longest` seconds. */
  samples: Float32Array;
}

/** Whisper's window, s. */
const WINDOW = 30;
/** A cut is in the middle of the quietest of these stretches, which begin 10 ms apart in the last 40% of the piece. */
const QUIET = SAMPLE_RATE / 10;
const HOP = SAMPLE_RATE / 100;
/** Of a window: its last 40% hold one stretch at least. */
const SHORTEST = 3 * QUIET;

/**
 * Pieces of at most `longest` seconds (at least 0.3), in their order and without gaps. The rule is the engine's for audio that is
 * longer than its window (native/core/whisper_engine.cpp). The cuts do not depend on how the stream comes. Pieces of what comes at once
 * are views of it, without a copy.
 *
 * @param stream mono 16 kHz samples; in memory are at most `longest` seconds and one of its pieces
 */
export async function* quietPieces(
  stream: AsyncIterable<Float32Array> | Iterable<Float32Array>,
  { longest = WINDOW }: { longest?: number } = {},
): AsyncGenerator<AudioPiece, void, undefined> {
  const window = Math.max(SHORTEST, Math.round(longest * SAMPLE_RATE));
  let held: Float32Array = new Float32Array(0);
  let start = 0;
  for await (const piece of stream) {
    held = held.length === 0 ? piece : joined(held, piece);
    while (held.length > window) {
      const cut = quietest(held, window);
      yield { start: start / SAMPLE_RATE, samples: held.subarray(0, cut) };
      held = held.subarray(cut);
      start += cut;
    }
  }
  if (held.length > 0) yield { start: start / SAMPLE_RATE, samples: held };
}

function joined(a: Float32Array, b: Float32Array): Float32Array {
  const both = new Float32Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

function quietest(samples: Float32Array, window: number): number {
  const first = Math.floor(window * 0.6);
  const hops = Math.floor((window - first) / HOP);
  const energies = Array.from({ length: hops }, (_, hop) => {
    let energy = 0;
    for (let i = first + hop * HOP; i < first + (hop + 1) * HOP; i++) energy += samples[i]! * samples[i]!;
    return energy;
  });
  let best = 0;
  let least = Number.POSITIVE_INFINITY;
  for (let hop = 0; hop + QUIET / HOP <= hops; hop++) {
    const energy = energies.slice(hop, hop + QUIET / HOP).reduce((sum, x) => sum + x, 0);
    if (energy < least) {
      least = energy;
      best = hop;
    }
  }
  return first + best * HOP + QUIET / 2;
}
