/** Progress on stderr: one line updated in place on a terminal, plain lines elsewhere. */
import type { Writable } from 'node:stream';

export class Progress {
  readonly #stream: Writable & { isTTY?: boolean; columns?: number };
  #open = false;

  constructor(stream: Writable & { isTTY?: boolean; columns?: number }) {
    this.#stream = stream;
  }

  get live(): boolean {
    return this.#stream.isTTY === true;
  }

  /** A state that the next one replaces. Elsewhere than on a terminal it is a line if `plain` is true, else nothing. */
  update(text: string, plain: boolean): void {
    if (this.live) {
      this.#stream.write(`\r\u001b[2K${text.slice(0, Math.max(20, (this.#stream.columns ?? 80) - 1))}`);
      this.#open = true;
    } else if (plain) {
      this.#stream.write(`${text}\n`);
    }
  }

  /** A line that stays. */
  line(text: string): void {
    this.end();
    this.#stream.write(`${text}\n`);
  }

  /** Leaves what is shown and begins a new line. */
  end(): void {
    if (this.#open) {
      this.#stream.write('\n');
      this.#open = false;
    }
  }
}

/** How far a transfer is: bytes, and the time it will take at the pace so far. */
export class Transfer {
  readonly #start = performance.now();
  #shown = this.#start; // the first pieces say nothing of the pace

  constructor(
    private readonly progress: Progress,
    private readonly name: string,
    private readonly total: number,
    private readonly verb = 'fetched',
  ) {}

  /** @param bytes so far, by this process */
  at(bytes: number, total = this.total): void {
    const now = performance.now();
    const step = this.progress.live ? 100 : 10_000;
    if (now - this.#shown < step) {
      return;
    }
    this.#shown = now;
    const left = Math.round((((now - this.#start) / 1000) * Math.max(0, total - bytes)) / Math.max(1, bytes));
    const mega = (n: number) => (n / 1e6).toFixed(1);
    this.progress.update(
      `${this.name}: ${this.verb} ${mega(bytes)} of ${mega(Math.max(total, bytes))} MB, ${left} s left`,
      true,
    );
  }
}
