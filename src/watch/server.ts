/**
 * Serves one run on the loopback: its page, its events and its numbers. There are three addresses and no files, so no path leads
 * anywhere else.
 *
 * An event is the whole state of the page with a tag of the files it was read from as its id. A viewer that comes back with the newest
 * tag gets nothing again; one with any other tag (the run was resumed and its files cut, or this server was restarted) gets the state.
 */
import { statSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';
import { problem } from '../errors.js';
import { type RunData, readRun, waitingRun } from '../report/data.js';
import { embeddedJson, page } from '../report/page.js';
import { isRun } from '../run/folder.js';
import { ApiError } from '../server/api-error.js';
import { hostCheck, inUrl } from '../server/host-check.js';
import { MAX_HEAD, parseErrorAnswer, rawAnswer } from '../server/parse-errors.js';
import { prometheusText } from './prometheus.js';

const FILES = [
  'config.json',
  'metrics.jsonl',
  'evaluations.jsonl',
  'completions.jsonl',
  'influence.json',
  'evaluation.json',
];
const MAX_VIEWERS = 32;
/** Unsent bytes at which a viewer that does not read is dropped. */
const MAX_BACKLOG = 16e6;
const HEARTBEAT_MS = 15_000;

export interface WatchOptions {
  run: string;
  /** 0: any that is free. */
  port: number;
  host?: string;
  /** How often the files are looked at, ms. */
  interval?: number;
}

export interface RunningWatch extends AsyncDisposable {
  url: string;
  port: number;
  stop(): Promise<void>;
}

/** Changes with every write, cut and replacement of the run's files. */
export function runTag(run: string): string {
  return FILES.map((name) => {
    try {
      const { ino, size, mtimeMs } = statSync(join(run, name));
      return `${ino.toString(36)}.${size.toString(36)}.${Math.round(mtimeMs).toString(36)}`;
    } catch {
      return '-';
    }
  }).join('_');
}

/** @throws VoiceGrpoError E_CONFIG for an address that cannot be listened on */
export async function watchRun({ run, port, host = '127.0.0.1', interval = 500 }: WatchOptions): Promise<RunningWatch> {
  const path = resolve(run);
  const checkHost = hostCheck(host);
  const viewers = new Set<ServerResponse>();
  let current: { tag: string; data: RunData } = { tag: '', data: waitingRun(path) };

  const refresh = (): boolean => {
    const tag = runTag(path);
    if (tag === current.tag) return false;
    try {
      current = { tag, data: isRun(path) ? readRun(path) : waitingRun(path) };
      return true;
    } catch {
      return false; // in the middle of being written: looked at again
    }
  };
  const send = (viewer: ServerResponse) => {
    if (viewer.writableLength > MAX_BACKLOG) viewer.destroy();
    else viewer.write(`id: ${current.tag}\nevent: state\ndata: ${embeddedJson(current.data)}\n\n`);
  };

  const answer = (request: IncomingMessage, response: ServerResponse): unknown => {
    checkHost(request);
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      throw new ApiError(405, 'Only GET and HEAD.', { code: 'method_not_allowed', headers: { allow: 'GET, HEAD' } });
    }
    const common = {
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'cross-origin-resource-policy': 'same-origin',
      'x-frame-options': 'DENY',
    };
    const whole = (type: string, body: string, headers: Record<string, string> = {}) => {
      response.writeHead(200, {
        ...common,
        ...headers,
        'content-type': type,
        'content-length': Buffer.byteLength(body),
      });
      response.end(request.method === 'HEAD' ? undefined : body);
    };
    refresh();
    switch (request.url) {
      case '/': {
        const { html, policy } = page(current.data, true);
        return whole('text/html; charset=utf-8', html, {
          'content-security-policy': `${policy}; frame-ancestors 'none'`,
        });
      }
      case '/metrics':
        return whole('text/plain; version=0.0.4; charset=utf-8', prometheusText(current.data));
      case '/events': {
        if (viewers.size >= MAX_VIEWERS) {
          throw new ApiError(503, `${MAX_VIEWERS} viewers are watching already.`, { code: 'too_many_viewers' });
        }
        response.writeHead(200, { ...common, 'content-type': 'text/event-stream; charset=utf-8' });
        if (request.method === 'HEAD') {
          response.end();
          return;
        }
        response.write('retry: 1000\n\n');
        viewers.add(response);
        response.on('close', () => viewers.delete(response));
        if (request.headers['last-event-id'] !== current.tag) send(response);
        return;
      }
      default:
        throw new ApiError(404, 'There is nothing here: /, /events and /metrics.', { code: 'not_found' });
    }
  };

  const server = createServer({
    maxHeaderSize: MAX_HEAD,
    headersTimeout: 10_000,
    requestTimeout: 10_000,
    requireHostHeader: false,
  });
  server.maxConnections = 128;
  server.on('request', (request, response) => {
    response.on('error', () => {});
    try {
      answer(request, response);
    } catch (error) {
      const known = error instanceof ApiError ? error : new ApiError(500, 'The server failed.');
      response.writeHead(known.status, {
        'content-type': 'application/json; charset=utf-8',
        connection: 'close',
        ...known.headers,
      });
      response.end(JSON.stringify(known.body));
    }
  });
  const refuse = (socket: import('node:stream').Duplex, error: ApiError | null) => {
    socket.on('error', () => {});
    if (error === null || !socket.writable) socket.destroy();
    else socket.end(rawAnswer(error), () => socket.destroy());
  };
  server.on('clientError', (error, socket) => refuse(socket, parseErrorAnswer(error)));
  server.on('connect', (_request, socket) => refuse(socket, new ApiError(405, 'This server is no proxy.')));
  await new Promise<void>((done, failed) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      failed(
        problem({
          code: 'E_CONFIG',
          where: `${host}:${port}`,
          expected: 'an address with a free port',
          got: error.code ?? error.message,
          next: 'Name another --port; 0 takes any that is free.',
        }),
      ),
    );
    server.listen(port, host, done);
  });
  const look = setInterval(() => {
    if (refresh()) for (const viewer of viewers) send(viewer);
  }, interval);
  const beat = setInterval(() => {
    for (const viewer of viewers) viewer.write(': alive\n\n');
  }, HEARTBEAT_MS);
  const stop = async () => {
    clearInterval(look);
    clearInterval(beat);
    const closed = new Promise<void>((done) => server.close(() => done()));
    server.closeAllConnections();
    await closed;
  };
  const listening = (server.address() as AddressInfo).port;
  return { url: `http://${inUrl(host)}:${listening}/`, port: listening, stop, [Symbol.asyncDispose]: stop };
}
