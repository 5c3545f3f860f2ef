import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { prometheusText } from '../src/watch/prometheus.js';
import { type RunningWatch, watchRun } from '../src/watch/server.js';

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
  assert.equal(statuses, [404, 404, 404, 404, 403, 400, 400, 403, 431, 405, 405, 405, 400]);
});

test('a viewer gets the state once; with the newest id it is not sent again', async () => {
  const read = async (id?: string) => {
    const controller = new AbortController();
    const response = await fetch(`${server.url}events`, {
      signal: controller.signal,
      headers: id === undefined ? {} : { 'last-event-id': id },
    });
    let text = '';
    setTimeout(() => controller.abort(), 400);
    try {
      for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) text += Buffer.from(chunk);
    } catch {
      // our own abort
    }
    return text;
  };
  const first = await read();
  const id = /^id: (.*)$/m.exec(first)?.[1];
  assert.is(first.match(/^event: state$/gm)?.length, 1);
  assert.not.match(await read(id), /event: state/);
  assert.match(await read('of-another-time'), /event: state/);
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
