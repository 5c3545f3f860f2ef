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

/** How far the listening to recordings is, and the time that it will take at the pace so far. */
export class Listening {
  readonly #start = performance.now();
  #shown = this.#start; // the first seconds say nothing of the pace
  #done = 0;
  /** Seconds heard, of recordings that are done. */
  #before = 0;
  /** Seconds heard, of those that are under way. */
  readonly #current = new Map<string, number>();

  /** @param count of recordings */
  constructor(
    private readonly progress: Progress,
    private readonly count: number,
  ) {}

  /** @param heard s of this recording @param total s, null where it is not known */
  at(name: string, heard: number, total: number | null): void {
    this.#current.set(name, heard);
    const now = performance.now();
    if (now - this.#shown < (this.progress.live ? 100 : 10_000)) {
      return;
    }
    this.#shown = now;
    this.progress.update(this.#line(name, heard, total, (now - this.#start) / 1000), true);
  }

  /** @param name as `at` was told it */
  done(name: string): void {
    this.#before += this.#current.get(name) ?? 0;
    this.#current.delete(name);
    this.#done++;
  }

  #line(name: string, heard: number, total: number | null, elapsed: number): string {
    const all = [...this.#current.values()].reduce((sum, each) => sum + each, this.#before);
    const done = this.#done;
    const pace = all / elapsed;
    const parts: string[] = [];
    let left: number | null = null;
    if (this.count > 1) {
      parts.push(`${done} of ${this.count} recordings`);
      left = done === 0 ? null : ((this.count - done) * elapsed) / done;
    } else {
      left = total === null ? null : (total - heard) / pace;
    }
    if (this.count === 1 || (total ?? heard) > LONG) {
      parts.push(`${name}: ${clock(heard)}${total === null ? '' : ` of ${clock(total)}`}`);
    }
    parts.push(`${pace.toFixed(1)} times real time`);
    if (left !== null) {
      parts.push(`${clock(Math.max(0, left))} left`);
    }
    return parts.join(', ');
  }
}

/** Among several recordings only those that last longer than this are told of by themselves, s. */
const LONG = 60;

/** 75 s as '1:15', 3675 s as '1:01:15'. */
function clock(seconds: number): string {
  const whole = Math.round(seconds);
  const two = (value: number) => String(value).padStart(2, '0');
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
