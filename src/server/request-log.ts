/** A line for each request: what was asked, how it ended and how long it took; nothing of what was sent. */
import type { Writable } from 'node:stream';

export type LogFormat = 'text' | 'json';

export interface RequestRecord {
  /** Of the answer's X-Request-Id. */
  id: string;
  /** '-' for what is no request. */
  method: string;
  /** One of ours, or '-': a path that is not ours could hold anything. */
  route: string;
  /** 0 where the client went away before there was an answer. */
  status: number;
  /** From the request's head to the end of the answer, s. */
  seconds: number;
  /** Of these, spent waiting for a turn, s; null where it did not come to that. */
  queued: number | null;
  /** Size of the file, bytes. */
  bytes: number | null;
  /** Of the recording, s. */
  audio: number | null;
  /** Of the error, if one was answered. */
  code: string | null;
}

export class RequestLog {
  constructor(
    private readonly stream: Writable,
    private readonly format: LogFormat,
  ) {}

  request(record: RequestRecord): void {
    if (this.format === 'json') {
      this.#write({ event: 'request', ...record });
      return;
    }
    const { id, method, route, status, seconds, queued, bytes, audio, code } = record;
    const parts = [
      `${seconds.toFixed(3)} s`,
      queued !== null && `queued ${queued.toFixed(3)} s`,
      bytes !== null && `${bytes} bytes`,
      audio !== null && `audio ${audio.toFixed(1)} s`,
      code,
    ].filter(Boolean);
    const outcome = status === 0 ? 'gone' : status;
    this.stream.write(`${new Date().toISOString()} ${method} ${route} ${outcome} ${parts.join(', ')} ${id}\n`);
  }

  /** What else is to be told. */
  note(text: string): void {
    if (this.format === 'json') this.#write({ event: 'note', text });
    else this.stream.write(`${text}\n`);
  }

  #write(value: object): void {
    this.stream.write(`${JSON.stringify({ time: new Date().toISOString(), ...value })}\n`);
  }
}
