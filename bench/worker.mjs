/**
 * One side of a comparison: a process that says when it is ready and then does its work once for each line on stdin.
 *
 *   out: {"ready": true, ...}                  after a first, unmeasured round
 *   in:  an empty line                         out: {"seconds": s, ...}
 *   in:  end of input                          out: {"peak_rss_bytes": b}, and the process ends
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** The child's side. `round` returns what to report besides the seconds; its own `seconds` wins over the measured ones. */
export async function serve(ready, round) {
  const say = (record) => process.stdout.write(`${JSON.stringify(record)}\n`);
  await round();
  say({ ready: true, ...ready });
  for await (const _ of createInterface({ input: process.stdin })) {
    const start = performance.now();
    const report = await round();
    say({ seconds: (performance.now() - start) / 1000, ...report });
  }
  say({ peak_rss_bytes: process.resourceUsage().maxRSS * 1024 });
}

/** The caller's side. */
export class Worker {
  #child;
  #lines;
  #name;

  constructor(name, command, args) {
    this.#name = name;
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    let errors = '';
    this.#child.stderr.on('data', (chunk) => {
      errors = `${errors}${chunk}`.slice(-4000);
    });
    this.#child.stdin.on('error', () => {}); // it has ended: the next record says so
    const ended = new Promise((resolve) => {
      this.#child.on('error', (error) => resolve(error.message));
      this.#child.on('close', (code) => resolve(`exit code ${code}\n${errors}`));
    });
    this.#lines = this.#records(ended);
  }

  async *#records(ended) {
    for await (const line of createInterface({ input: this.#child.stdout })) {
      if (line.startsWith('{')) {
        yield JSON.parse(line);
      }
    }
    throw new Error(`${this.#name} ended early: ${await ended}`);
  }

  async #next() {
    return (await this.#lines.next()).value;
  }

  ready() {
    return this.#next();
  }

  round() {
    this.#child.stdin.write('\n');
    return this.#next();
  }

  close() {
    this.#child.stdin.end();
    return this.#next();
  }

  kill() {
    this.#child.kill('SIGKILL');
  }
}
