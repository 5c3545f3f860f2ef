/**
 * Many clients at once against the transcription server, on this machine:
 *
 *   node bench/server-load.mjs --clients 50 --seconds 300 --model bundled [--file CLIP] [--parallel N] [--threads N]
 *
 * Starts `dist/cli.js transcribe --serve 0`. Each client sends a recording, reads the whole answer and sends the next; one that gets 503
 * waits as Retry-After says. Prints what came of the requests and how the server's memory went. Exit code 1 if a request was lost (no
 * answer, or another than 200 and 503 with Retry-After), if nothing was answered, or if the server did not end as it should.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Agent, FormData, request } from 'undici';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const { values: flags } = parseArgs({
  options: {
    clients: { type: 'string', default: '50' },
    seconds: { type: 'string', default: '300' },
    model: { type: 'string', default: 'bundled' },
    file: { type: 'string', default: path.join(root, 'assets', 'clips', 'ifeval', '001.ogg') },
    parallel: { type: 'string' },
    threads: { type: 'string' },
  },
});
const clients = positive('clients');
const seconds = positive('seconds');

/** Of the server's memory, ms. */
const SAMPLE_INTERVAL = 1000;
/** A request without an answer after this is lost, ms. */
const ANSWER_LIMIT = 300_000;

function positive(name) {
  const value = Number(flags[name]);
  if (!(value > 0)) throw new Error(`--${name}: expected a number above 0, got '${flags[name]}'`);
  return value;
}

/** The server as a process: its address, its memory, its end. */
class Served {
  #child;
  #errors = '';

  static async start() {
    const served = new Served();
    await served.#listening();
    return served;
  }

  constructor() {
    const optional = ['parallel', 'threads'].flatMap((name) => (flags[name] ? [`--${name}`, flags[name]] : []));
    this.#child = spawn(
      process.execPath,
      [
        path.join(root, 'dist', 'cli.js'),
        ...['transcribe', '--serve', '0', '--log-format', 'json'],
        ...(flags.model === 'bundled' ? [] : ['--model', flags.model]),
        ...optional,
      ],
      { stdio: ['ignore', 'inherit', 'pipe'] },
    );
    this.#child.stderr.setEncoding('utf8').on('data', (text) => {
      this.#errors = `${this.#errors}${text}`.slice(-8000);
    });
  }

  async #listening() {
    while (!/ at http:\S+ until/.test(this.#errors)) {
      if (this.#child.exitCode !== null) throw new Error(`the server ended:\n${this.#errors}`);
      await sleep(20);
    }
    this.url = / at (http:\S+) until/.exec(this.#errors)[1];
  }

  /** Resident, bytes; `peak` is the most since it began. Null where the system has no /proc. */
  memory() {
    try {
      const status = readFileSync(`/proc/${this.#child.pid}/status`, 'utf8');
      const read = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)[1]) * 1024;
      return { now: read('VmRSS'), peak: read('VmHWM') };
    } catch {
      return null;
    }
  }

  /** @returns its exit code */
  async stop() {
    if (this.#child.exitCode !== null) return this.#child.exitCode;
    this.#child.kill('SIGTERM');
    const [code] = await once(this.#child, 'exit');
    return code;
  }
}

/** Sends requests until the end; counts go to `tally`. */
async function client(url, audio, dispatcher, tally, end) {
  while (performance.now() < end) {
    const form = new FormData();
    form.set('model', 'whisper-1');
    form.set('file', new File([audio], path.basename(flags.file)));
    const start = performance.now();
    tally.sent++;
    try {
      const answer = await request(`${url}/audio/transcriptions`, {
        method: 'POST',
        body: form,
        dispatcher,
        headersTimeout: ANSWER_LIMIT,
        bodyTimeout: ANSWER_LIMIT,
      });
      const body = await answer.body.json();
      const retry = Number(answer.headers['retry-after']);
      if (answer.statusCode === 200 && typeof body.text === 'string') {
        tally.texts.add(body.text);
        tally.seconds.push((performance.now() - start) / 1000);
      } else if (answer.statusCode === 503 && retry > 0) {
        tally.sentAway++;
        await sleep(Math.min(retry * 1000, Math.max(0, end - performance.now())));
      } else {
        tally.lost.push(`${answer.statusCode}: ${JSON.stringify(body)}`);
      }
    } catch (error) {
      tally.lost.push(String(error.cause ?? error));
    }
  }
}

/** One reading a second until the signal. */
async function watch(served, readings, signal) {
  while (!signal.aborted) {
    const memory = served.memory();
    if (memory !== null) readings.push(memory);
    await sleep(SAMPLE_INTERVAL, undefined, { signal }).catch(() => {});
  }
}

const MB = 1e6;
const served = await Served.start();
const audio = readFileSync(flags.file);
// As many connections as clients, kept open as a client library keeps them.
const dispatcher = new Agent({ connections: clients, pipelining: 1 });
const tally = { sent: 0, sentAway: 0, seconds: [], texts: new Set(), lost: [] };
const readings = [];
const over = new AbortController();
const watching = watch(served, readings, over.signal);
const begin = performance.now();
await Promise.all(
  Array.from({ length: clients }, () => client(served.url, audio, dispatcher, tally, begin + seconds * 1000)),
);
const took = (performance.now() - begin) / 1000;
over.abort();
await watching;
const last = served.memory();
await dispatcher.close();
const code = await served.stop();

const times = tally.seconds.sort((a, b) => a - b);
const at = (share) => times[Math.min(times.length - 1, Math.floor(times.length * share))]?.toFixed(2) ?? '-';
const quarter = readings[Math.floor(readings.length / 4)];
const answered = times.length;
console.log(`${clients} clients, ${took.toFixed(0)} s, model ${flags.model}, ${path.basename(flags.file)}`);
console.log(`requests         ${tally.sent}`);
console.log(`answered         ${answered} (${(answered / took).toFixed(1)}/s; median ${at(0.5)} s, 99% ${at(0.99)} s)`);
console.log(`different texts  ${tally.texts.size}`);
console.log(`503, Retry-After ${tally.sentAway}`);
console.log(`lost             ${tally.lost.length}`);
if (last === null) console.log('memory           NOT MEASURED: this system has no /proc');
else {
  const [early, end] = [quarter.now, last.now].map((bytes) => (bytes / MB).toFixed(0));
  console.log(`peak RSS         ${(last.peak / MB).toFixed(0)} MB (after a quarter ${early} MB, at the end ${end} MB)`);
}
console.log(`exit code        ${code} after SIGTERM`);
for (const line of [...new Set(tally.lost)].slice(0, 10)) console.log(`lost: ${line}`);
if (tally.lost.length > 0 || answered === 0 || tally.sent !== answered + tally.sentAway || code !== 143) {
  process.exitCode = 1;
}
