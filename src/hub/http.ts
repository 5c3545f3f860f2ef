/**
 * Requests to the hub and to where it sends us: tries, waits, redirects, and the sentence for each refusal.
 *
 * A request goes out with the token only while it stays on the endpoint's own scheme, host and port.
 */
import { setMaxListeners } from 'node:events';
import type { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { createGunzip } from 'node:zlib';
import { EnvHttpProxyAgent, Pool, request as send } from 'undici';
import { problem, VoiceGrpoError } from '../errors.js';
import type { HubEnvironment } from './environment.js';

export interface Address {
  url: string;
  /** What is asked for, in words: 'ifeval/test.parquet of hlt-lab/voicebench'. */
  what: string;
  /** Page on the hub where access is asked for and tokens are made. */
  page?: string;
}

export interface Answer {
  status: number;
  headers: Readonly<Record<string, string>>;
  /** Of the last request, after the redirects that were followed. */
  url: string;
  body: Readable;
}

export interface RequestOptions {
  /** First byte, and last where it is not that of the file: 'bytes=0-99', 'bytes=100-'. */
  range?: string;
  /** Refusals that the caller deals with. */
  allow?: readonly number[];
  signal?: AbortSignal | undefined;
}

const MAX_TRIES = 5;
const MAX_REDIRECTS = 10;
/** To one host at a time; further requests wait. */
const MAX_CONNECTIONS = 8;
/** Longest wait that a server may ask for, s. */
const MAX_WAIT = 310;
/** Largest answer that is taken as a whole: listings, not files. */
const MAX_LISTING_BYTES = 64 * 2 ** 20;
/** Of a body that nobody reads: so much is taken to keep the connection for the next request. */
const MAX_DROPPED_BYTES = 16 * 1024;
const TRANSIENT_STATUS = new Set([408, 429, 500, 502, 503, 504]);

/** A failure that may pass: try again after `wait` seconds (null: as long as the number of tries says). */
export class Transient extends Error {
  constructor(
    /** Told if no try is left. */
    readonly final: VoiceGrpoError,
    readonly wait: number | null = null,
  ) {
    super(final.message);
  }
}

/** The network or the hub failed, not what was asked for: what is in the cache may do. */
export class Unreachable extends VoiceGrpoError {}

export interface HttpOptions {
  /** Waits so many seconds. */
  wait?: (seconds: number, signal?: AbortSignal) => Promise<unknown>;
  /** Number in [0, 1) that spreads the waits of many clients. */
  jitter?: () => number;
  /** A sentence for the person who waits. */
  note?: (text: string) => void;
  /** Silence after which a connection is given up, ms. */
  timeout?: number;
}

export class HubHttp {
  readonly #agent: EnvHttpProxyAgent;
  readonly #wait: NonNullable<HttpOptions['wait']>;
  readonly #jitter: () => number;
  readonly #note: (text: string) => void;

  constructor(
    readonly environment: HubEnvironment,
    options: HttpOptions = {},
  ) {
    const { timeout = 30_000 } = options;
    this.#agent = new EnvHttpProxyAgent({
      httpProxy: proxyOf('http_proxy'),
      httpsProxy: proxyOf('https_proxy'),
      connections: MAX_CONNECTIONS,
      headersTimeout: timeout,
      bodyTimeout: timeout,
      connect: { timeout },
      // The connection to a proxy does not get the timeouts above.
      clientFactory: (origin, more) => new Pool(origin, { ...more, headersTimeout: timeout }),
    });
    this.#wait = options.wait ?? ((seconds, signal) => pause(seconds * 1000, undefined, { signal }));
    this.#jitter = options.jitter ?? (() => (performance.now() * 1000) % 1);
    this.#note = options.note ?? (() => {});
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }

  /**
   * Does `work`, again where it throws Transient: five tries at most, with waits that double, or as long as the server asks for.
   *
   * @param most tries
   * @param progressed whether the last try brought something worth keeping: then it does not count
   */
  async tries<T>(
    work: () => Promise<T>,
    {
      signal,
      most = MAX_TRIES,
      progressed = () => false,
    }: { signal?: AbortSignal | undefined; most?: number; progressed?: () => boolean } = {},
  ): Promise<T> {
    for (let tried = 1; ; tried++) {
      signal?.throwIfAborted();
      try {
        return await work();
      } catch (error) {
        signal?.throwIfAborted(); // whatever that looked like
        if (!(error instanceof Transient)) {
          throw error;
        }
        if (progressed()) {
          tried = 0;
        }
        if (tried >= most) {
          throw error.final;
        }
        const seconds =
          error.wait === null ? 2 ** Math.max(0, tried - 1) * (0.5 + this.#jitter()) : error.wait + this.#jitter();
        if (seconds > MAX_WAIT) {
          throw error.final;
        }
        if (seconds > 5) {
          this.#note(`${error.final.message} Waiting ${Math.ceil(seconds)} s.`);
        }
        await this.#wait(seconds, signal);
      }
    }
  }

  /** A listing: the JSON of an answer, and the address of its next page. */
  async json(
    address: Address,
    { signal, most = MAX_TRIES }: { signal?: AbortSignal | undefined; most?: number } = {},
  ): Promise<{ value: unknown; next: string | null }> {
    return this.tries(
      async () => {
        const answer = await this.answerOnce(address, { signal });
        const text = (await readWhole(answer, address, MAX_LISTING_BYTES)).toString('utf8');
        const next = /<([^>]*)>\s*;\s*rel="?next"?/.exec(answer.headers.link ?? '')?.[1];
        try {
          return { value: JSON.parse(text), next: next === undefined ? null : httpAddress(next, answer.url).href };
        } catch {
          throw refusal(
            address,
            'a JSON listing',
            `${text.length} characters of something else`,
            'correct HF_ENDPOINT',
          );
        }
      },
      { signal, most },
    );
  }

  /** One try. @throws Transient, or VoiceGrpoError where trying again is no use */
  async answerOnce(address: Address, options: RequestOptions): Promise<Answer> {
    if (this.environment.offline) {
      throw offline(address.what);
    }
    const { range, allow = [], signal } = options;
    if (signal) {
      setMaxListeners(0, signal); // one for each request that is open, which is no leak
    }
    let url = new URL(address.url);
    for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
      const headers: Record<string, string> = { 'user-agent': 'voicegrpo', 'accept-encoding': 'identity' };
      if (range !== undefined) {
        headers.range = range;
      }
      if (this.environment.token !== null && url.origin === new URL(this.environment.endpoint).origin) {
        headers.authorization = `Bearer ${this.environment.token}`;
      }
      const response = await send(url, { headers, dispatcher: this.#agent, ...(signal && { signal }) }).catch(
        (error: Error) => {
          throw new Transient(
            failure(
              address,
              `an answer from ${url.host}`,
              reasonOf(error),
              'see whether the network, HF_ENDPOINT and the proxy are as they should be',
              error,
            ),
          );
        },
      );
      response.body.on('error', () => {}); // whoever reads it hears of it; nobody has to
      const answer = { status: response.statusCode, headers: flat(response.headers), url: url.href };
      const location = answer.headers.location;
      if (answer.status >= 300 && answer.status < 400 && location !== undefined) {
        void response.body.dump({ limit: MAX_DROPPED_BYTES });
        try {
          url = httpAddress(location, url.href);
        } catch {
          throw refusal(
            address,
            'a redirect to an http address',
            `one to '${location.slice(0, 100)}'`,
            'try again later',
          );
        }
        continue;
      }
      if (answer.status < 400) {
        return { ...answer, body: decoded(response.body, answer.headers) };
      }
      void response.body.dump({ limit: MAX_DROPPED_BYTES });
      if (allow.includes(answer.status)) {
        return { ...answer, body: response.body };
      }
      throw this.#refused(answer, address, headers.authorization !== undefined);
    }
    throw refusal(
      address,
      'an end of the redirects',
      `more than ${MAX_REDIRECTS}, the last to ${url.origin}`,
      'try again later',
    );
  }

  #refused({ status, headers }: Omit<Answer, 'body'>, address: Address, withToken: boolean): Error {
    const code = headers['x-error-code'];
    const page = address.page ?? this.environment.endpoint;
    const told = headers['x-error-message'] === undefined ? '' : ` (${headers['x-error-message'].slice(0, 200)})`;
    const tokens = `${this.environment.endpoint}/settings/tokens`;
    if (TRANSIENT_STATUS.has(status)) {
      const got = status === 429 ? 'too many requests' : `status ${status}${told}`;
      return new Transient(failure(address, 'an answer', got, 'try again later'), askedWait(headers));
    }
    if (code === 'GatedRepo') {
      const next = withToken
        ? `ask for access on ${page}`
        : `ask for access on ${page}, then set HF_TOKEN to a token of ${tokens}`;
      return refusal(address, 'access', 'none: it is gated', next);
    }
    if (status === 401 && withToken) {
      return refusal(
        address,
        'a token that the hub knows',
        `status 401${told}`,
        `make a new token on ${tokens}, or unset HF_TOKEN`,
      );
    }
    if (code === 'RevisionNotFound') {
      return refusal(address, 'a revision that exists', 'none of that name', 'correct --revision');
    }
    if (code === 'EntryNotFound') {
      return refusal(address, 'a file that exists', 'none of that name', `see ${page}/tree/main`);
    }
    if (code === 'RepoNotFound' || status === 401 || status === 404) {
      const next = withToken
        ? 'correct the name, or take a token that may read it'
        : 'correct the name; if it is private, set HF_TOKEN';
      return refusal(address, 'something that exists', 'nothing of that name, or nothing that may be seen', next);
    }
    return refusal(
      address,
      'an answer',
      `status ${status}${told}`,
      status === 403 ? 'see whether the token may read it' : 'try again later',
    );
  }
}

/** Seconds that the server asks to wait, null where it does not say: the hub's RateLimit, or Retry-After. */
function askedWait(headers: Readonly<Record<string, string>>): number | null {
  const limit = /"\w+"\s*;\s*r\s*=\s*(\d+)\s*;\s*t\s*=\s*(\d+)/.exec(headers.ratelimit ?? '');
  if (limit !== null && Number(limit[1]) === 0) {
    return Number(limit[2]);
  }
  const after = headers['retry-after']?.trim() ?? '';
  if (/^\d+$/.test(after)) {
    return Number(after);
  }
  const date = Date.parse(after);
  return Number.isNaN(date) ? null : Math.max(0, (date - Date.now()) / 1000);
}

export function offline(what: string): VoiceGrpoError {
  return refusal(
    { what },
    'it on this machine, as HF_HUB_OFFLINE or --offline asks for',
    'nothing in the cache',
    'fetch it once with a connection, or correct HF_HUB_CACHE',
  );
}

export function refusal(address: Pick<Address, 'what'>, expected: string, got: string, next: string): VoiceGrpoError {
  return problem({ code: 'E_HUB', where: address.what, expected, got, next });
}

function failure(address: Address, expected: string, got: string, next: string, cause?: unknown): Unreachable {
  return new Unreachable(refusal(address, expected, got, next).message, { code: 'E_HUB', hint: next, cause });
}

/** A body that broke off or went silent: may pass. */
export function interrupted(address: Address, error: unknown): Transient {
  return new Transient(
    failure(
      address,
      'the whole of it',
      `a broken connection (${reasonOf(error as Error)})`,
      'try again; what was fetched is kept',
      error,
    ),
  );
}

/** The system's codes are known by themselves, others are not. */
function reasonOf({ code, message }: NodeJS.ErrnoException): string {
  return typeof code === 'string' && !code.startsWith('UND_') ? code : message;
}

/** @throws Error for what is no http address */
function httpAddress(text: string, base?: string): URL {
  const url = new URL(text, base);
  if (!/^https?:$/.test(url.protocol)) {
    throw new Error(`no http address: ${text}`);
  }
  return url;
}

/** A proxy without a scheme is an http proxy, as everywhere. Empty: none. */
function proxyOf(variable: string): string {
  const text = process.env[variable] ?? process.env[variable.toUpperCase()] ?? '';
  const url = text === '' || text.includes('://') ? text : `http://${text}`;
  if (url !== '' && !(URL.canParse(url) && /^(https?|socks5?):$/.test(new URL(url).protocol))) {
    throw problem({
      code: 'E_CONFIG',
      expected: 'the address of a proxy',
      where: variable.toUpperCase(),
      got: 'none', // it may hold a password
      next: `use ${variable.toUpperCase()}=http://HOST:PORT, or unset it`,
    });
  }
  return url;
}

function flat(headers: Record<string, string | string[] | undefined>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(', ') : (value ?? '')]),
  );
}

/** Nothing but plain bytes was asked for; some servers compress all the same. */
function decoded(body: Readable, headers: Readonly<Record<string, string>>): Readable {
  if (headers['content-encoding'] !== 'gzip') {
    return body;
  }
  const plain = createGunzip();
  plain.on('error', () => {}); // as above
  body.on('error', (error) => plain.destroy(error));
  plain.on('close', () => body.destroy());
  return body.pipe(plain);
}

/** @throws Transient if it breaks off, VoiceGrpoError if it is larger */
async function readWhole(answer: Answer, address: Address, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > limit) {
        answer.body.destroy();
        throw refusal(address, `at most ${limit} bytes`, 'more', 'correct HF_ENDPOINT');
      }
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof VoiceGrpoError ? error : interrupted(address, error);
  }
  return Buffer.concat(chunks);
}
