import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { readRun, waitingRun } from '../src/report/reader.js';
import type { RunData } from '../src/report/run-data.js';
import { truncateLines } from '../src/run/folder.js';
import { type Change, withDelta } from '../src/watch/delta.js';
import { StateHistory } from '../src/watch/history.js';
import { prometheusText } from '../src/watch/prometheus.js';
import { type RunningWatch, watchRun } from '../src/watch/server.js';
import { addEvaluation, addStep, makeRun } from './run-folder.js';

const test = suite('watch');
const work = mkdtempSync(join(tmpdir(), 'voicegrpo-watch-'));
let server: RunningWatch;

test.before(async () => {
  server = await watchRun({ run: join(work, 'none-yet'), port: 0, interval: 50 });
});
test.after(async () => {
  await server.stop();
  rmSync(work, { recursive: true, force: true });
});

/** The status of a request as it stands on the line. */
async function raw(text: string): Promise<number> {
  const socket = connect(server.port, '127.0.0.1');
  socket.on('error', () => {});
  let answer = '';
  socket.on('data', (chunk) => {
    answer += chunk;
  });
  socket.write(text);
  await once(socket, 'close');
  return Number(answer.split(' ')[1]);
}
const get = (target: string, ...headers: string[]) =>
  raw(
    [
      `GET ${target} HTTP/1.1`,
      ...(headers.length > 0 ? headers : ['Host: localhost']),
      'Connection: close',
      '',
      '',
    ].join('\r\n'),
  );

test('a run that has not begun has a page, with a policy, and numbers', async () => {
  const response = await fetch(server.url);
  assert.is(response.status, 200);
  assert.match(response.headers.get('content-security-policy') ?? '', /default-src 'none'.*frame-ancestors 'none'/);
  assert.match(await response.text(), /"state":"waiting"/);
  assert.match(await (await fetch(`${server.url}metrics`)).text(), /voicegrpo_step\{run="none-yet"\} 0/);
});

test('hostile requests get nothing', async () => {
  const statuses = await Promise.all([
    get('/../../etc/passwd'),
    get('/%2e%2e/config.json'),
    get('/config.json'),
    get('/events?after=<x>'),
    get('//etc/passwd'),
    get('/', 'Host: evil.example'),
    get('/', 'X: no host'),
    get('/', 'Host: localhost', 'Host: localhost'),
    get('/events', 'Host: localhost', 'Origin: http://evil.example'),
    get('/', 'Host: localhost', `X: ${'a'.repeat(20_000)}`),
    raw('DELETE / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'),
    raw('POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc'),
    raw('CONNECT evil.example:80 HTTP/1.1\r\nHost: localhost\r\n\r\n'),
    raw('nonsense\r\n\r\n'),
  ]);
  assert.equal(statuses, [404, 404, 404, 404, 404, 403, 400, 400, 403, 431, 405, 405, 405, 400]);
});

/** What one viewer was sent, and the state that a page makes of it. */
class Viewer {
  readonly events: { name: string; id: string; data: string }[] = [];
  state: RunData | null;
  readonly #controller = new AbortController();
  readonly #done: Promise<void>;

  constructor(
    url: string,
    {
      query = '',
      lastEventId,
      state = null,
    }: { query?: string; lastEventId?: string | undefined; state?: RunData | null } = {},
  ) {
    this.state = state;
    const headers: Record<string, string> = lastEventId === undefined ? {} : { 'last-event-id': lastEventId };
    this.#done = this.#read(`${url}events${query}`, headers).catch(() => {}); // our own abort, or a server that ended
  }

  get id(): string | undefined {
    return this.events.at(-1)?.id;
  }

  async #read(address: string, headers: Record<string, string>): Promise<void> {
    const response = await fetch(address, { signal: this.#controller.signal, headers });
    let text = '';
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      text += Buffer.from(chunk).toString();
      const blocks = text.split('\n\n');
      text = blocks.pop() as string;
      for (const block of blocks)
        this.#take(new Map(block.split('\n').map((line) => line.split(/: (.*)/s).slice(0, 2) as [string, string])));
    }
  }

  #take(fields: Map<string, string>): void {
    const data = fields.get('data');
    if (data === undefined) return;
    const name = fields.get('event') as string;
    if (name === 'state') {
      this.state = JSON.parse(data);
    } else {
      const change: Change = JSON.parse(data);
      assert.is(change.after, this.id ?? change.after, 'changes follow each other');
      this.state = withDelta(this.state as RunData, change);
    }
    this.events.push({ name, id: fields.get('id') as string, data });
  }

  /** Until the run that it shows is as `isIt` asks. */
  async until(isIt: (state: RunData) => boolean): Promise<RunData> {
    for (let i = 0; i < 600; i++) {
      if (this.state !== null && isIt(this.state)) return this.state;
      await setTimeout(20);
    }
    assert.unreachable(`not sent: ${isIt}; ${this.events.length} events`);
    throw new Error();
  }

  async close(): Promise<void> {
    this.#controller.abort();
    await this.#done;
  }
}

const asJson = (path: string) => JSON.parse(JSON.stringify(readRun(path)));

test('viewers are sent what changed and see the same; one that was away gets what it missed, the state only where it must', async () => {
  const path = join(work, 'watched');
  await using first = await watchRun({ run: path, port: 0, interval: 30 });
  const one = new Viewer(first.url);
  await one.until(({ state }) => state === 'waiting');
  makeRun(path);
  await one.until(({ state }) => state === 'running');
  const two = new Viewer(first.url);
  const away = new Viewer(first.url);
  for (let step = 1; step <= 3; step++) {
    addStep(path, step);
    for (const viewer of [one, two, away]) await viewer.until(({ steps }) => steps === step);
  }
  const { id: lastSeen, state: lastState } = away;
  await away.close();
  for (let step = 4; step <= 6; step++) {
    addStep(path, step);
    await one.until(({ steps }) => steps === step);
  }
  addEvaluation(path, 6, 'held-out', 0.9);
  for (const viewer of [one, two])
    assert.equal(await viewer.until(({ after }) => after?.accuracy === 0.9), asJson(path));
  assert.equal(one.events.slice(-3), two.events.slice(-3));
  assert.is(one.events.filter(({ name }) => name === 'state').length, 1);
  const size = one.events.at(-2)?.data.length as number;
  assert.ok(size < JSON.stringify(one.state).length / 4, `a step is ${size} characters`);

  const back = new Viewer(first.url, { lastEventId: lastSeen, state: lastState });
  assert.equal(await back.until(({ after }) => after?.accuracy === 0.9), asJson(path));
  assert.ok(back.events.length >= 4 && back.events.every(({ name }) => name === 'change'), 'what it missed, no more');

  const loaded = new Viewer(first.url, { query: `?after=${lastSeen}`, state: lastState });
  assert.equal(await loaded.until(({ after }) => after?.accuracy === 0.9), asJson(path));
  const newest = new Viewer(first.url, { query: `?after=${lastSeen}`, lastEventId: one.id, state: one.state });
  addStep(path, 7);
  await newest.until(({ steps }) => steps === 7);
  assert.is(newest.events.length, 1, 'the header is newer than the address');
  assert.is(newest.events[0]?.name, 'change');

  // The run was killed and is resumed after step 3.
  for (const name of ['metrics', 'completions', 'evaluations']) truncateLines(join(path, `${name}.jsonl`), 3);
  addStep(path, 4, 77);
  for (const viewer of [one, two]) {
    assert.equal(
      await viewer.until(({ steps, metrics }) => steps === 4 && metrics.at(-1)?.reward === 77),
      asJson(path),
    );
    assert.is(viewer.state?.completions.length, 16);
    assert.is(viewer.events.filter(({ name }) => name === 'state').length, 1);
  }

  // Another server in its place: whoever has the newest state goes on from there, others get the state once.
  const known = { lastEventId: one.id, state: one.state };
  const { port } = first;
  await first.stop();
  await using second = await watchRun({ run: path, port, interval: 30 });
  const goesOn = new Viewer(second.url, known);
  const older = new Viewer(second.url, { lastEventId: lastSeen, state: lastState });
  assert.equal(await older.until(({ steps }) => steps === 4), asJson(path));
  assert.equal(
    older.events.map(({ name }) => name),
    ['state'],
  );
  addStep(path, 5);
  for (const viewer of [goesOn, older]) assert.equal(await viewer.until(({ steps }) => steps === 5), asJson(path));
  assert.is(
    goesOn.events.every(({ name }) => name === 'change'),
    true,
  );
  for (const viewer of [one, two, back, loaded, newest, goesOn, older]) await viewer.close();
});

test('the page says from which state on it asks for changes', async () => {
  const path = join(work, 'paged');
  makeRun(path);
  await using watch = await watchRun({ run: path, port: 0, interval: 30 });
  const html = await (await fetch(watch.url)).text();
  const tag = /data-live="([^"]+)"/.exec(html)?.[1];
  const state = JSON.parse(/id="data">([^<]*)</.exec(html)?.[1] as string);
  const viewer = new Viewer(watch.url, { query: `?after=${tag}`, state });
  addStep(path, 1);
  assert.equal(await viewer.until(({ steps }) => steps === 1), asJson(path));
  assert.equal(
    viewer.events.map(({ name }) => name),
    ['change'],
  );
  await viewer.close();
});

test('changes are remembered up to a limit; who missed more gets the state', () => {
  const history = new StateHistory('t0', waitingRun('x'));
  for (let n = 1; n <= 600; n++) history.advance(`t${n}`, { ...waitingRun('x'), steps: n });
  assert.is(history.since('t600'), '');
  assert.is(history.since('t599').match(/^event: change$/gm)?.length, 1);
  assert.is(history.since('t50').match(/^event: state$/gm)?.length, 1);
  assert.is(history.since(undefined).match(/^event: state$/gm)?.length, 1);
  assert.match(history.since('t300'), /^id: t600\nevent: state\n/, 'a short state rather than many changes');
});

test('Prometheus: names and label are escaped, the newest value of each', () => {
  const text = prometheusText({
    name: 'a"b\\c\n',
    state: 'running',
    metrics: [
      { step: 1, 'rewards/x/mean': 0.5, kl: null },
      { step: 2, 'rewards/x/mean': 0.75 },
    ],
  });
  assert.match(text, /^voicegrpo_rewards_x_mean\{run="a\\"b\\\\c\\n"\} 0\.75$/m);
  assert.match(text, /^voicegrpo_finished\{.*\} 0$/m);
  assert.not.match(text, /_kl/);
});

test.run();
