/** An HTTP server that transcribes, with the OpenAI API's requests and answers. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { problem } from '../errors.js';
import type { TranscribeOptions, Whisper } from '../whisper.js';
import { Admission } from './admission.js';
import { ApiError, asApiError } from './api-error.js';
import { Exchange } from './exchange.js';
import { type HostCheck, hostCheck, inUrl } from './host-check.js';
import { connectRefused, MAX_HEAD, parseErrorAnswer, rawAnswer } from './parse-errors.js';
import { PrivateFolder } from './private-folder.js';
import { type LogFormat, RequestLog } from './request-log.js';
import { answerRequest, type Service } from './routes.js';

export interface ServerLimits {
  /** Of a request, bytes. */
  body: number;
  /** Of a form, fields and files together. */
  parts: number;
  /** Of a field's value, bytes. */
  field: number;
  /** Requests that have come whole and wait for their turn, beside those that are worked on. */
  waiting: number;
  /** Requests whose body is being received. Each may have a file on the disk. */
  uploads: number;
  connections: number;
  /** Of a recording, s. */
  audioSeconds: number;
  /** To send the head of a request, s. */
  headersSeconds: number;
  /** To send all of a request, s. */
  requestSeconds: number;
  /** For what is under way when the server is stopped, s. */
  stopSeconds: number;
}

export const SERVER_LIMITS: Readonly<ServerLimits> = {
  body: 100e6,
  parts: 64,
  field: 64 * 1024,
  waiting: 16,
  uploads: 64,
  connections: 256,
  audioSeconds: 4 * 3600,
  headersSeconds: 10,
  requestSeconds: 120,
  stopSeconds: 10,
};

export interface ServerOptions {
  /** Stays the caller's: to be closed after the server has stopped. */
  whisper: Whisper;
  /** What requests call the model; 'whisper-1' means it too. */
  modelName: string;
  /** 0: any that is free. */
  port: number;
  /** Address to listen on. Default 127.0.0.1. Whoever reaches another one can use the server. */
  host?: string;
  /**
   * Names by which clients may know this machine, beside those of the loopback and `host`. Where `host` stands for every address
   * ('0.0.0.0', '::'), they may use any address, but no other name.
   */
  hostNames?: readonly string[];
  /** Requests worked on at once; `whisper` should have been opened with as many. Default 1. */
  parallel?: number;
  /** For what a request does not say. */
  defaults?: TranscribeOptions;
  limits?: Partial<ServerLimits>;
  log: { stream: Writable; format?: LogFormat };
}

export interface RunningServer {
  port: number;
  /** Base address for clients: 'http://127.0.0.1:8000/v1'. */
  url: string;
  /**
   * Takes no more requests; those under way have `limits.stopSeconds` to finish and are then answered 503. Resolves when all connections
   * are closed and nothing is left on the disk. Twice is fine.
   */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** An idle connection is closed after this, ms. */
const IDLE_MS = 5000;
/** For aborted work to end and be answered, ms. */
const LAST_ANSWERS_MS = 2000;

/**
 * Serves `POST /v1/audio/transcriptions`, `POST /v1/audio/translations`, `GET /v1/models` and `GET /health`.
 *
 * @throws VoiceGrpoError E_CONFIG for an address that cannot be listened on, a name that is none, and for defaults that the model does not know
 */
export async function serveTranscription(options: ServerOptions): Promise<RunningServer> {
  options.whisper.check(options.defaults ?? {});
  const folder = await PrivateFolder.create();
  try {
    return await HttpServer.listen(options, folder);
  } catch (error) {
    await folder.remove();
    throw error;
  }
}

class HttpServer implements RunningServer {
  readonly #server: Server;
  readonly #log: RequestLog;
  readonly #checkHost: HostCheck;
  readonly #service: Service;
  readonly #limits: ServerLimits;
  readonly #host: string;
  /** Under way. */
  readonly #exchanges = new Map<Exchange, Promise<void>>();
  /** The latest of each connection. */
  readonly #latest = new WeakMap<Duplex, Exchange>();
  #stopping: Promise<void> | null = null;

  static async listen(options: ServerOptions, folder: PrivateFolder): Promise<HttpServer> {
    const server = new HttpServer(options, folder);
    await server.#listen(options.port);
    return server;
  }

  private constructor(options: ServerOptions, folder: PrivateFolder) {
    const { whisper, modelName, host = '127.0.0.1', hostNames = [], parallel = 1, defaults = {}, log } = options;
    const limits = { ...SERVER_LIMITS, ...options.limits };
    this.#limits = limits;
    this.#host = host;
    this.#log = new RequestLog(log.stream, log.format ?? 'text');
    this.#checkHost = hostCheck(host, hostNames);
    this.#service = {
      whisper,
      abilities: {
        models: [...new Set([modelName, 'whisper-1'])],
        languages: whisper.info.languages,
        translates: whisper.info.multilingual,
      },
      defaults,
      admission: new Admission({ parallel, ...limits }),
      folder,
      limits,
      started: Math.floor(Date.now() / 1000),
    };
    const headersTimeout = limits.headersSeconds * 1000;
    this.#server = createServer({
      maxHeaderSize: MAX_HEAD,
      headersTimeout,
      requestTimeout: limits.requestSeconds * 1000,
      keepAliveTimeout: IDLE_MS,
      connectionsCheckingInterval: Math.min(1000, headersTimeout / 2),
      requireHostHeader: false, // hostCheck says it in words
    });
    this.#server.maxConnections = limits.connections;
    this.#server.on('request', (request, response) => this.#take(request, response));
    this.#server.on('checkContinue', (request, response) => this.#take(request, response, true));
    this.#server.on('checkExpectation', (request, response) => this.#take(request, response));
    this.#server.on('connect', (_request, socket) => this.#refuse(socket, connectRefused()));
    this.#server.on('clientError', (error: NodeJS.ErrnoException, socket) => this.#parseError(error, socket));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://${inUrl(this.#host)}:${this.port}/v1`;
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #listen(port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error: NodeJS.ErrnoException) => reject(cannotListen(this.#host, port, error)));
      this.#server.listen(port, this.#host, resolve);
    });
  }

  #take(request: IncomingMessage, response: ServerResponse, expectsContinue = false): void {
    const exchange = new Exchange(request, response, expectsContinue);
    this.#latest.set(request.socket, exchange);
    const run = this.#run(exchange).finally(() => {
      this.#exchanges.delete(exchange);
      this.#log.request(exchange.finish());
    });
    response.once('finish', () => {
      // Behind this event the connection counts as idle.
      setImmediate(() => this.#stopping && this.#server.closeIdleConnections());
    });
    this.#exchanges.set(exchange, run);
  }

  /** Never rejects. */
  async #run(exchange: Exchange): Promise<void> {
    try {
      if (this.#stopping) throw stopped();
      this.#checkHost(exchange.request);
      const { expect } = exchange.request.headers;
      if (expect !== undefined && expect.toLowerCase() !== '100-continue') {
        throw new ApiError(417, 'The Expect header may only be 100-continue.', { code: 'expectation_failed' });
      }
      await answerRequest(exchange, this.#service);
    } catch (error) {
      if (!exchange.gone) {
        exchange.fail(this.#presented(exchange.signal.aborted ? exchange.signal.reason : error, exchange));
      }
    }
  }

  #presented(error: unknown, { record }: Exchange): ApiError {
    const known = asApiError(error);
    if (known === null || (known !== error && known.status >= 500)) {
      this.#log.note(`${record.id}: ${(error as Error)?.stack ?? String(error)}`);
    }
    return known ?? new ApiError(500, `The server failed; its log tells more of request ${record.id}.`);
  }

  /** What came is not HTTP, or did not come in time. */
  #parseError(error: NodeJS.ErrnoException, socket: Duplex): void {
    const exchange = this.#latest.get(socket);
    const answer = parseErrorAnswer(error);
    if (answer === null || !socket.writable) {
      socket.destroy();
    } else if (exchange === undefined || exchange.ended) {
      this.#refuse(socket, answer);
    } else if (exchange.answered) {
      socket.destroy();
    } else {
      exchange.abort(answer, true);
    }
  }

  /** Answers where there is no request to answer to. */
  #refuse(socket: Duplex, error: ApiError): void {
    socket.on('error', () => {});
    socket.end(rawAnswer(error), () => socket.destroy());
    this.#log.request({
      id: '-',
      method: '-',
      route: '-',
      status: error.status,
      seconds: 0,
      queued: null,
      bytes: null,
      audio: null,
      code: error.body.error.code,
    });
  }

  async #stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const all = () => Promise.all(this.#exchanges.values());
    await before(all(), this.#limits.stopSeconds * 1000);
    for (const exchange of this.#exchanges.keys()) {
      exchange.abort(stopped());
    }
    await before(Promise.all([all(), closed]), LAST_ANSWERS_MS);
    this.#server.closeAllConnections();
    await closed;
    await all();
    await this.#service.folder.remove();
  }
}

/** Waits for the work, but not longer than so many ms. */
async function before(work: Promise<unknown>, ms: number): Promise<void> {
  const timer = new AbortController();
  await Promise.race([work, sleep(ms, undefined, { signal: timer.signal }).catch(() => {})]);
  timer.abort();
}

function stopped(): ApiError {
  return new ApiError(503, 'The server is being stopped.', { code: 'stopping', headers: { connection: 'close' } });
}

function cannotListen(host: string, port: number, error: NodeJS.ErrnoException): Error {
  const got: Record<string, string> = {
    EADDRINUSE: 'one that another program listens on',
    EACCES: 'one that needs more rights',
    EADDRNOTAVAIL: 'an address that this machine does not have',
    ENOTFOUND: 'an address that this machine does not have',
  };
  const what = got[error.code ?? ''];
  return what === undefined
    ? error
    : problem({
        code: 'E_CONFIG',
        where: `${host}:${port}`,
        expected: 'a free port',
        got: what,
        next: 'Name another port; 0 takes any that is free.',
      });
}
