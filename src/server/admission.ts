/**
 * How many requests there may be. Uploads take no work and are counted apart: a request has a place in the queue only when all of it is
 * there, so that slow senders keep nobody waiting. Whoever is too many is sent away, before the body is read if that is known by then.
 */
import { Slots } from '../slots.js';
import { ApiError } from './api-error.js';

export interface AdmissionLimits {
  /** Worked on at once. */
  parallel: number;
  /** Complete, and waiting for their turn. */
  waiting: number;
  /** Being received. */
  uploads: number;
}

/** s, for a client that is sent away */
const LONGEST_RETRY = 60;

export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #slots: Slots;
  #uploading = 0;
  /** Working and waiting. */
  #queued = 0;
  #working = 0;
  /** s that a request takes, a moving average. */
  #seconds = 1;

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
    this.#slots = new Slots(limits.parallel);
  }

  get counts(): { working: number; waiting: number; uploading: number } {
    return { working: this.#working, waiting: this.#queued - this.#working, uploading: this.#uploading };
  }

  /**
   * Receives a request. It is sent away at once where the queue is full, since it would probably be so afterwards.
   *
   * @throws ApiError 503 with Retry-After where there are too many; what `receive` throws
   */
  async upload<T>(receive: () => Promise<T>): Promise<T> {
    this.#checkQueue();
    if (this.#uploading >= this.#limits.uploads) throw this.#overloaded();
    this.#uploading++;
    try {
      return await receive();
    } finally {
      this.#uploading--;
    }
  }

  /**
   * Works on a request that is complete, when it is its turn.
   *
   * @throws ApiError 503 with Retry-After where the queue is full; the signal's reason if it fires before; what `run` throws
   */
  async work<T>(signal: AbortSignal, run: () => Promise<T>): Promise<T> {
    this.#checkQueue();
    this.#queued++;
    try {
      const release = await this.#slots.take(signal);
      const start = performance.now();
      this.#working++;
      try {
        return await run();
      } finally {
        this.#working--;
        this.#seconds += ((performance.now() - start) / 1000 - this.#seconds) / 4;
        release();
      }
    } finally {
      this.#queued--;
    }
  }

  #checkQueue(): void {
    if (this.#queued >= this.#limits.parallel + this.#limits.waiting) throw this.#overloaded();
  }

  #overloaded(): ApiError {
    const seconds = Math.ceil((this.#seconds * this.#queued) / this.#limits.parallel);
    return new ApiError(503, 'The server is busy: try again later.', {
      code: 'overloaded',
      headers: { 'retry-after': String(Math.min(Math.max(seconds, 1), LONGEST_RETRY)) },
    });
  }
}
