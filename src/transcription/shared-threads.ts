/** Threads that workers share: each call takes an equal part, and the calls of those that remain take what others have left. */
export class SharedThreads {
  #free: number;
  #workers: number;

  /** @param count threads of all workers together, at least 1 @param workers that will make calls, one at a time each */
  constructor(
    private readonly count: number,
    workers: number,
  ) {
    this.#free = count;
    this.#workers = workers;
  }

  /** Runs a call with the threads that are its part now, at least 1. */
  async use<T>(call: (threads: number) => Promise<T>): Promise<T> {
    const threads = Math.max(1, Math.min(this.#free, Math.ceil(this.count / this.#workers)));
    this.#free -= threads;
    try {
      return await call(threads);
    } finally {
      this.#free += threads;
    }
  }

  /** A worker makes no more calls. */
  leave(): void {
    this.#workers = Math.max(1, this.#workers - 1);
  }
}
