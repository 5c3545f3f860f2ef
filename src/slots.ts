/** A bound on how many do something at once. */
export class Slots {
  #free: number;
  readonly #waiting = new Set<() => void>();

  /** @param count of those that may hold a slot at the same time, at least 1 */
  constructor(count: number) {
    this.#free = count;
  }

  /**
   * A slot, in the order in which they were asked for.
   *
   * @returns what gives the slot back; calling it twice is fine
   * @throws the signal's reason if it fires before there is a slot
   */
  async take(signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted();
    if (this.#free > 0) {
      this.#free--;
    } else {
      await this.#turn(signal);
    }
    let held = true;
    return () => {
      if (held) {
        held = false;
        this.#giveBack();
      }
    };
  }

  #turn(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const turn = () => {
        signal?.removeEventListener('abort', leave);
        resolve();
      };
      const leave = () => {
        this.#waiting.delete(turn);
        reject(signal?.reason);
      };
      this.#waiting.add(turn);
      signal?.addEventListener('abort', leave, { once: true });
    });
  }

  /** The slot goes to the first who waits. */
  #giveBack(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free++;
    } else {
      this.#waiting.delete(next);
      next();
    }
  }
}
