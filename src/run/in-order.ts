/** Values that come in any order, told in that of their indices. */
export class InOrder<T> {
  readonly #waiting = new Map<number, T>();
  #next = 0;

  constructor(private readonly tell: (value: T) => void) {}

  /** Tells the value once all before it are told. */
  put(index: number, value: T): void {
    this.#waiting.set(index, value);
    for (; this.#waiting.has(this.#next); this.#next++) {
      this.#told(this.#next);
    }
  }

  /** No more will come: tells those that still wait for one before them. */
  flush(): void {
    for (const index of [...this.#waiting.keys()].sort((a, b) => a - b)) {
      this.#told(index);
    }
  }

  #told(index: number): void {
    const value = this.#waiting.get(index) as T;
    this.#waiting.delete(index);
    this.tell(value);
  }
}
