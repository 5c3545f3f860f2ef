/** One request with its answer: says when the client is gone, answers at most once, and keeps what the log tells. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Answer, event, jsonAnswer } from './answers.js';
import type { ApiError } from './api-error.js';
import type { RequestRecord } from './request-log.js';

/** A client whose request is refused before all of it is read may go on sending so long, ms; cut off at once it would not see the answer. */
const LINGER_MS = 2000;

export class Exchange {
  readonly record: RequestRecord;
  readonly #controller = new AbortController();
  readonly #start = performance.now();
  #expectsContinue: boolean;
  /** No more of the request can be read. */
  #broken = false;

  /** @param expectsContinue the client waits for leave before it sends the body */
  constructor(
    readonly request: IncomingMessage,
    private readonly response: ServerResponse,
    expectsContinue: boolean,
  ) {
    this.#expectsContinue = expectsContinue;
    this.record = {
      id: randomUUID(),
      method: request.method ?? '-',
      route: '-',
      status: 0,
      seconds: 0,
      queued: null,
      bytes: null,
      audio: null,
      code: null,
    };
    response.on('error', () => {}); // the client went away while it was answered
    response.on('close', () => this.#controller.abort(new Error('The client is gone.')));
  }

  /** Fires when the client is gone, or by `abort`. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get gone(): boolean {
    return this.response.destroyed || this.request.socket.destroyed;
  }

  /** True once an answer has begun. */
  get answered(): boolean {
    return this.response.headersSent;
  }

  /** True once the answer is whole, though it may still be on its way. */
  get ended(): boolean {
    return this.response.writableEnded;
  }

  /** Ends the work on it; the error is answered. @param broken no more of the request can be read */
  abort(error: ApiError, broken = false): void {
    this.#broken ||= broken;
    this.#controller.abort(error);
  }

  /** Has the client send the body if it waits for leave. */
  continue(): void {
    if (this.#expectsContinue) {
      this.#expectsContinue = false;
      this.response.writeContinue();
    }
  }

  /** @param last the connection ends with this answer */
  answer(status: number, { contentType, body }: Answer, headers: Record<string, string> = {}, last = false): void {
    this.#head(
      status,
      { 'content-type': contentType, 'content-length': String(Buffer.byteLength(body)), ...headers },
      last,
    );
    this.response.end(this.request.method === 'HEAD' ? undefined : body);
  }

  /** Begins an answer of server-sent events; returns what sends one. */
  beginEvents(): (text: string) => void {
    this.#head(200, { 'content-type': 'text/event-stream; charset=utf-8' }, false);
    return (text) => void this.response.write(text);
  }

  endEvents(): void {
    this.response.end();
  }

  /** Answers an error; in the middle of events, as one of them. */
  fail(error: ApiError): void {
    this.record.code = error.body.error.code ?? String(error.status);
    if (this.answered) {
      this.response.end(event(error.body));
      return;
    }
    const unread = !this.request.complete;
    const answer = jsonAnswer(error.body);
    if (!unread || this.#broken || this.#expectsContinue) {
      this.answer(error.status, answer, error.headers, unread || this.#broken);
      return;
    }
    const { contentType, body } = answer;
    this.#head(
      error.status,
      { 'content-type': contentType, 'content-length': String(Buffer.byteLength(body)), ...error.headers },
      true,
    );
    this.response.write(body);
    const end = () => {
      clearTimeout(timer);
      this.response.end();
    };
    const timer = setTimeout(end, LINGER_MS);
    this.request.once('end', end);
    this.response.once('close', end);
    this.request.resume();
  }

  /** To be called when the answer is complete, or there will be none. */
  finish(): RequestRecord {
    this.record.status = this.answered ? this.response.statusCode : 0;
    this.record.seconds = (performance.now() - this.#start) / 1000;
    return this.record;
  }

  #head(status: number, headers: Record<string, string>, last: boolean): void {
    this.response.writeHead(status, {
      ...headers,
      'x-request-id': this.record.id,
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      ...(last && { connection: 'close' }),
    });
  }
}
