/** Threads that workers share: each call takes an equal part of those that are free, and one that is alone takes all. */
export class SharedThreads {
  #free: number;
  #workers: number;
  #running = 0;

  /** @param count threads of all workers together, at least 1 @param workers that will make calls, one at a time each */
  constructor(
    private readonly count: number,
    workers: number,
  ) {
    this.#free = count;
    this.#workers = workers;
  }

  /** Another worker will make calls. It does not wait for threads: until those that took its part are done, more than `count` run. */
  join(): void {
    this.#workers++;
  }

  /** A worker makes no more calls. */
  leave(): void {
    this.#workers--;
  }

  /** Runs a call with the threads that are its part now, at least 1. */
  async use<T>(call: (threads: number) => Promise<T>): Promise<T> {
    const least = Math.floor(this.count / this.#workers);
    const others = this.#workers - this.#running - 1; // who may come yet
    const threads = Math.max(1, least, Math.min(Math.ceil(this.count / this.#workers), this.#free - others * least));
    this.#free -= threads;
    this.#running++;
    try {
      return await call(threads);
    } finally {
      this.#free += threads;
      this.#running--;
    }
  }
}
