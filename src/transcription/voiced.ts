/** Where in a recording there is sound above its floor: as much of it as speech can be in. */
import { SAMPLE_RATE } from '../audio/stream.js';
import { frameLevels } from '../pipeline/speech.js';

/** s */
const FRAME = 0.03;
/** Frames quieter than this are silence, dB of full scale. */
const SILENCE_DB = -60;
/** Above the quiet frames (10%) by this much, dB: steady noise varies by less. */
const ABOVE_FLOOR_DB = 6;
/** Below the loud frames (95%) by at most this much, dB. */
const BELOW_LOUD_DB = 25;

/** Loudness of a recording, piece by piece, so that hours of it take four bytes for each 30 ms. */
export class Voiced {
  /** dB of each frame; grows by doubling. */
  #levels = new Float32Array(1024);
  #frames = 0;
  /** Samples behind the last whole frame: the next piece goes on from them, so that a frame's time is its index. */
  #rest = new Float32Array(0);

  /** @param samples mono at 16 kHz, the next piece */
  add(samples: Float32Array): void {
    const joined = new Float32Array(this.#rest.length + samples.length);
    joined.set(this.#rest);
    joined.set(samples, this.#rest.length);
    const levels = frameLevels(joined);
    this.#rest = joined.slice(Math.round(levels.length * FRAME * SAMPLE_RATE));
    if (this.#frames + levels.length > this.#levels.length) {
      const larger = new Float32Array(Math.max(2 * this.#levels.length, this.#frames + levels.length));
      larger.set(this.#levels);
      this.#levels = larger;
    }
    this.#levels.set(levels, this.#frames);
    this.#frames += levels.length;
  }

  /** Seconds of sound in [start, end), s, measured against that stretch's own floor and loudness. */
  seconds(start: number, end: number): number {
    const levels = this.#levels.subarray(
      Math.min(this.#frames, Math.floor(start / FRAME)),
      Math.min(this.#frames, Math.ceil(end / FRAME)),
    );
    if (levels.length === 0) {
      return 0;
    }
    const sorted = levels.slice().sort();
    const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
    const least = Math.max(SILENCE_DB, at(0.95) - BELOW_LOUD_DB, Math.max(at(0.1), -100) + ABOVE_FLOOR_DB);
    return levels.filter((level) => level >= least).length * FRAME;
  }
}
