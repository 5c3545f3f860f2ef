/**
 * Serves one run on the loopback: its page, its events and its numbers. There are three addresses and no files, so no path leads
 * anywhere else.
 *
 * An event is what changed in the page, and its id a tag of the files that the page was read from. The page has the tag of the state
 * in it and asks for what came after that; a viewer that was away says the last tag it knows. Both get the changes since then, and the
 * whole state where this server does not know that tag (it was started anew, or it is too long ago).
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { resolve } from 'node:path';
import { problem } from '../errors.js';
import { page } from '../report/page.js';
import { RunReader, runTag, waitingRun } from '../report/reader.js';
import { isRun } from '../run/folder.js';
import { ApiError } from '../server/api-error.js';
import { hostCheck, inUrl } from '../server/host-check.js';
import { MAX_HEAD, parseErrorAnswer, rawAnswer } from '../server/parse-errors.js';
import { StateHistory } from './history.js';
import { prometheusText } from './prometheus.js';

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

/** @throws VoiceGrpoError E_CONFIG for an address that cannot be listened on */
export async function watchRun({ run, port, host = '127.0.0.1', interval = 500 }: WatchOptions): Promise<RunningWatch> {
  const path = resolve(run);
  const checkHost = hostCheck(host);
  const viewers = new Set<ServerResponse>();
  const reader = new RunReader(path);
  const history = new StateHistory('', waitingRun(path));

  /** The event of what changed; null: nothing did, or a file is in the middle of being written and is looked at again. */
  const refresh = (): string | null => {
    const tag = runTag(path);
    if (tag === history.tag) return null;
    try {
      return history.advance(tag, isRun(path) ? reader.read() : waitingRun(path));
    } catch {
      return null;
    }
  };
  const send = (viewer: ServerResponse, events: string) => {
    if (viewer.writableLength > MAX_BACKLOG) viewer.destroy();
    else if (events !== '') viewer.write(events);
  };
  const sendChanges = () => {
    const event = refresh();
    if (event !== null) for (const viewer of viewers) send(viewer, event);
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
    sendChanges();
    const [, target = request.url, after] = /^(\/events)\?after=([\w.-]+)$/.exec(request.url ?? '') ?? [];
    switch (target) {
      case '/': {
        const { html, policy } = page(history.data, history.tag);
        return whole('text/html; charset=utf-8', html, {
          'content-security-policy': `${policy}; frame-ancestors 'none'`,
        });
      }
      case '/metrics':
        return whole('text/plain; version=0.0.4; charset=utf-8', prometheusText(history.data));
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
        // The address is that of the page as it was loaded; a browser that comes back says the newest tag besides.
        send(response, history.since(request.headers['last-event-id']?.toString() ?? after));
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
  const look = setInterval(sendChanges, interval);
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
