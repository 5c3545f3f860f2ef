/**
 * A stand-in for the Hugging Face hub: two HTTP servers of this process, the hub and the CDN that holds its large files.
 *
 * It answers what a download needs (resolve, repository info, file tree) with the status codes and headers of the real
 * hub, so that Python's huggingface_hub accepts it, and it can break any answer on demand. The hub is addressed as
 * 127.0.0.1 and the CDN as localhost: a client that decides by host name whether a token may be sent sees two hosts.
 */
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';

/** A repository at one commit. */
export interface StandInRepo {
  type: 'model' | 'dataset';
  /** 'name' or 'namespace/name'. */
  id: string;
  /** 40 hex digits; what `main` and `refs` point to from now on. */
  commit: string;
  /** Path in the repository, with '/', to the file's bytes. Paths are served as they are, hostile ones too. */
  files: Record<string, Uint8Array>;
  /** Branches and tags besides 'main', as they stand in a URL once decoded: 'v1', 'refs/pr/2'. */
  refs?: string[];
  /** Whether a path is stored as LFS: resolve answers 302 to the CDN. Default: over 1 KiB and not .json, .md or .txt. */
  lfs?: (path: string) => boolean;
  /** Nobody was let in yet: files answer 401 without a token and 403 with one; info and tree stay public. */
  gated?: boolean;
  /** Without the token it looks as if the repository did not exist. */
  private?: boolean;
}

/** A request, noted when it arrives; `status` and `bytes` follow while it is answered. */
export interface SeenRequest {
  host: 'hub' | 'cdn';
  method: string;
  /** With the query. */
  path: string;
  /** The Range header. */
  range: string | null;
  /** The Authorization header. */
  authorization: string | null;
  /** 0 when no answer was sent. */
  status: number;
  /** Bytes of the body handed to the socket, as they were sent: compressed ones count compressed. */
  bytes: number;
}

/** What goes wrong with an answer. Faults of the body leave an answer to HEAD as it is. */
export type Fault =
  /** This instead of the answer. */
  | { kind: 'status'; status: number; headers?: Record<string, string>; body?: string }
  /** 200 and the whole file in place of 206. */
  | { kind: 'ignore-range' }
  /** Content-Length of the whole, and the connection is closed after `after` bytes of the body. */
  | { kind: 'truncate'; after: number }
  /** The connection is reset (RST) after `after` bytes of the body, by default before the headers. */
  | { kind: 'reset'; after?: number }
  /** The right length, but one bit of the byte in the middle is flipped. */
  | { kind: 'corrupt' }
  /** The body, chunked, again and again until the client leaves. */
  | { kind: 'endless' }
  /** Headers, then nothing. HEAD has no body to wait for, so it gets nothing at all. */
  | { kind: 'stall' }
  /** 302 there; a relative location stays on the host. */
  | { kind: 'redirect'; location: string }
  /** 200 and the whole file, chunked; gzip if the client accepts it. The hub does so with text. */
  | { kind: 'gzip-no-length' };

type Asked = Pick<SeenRequest, 'host' | 'method' | 'path' | 'range'>;

interface Blob {
  bytes: Buffer;
  size: number;
  sha256: string;
  /** Git's own id: of the file, or of its pointer when the file is LFS. 40 hex digits. */
  oid: string;
  /** Bytes of the pointer that git holds in place of an LFS file; null: not LFS. */
  pointerSize: number | null;
}

interface Version {
  commit: string;
  files: Map<string, Blob>;
}

interface Repo {
  type: StandInRepo['type'];
  id: string;
  gated: boolean;
  private: boolean;
  /** Name to commit. */
  refs: Map<string, string>;
  /** Commit to content. */
  versions: Map<string, Version>;
}

interface Answer {
  status: number;
  headers: Record<string, string>;
  body: Buffer;
}

/** An answer of the hub that is an error. */
class Refusal {
  constructor(
    readonly status: number,
    readonly code: string | null,
    readonly message: string,
    readonly headers: Record<string, string> = {},
  ) {}
}

/** A body goes out in pieces so that a client that leaves early is noticed, and counted, early. */
const PIECE_BYTES = 64 * 1024;
/** At least so much of an endless body before a pause, so that a client's limit is reached soon. */
const ENDLESS_BYTES = 1024 * 1024;
/** The hub gives fewer entries per page when it has to look up the last commit of each. */
const EXPANDED_PAGE = 50;
/** No repository of a test has a history. */
const DATE = '2025-01-01T00:00:00.000Z';
const RATE_LIMIT = { RateLimit: '"api";r=499;t=120', 'RateLimit-Policy': '"fixed window";"api";q=500;w=300' };
const JSON_TYPE = 'application/json; charset=utf-8';
const TEXT_TYPE = 'text/plain; charset=utf-8';

/** The hub, its CDN, what they were asked and what is to go wrong next. */
export class StandInHub {
  readonly requests: SeenRequest[] = [];
  readonly #token: string | undefined;
  readonly #signatureSeconds: number;
  readonly #pageSize: number;
  readonly #servers: Server[] = [];
  readonly #repos = new Map<string, Repo>();
  /** By sha256. */
  readonly #stored = new Map<string, Blob>();
  #faults: { match: (request: Asked) => boolean; fault: Fault; left: number }[] = [];
  #secret = randomBytes(32);
  #endpoint = '';
  #cdn = '';

  private constructor(options: { token?: string; signatureSeconds?: number; pageSize?: number }) {
    this.#token = options.token;
    this.#signatureSeconds = options.signatureSeconds ?? 3600;
    this.#pageSize = options.pageSize ?? 1000;
  }

  /**
   * Listens on two free ports, of the loopback interface only.
   *
   * @param options.token the one token that is valid; without it every token is invalid
   * @param options.signatureSeconds how long a location on the CDN can be used; default 3600
   * @param options.pageSize entries per page of a file tree; default 1000, as on the hub
   */
  static async start(
    options: { token?: string; signatureSeconds?: number; pageSize?: number } = {},
  ): Promise<StandInHub> {
    const hub = new StandInHub(options);
    hub.#endpoint = `http://127.0.0.1:${await hub.#listen('hub', '127.0.0.1', 0)}`;
    hub.#cdn = `http://localhost:${await hub.#listenOnBothFamilies()}`;
    return hub;
  }

  /** For HF_ENDPOINT: http://127.0.0.1:PORT. */
  get endpoint(): string {
    return this.#endpoint;
  }

  /** http://localhost:PORT, with another port. */
  get cdn(): string {
    return this.#cdn;
  }

  /**
   * Adds a commit. It replaces what `main` and `refs` of the same type and id point to, and whether the repository is
   * gated or private; earlier commits, and earlier refs that are not named again, stay as they are in git.
   */
  add(repo: StandInRepo): void {
    if (!/^[0-9a-f]{40}$/.test(repo.commit)) {
      throw new Error(`commit: 40 hex digits expected, got '${repo.commit}'`);
    }
    const files = new Map<string, Blob>();
    for (const [path, bytes] of Object.entries(repo.files)) {
      const lfs = repo.lfs?.(path) ?? (bytes.length > 1024 && !/\.(json|md|txt)$/.test(path));
      const blob = makeBlob(Buffer.from(bytes), lfs);
      files.set(path, blob);
      this.#stored.set(blob.sha256, blob);
    }
    const key = `${repo.type}s/${repo.id}`;
    const earlier = this.#repos.get(key);
    const refs = new Map(earlier?.refs);
    for (const ref of ['main', ...(repo.refs ?? [])]) {
      refs.set(ref, repo.commit);
    }
    this.#repos.set(key, {
      type: repo.type,
      id: repo.id,
      gated: repo.gated ?? false,
      private: repo.private ?? false,
      refs,
      versions: new Map(earlier?.versions).set(repo.commit, { commit: repo.commit, files }),
    });
  }

  /** The next `times` (default 1) requests for which `match` is true get this fault; of several, the oldest applies. */
  fault(match: (request: Asked) => boolean, fault: Fault, times = 1): void {
    this.#faults.push({ match, fault, left: times });
  }

  /** Makes every signed location given so far expired. */
  expire(): void {
    this.#secret = randomBytes(32);
  }

  /** Forgets requests and faults. */
  clear(): void {
    this.requests.length = 0;
    this.#faults = [];
  }

  /** Ends open sockets too, so a stalled or endless answer does not keep the process alive. */
  async close(): Promise<void> {
    await Promise.all(
      this.#servers.splice(0).map((server) => {
        const closed = once(server, 'close');
        server.close();
        server.closeAllConnections();
        return closed;
      }),
    );
  }

  async #listen(host: SeenRequest['host'], address: string, port: number): Promise<number> {
    const server = createServer((request, response) => void this.#serve(host, request, response));
    // Longer than any test: a client must not meet a connection that is just being closed for idleness.
    server.keepAliveTimeout = 600_000;
    server.listen(port, address);
    await once(server, 'listening');
    this.#servers.push(server);
    return (server.address() as AddressInfo).port;
  }

  /** The name localhost may mean either family, so one port has to be ours in both. */
  async #listenOnBothFamilies(): Promise<number> {
    for (let attempt = 1; ; attempt += 1) {
      const port = await this.#listen('cdn', '127.0.0.1', 0);
      try {
        return await this.#listen('cdn', '::1', port);
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code ?? '';
        if (['EADDRNOTAVAIL', 'EAFNOSUPPORT'].includes(code)) {
          return port;
        }
        if (code !== 'EADDRINUSE' || attempt === 5) {
          await this.close();
          throw error;
        }
        this.#servers.pop()?.close();
      }
    }
  }

  async #serve(host: SeenRequest['host'], request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A write after the client left is reported here, and once more to whoever wrote.
    response.on('error', () => {});
    request.resume();
    const seen: SeenRequest = {
      host,
      method: request.method ?? '',
      path: request.url ?? '',
      range: request.headers.range ?? null,
      authorization: request.headers.authorization ?? null,
      status: 0,
      bytes: 0,
    };
    this.requests.push(seen);
    const fault = this.#takeFault(seen);
    if (host === 'hub') {
      response.setHeader('X-Request-Id', `request-${this.requests.length}`);
      for (const [name, value] of Object.entries(RATE_LIMIT)) {
        response.setHeader(name, value);
      }
    }
    await send(request, response, seen, this.#answer(request, seen, fault), fault);
  }

  #takeFault(request: Asked): Fault | undefined {
    const { host, method, path, range } = request;
    const found = this.#faults.find(({ match, left }) => left > 0 && match({ host, method, path, range }));
    if (found) {
      found.left -= 1;
    }
    return found?.fault;
  }

  #answer(request: IncomingMessage, seen: SeenRequest, fault: Fault | undefined): Answer {
    if (fault?.kind === 'status') {
      return { status: fault.status, headers: fault.headers ?? {}, body: Buffer.from(fault.body ?? '') };
    }
    if (fault?.kind === 'redirect') {
      return { status: 302, headers: { Location: fault.location }, body: Buffer.alloc(0) };
    }
    const whole = fault?.kind === 'ignore-range' || fault?.kind === 'gzip-no-length';
    const range: Range = { asked: whole ? null : seen.range, ifRange: request.headers['if-range']?.toString() };
    const [path, query] = seen.path.split(/\?(.*)/s) as [string, string | undefined];
    return seen.host === 'cdn'
      ? this.#cdnAnswer(seen, path, new URLSearchParams(query), range)
      : this.#hubAnswer(seen, path, new URLSearchParams(query), range);
  }

  /** The storage behind the CDN trusts a signature alone, and refuses a second proof of identity beside it. */
  #cdnAnswer(seen: SeenRequest, path: string, query: URLSearchParams, range: Range): Answer {
    if (seen.method !== 'GET' && seen.method !== 'HEAD') {
      return storageError(405, 'MethodNotAllowed', 'The specified method is not allowed against this resource.');
    }
    if (seen.authorization !== null) {
      return storageError(400, 'InvalidArgument', 'Only one auth mechanism allowed.');
    }
    const expires = query.get('Expires') ?? '';
    if (query.get('Signature') !== this.#sign(path, expires) || Number(expires) * 1000 <= Date.now()) {
      return storageError(403, 'AccessDenied', 'Request has expired or its signature is wrong.');
    }
    const blob = this.#stored.get(path.slice('/lfs/'.length));
    if (!blob) {
      return storageError(404, 'NoSuchKey', 'The specified key does not exist.');
    }
    return fileAnswer(blob, `"${blob.sha256}"`, 'application/octet-stream', range);
  }

  #sign(path: string, expires: string): string {
    return createHmac('sha256', this.#secret).update(`${path}\n${expires}`).digest('hex');
  }

  #hubAnswer(seen: SeenRequest, path: string, query: URLSearchParams, range: Range): Answer {
    try {
      return this.#route(seen, path, query, range);
    } catch (error) {
      if (!(error instanceof Refusal)) {
        throw error;
      }
      const { status, code, message } = error;
      const json = path.startsWith('/api/');
      return {
        status,
        headers: {
          'Content-Type': json ? JSON_TYPE : TEXT_TYPE,
          ...(code === null ? {} : { 'X-Error-Code': code }),
          'X-Error-Message': message.replace(/[^ -~]/g, '?'),
          ...(status === 401 ? { 'WWW-Authenticate': 'Bearer realm="Authentication required", charset="UTF-8"' } : {}),
          ...error.headers,
        },
        body: Buffer.from(json ? JSON.stringify({ error: message }) : message),
      };
    }
  }

  #route(seen: SeenRequest, path: string, query: URLSearchParams, range: Range): Answer {
    const authorised = seen.authorization !== null;
    if (authorised && (this.#token === undefined || seen.authorization !== `Bearer ${this.#token}`)) {
      throw new Refusal(401, null, 'Invalid credentials in Authorization header');
    }
    if (seen.method !== 'GET' && seen.method !== 'HEAD') {
      throw new Refusal(405, null, 'Method not allowed');
    }
    // Split before decoding: the slash of 'refs/pr/2' comes as %2F.
    const parts = path.slice(1).split('/').map(decoded);
    if (parts[0] === 'api' && parts[1] === 'resolve-cache') {
      const at = parts.findIndex((part) => /^[0-9a-f]{40}$/.test(part));
      if (at > 3) {
        const repo = this.#repo(`${parts[2]}/${parts.slice(3, at).join('/')}`, authorised);
        return this.#resolve(repo, parts[at]!, parts.slice(at + 1).join('/'), authorised, range);
      }
    } else if (parts[0] === 'api' && (parts[1] === 'models' || parts[1] === 'datasets')) {
      const at = parts.findIndex((part, i) => i > 2 && (part === 'revision' || part === 'tree'));
      const repo = this.#repo(parts.slice(1, at === -1 ? undefined : at).join('/'), authorised);
      const version = findVersion(repo, at === -1 ? 'main' : (parts[at + 1] ?? ''));
      return parts[at] === 'tree'
        ? this.#tree(version, parts[at + 1]!, parts.slice(at + 2).join('/'), path, query)
        : info(repo, version, query);
    } else {
      const at = parts.indexOf('resolve');
      if (at > 0) {
        const key = parts[0] === 'datasets' ? parts.slice(0, at) : ['models', ...parts.slice(0, at)];
        const repo = this.#repo(key.join('/'), authorised);
        return this.#resolve(repo, parts[at + 1] ?? '', parts.slice(at + 2).join('/'), authorised, range);
      }
    }
    throw new Refusal(404, null, 'Sorry, we can not find the page you are looking for.');
  }

  /** Without a token the hub does not tell a missing repository from a private one: both are 401. */
  #repo(key: string, authorised: boolean): Repo {
    const repo = this.#repos.get(key);
    if (!repo || (repo.private && !authorised)) {
      throw authorised
        ? new Refusal(404, 'RepoNotFound', 'Repository not found')
        : new Refusal(401, 'RepoNotFound', 'Invalid username or password.');
    }
    return repo;
  }

  #resolve(repo: Repo, revision: string, path: string, authorised: boolean, range: Range): Answer {
    if (repo.gated) {
      const restricted = `Access to ${repo.type} ${repo.id} is restricted`;
      throw authorised
        ? new Refusal(
            403,
            'GatedRepo',
            `${restricted} and you are not in the authorized list. Visit ${this.endpoint}/${repo.id} to ask for access.`,
          )
        : new Refusal(
            401,
            'GatedRepo',
            `${restricted}. You must have access to it and be authenticated to access it. Please log in.`,
          );
    }
    const { commit, files } = findVersion(repo, revision);
    const blob = files.get(path);
    if (!blob) {
      throw new Refusal(404, 'EntryNotFound', 'Entry not found', { 'X-Repo-Commit': commit });
    }
    if (blob.pointerSize === null) {
      const answer = fileAnswer(blob, `"${blob.oid}"`, TEXT_TYPE, range);
      return { ...answer, headers: { ...answer.headers, 'X-Repo-Commit': commit } };
    }
    const file = `/lfs/${blob.sha256}`;
    const expires = String(Math.floor(Date.now() / 1000) + this.#signatureSeconds);
    const location = `${this.cdn}${file}?Expires=${expires}&Signature=${this.#sign(file, expires)}`;
    return {
      status: 302,
      headers: {
        'Content-Type': TEXT_TYPE,
        Location: location,
        'X-Repo-Commit': commit,
        'X-Linked-Etag': `"${blob.sha256}"`,
        'X-Linked-Size': String(blob.size),
        'Accept-Ranges': 'bytes',
      },
      body: Buffer.from(`Found. Redirecting to ${location}`),
    };
  }

  #tree(version: Version, revision: string, folder: string, path: string, query: URLSearchParams): Answer {
    const expand = flag(query, 'expand');
    const entries = treeEntries(version, folder, flag(query, 'recursive'), expand);
    if (folder !== '' && entries.length === 0) {
      throw new Refusal(404, 'EntryNotFound', `${folder} does not exist on "${revision}"`, {
        'X-Repo-Commit': version.commit,
      });
    }
    const cursor = query.get('cursor');
    const start = cursor === null ? 0 : Number(Buffer.from(cursor, 'base64url').toString());
    if (!Number.isInteger(start)) {
      throw new Refusal(400, null, 'Invalid cursor');
    }
    const limit = Number(query.get('limit') ?? this.#pageSize);
    const end = start + Math.min(limit, this.#pageSize, expand ? EXPANDED_PAGE : this.#pageSize);
    const headers: Record<string, string> = {};
    if (end < entries.length) {
      const next = new URLSearchParams(query);
      next.set('cursor', Buffer.from(String(end)).toString('base64url'));
      headers.Link = `<${this.endpoint}${path}?${next}>; rel="next"`;
    }
    return jsonAnswer(entries.slice(start, end), headers);
  }
}

interface Range {
  /** The Range header; null: the whole file. */
  asked: string | null;
  ifRange: string | undefined;
}

function makeBlob(bytes: Buffer, lfs: boolean): Blob {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const pointer = Buffer.from(
    `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256}\nsize ${bytes.length}\n`,
  );
  const inGit = lfs ? pointer : bytes;
  const oid = createHash('sha1').update(`blob ${inGit.length}\0`).update(inGit).digest('hex');
  return { bytes, size: bytes.length, sha256, oid, pointerSize: lfs ? pointer.length : null };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new Refusal(400, null, 'Malformed URI sequence');
  }
}

/** Python writes true, and some clients True or 1. */
function flag(query: URLSearchParams, name: string): boolean {
  return /^(true|1)$/i.test(query.get(name) ?? '');
}

/** By name, by commit, or by the first 7 or more digits of one commit. */
function findVersion(repo: Repo, revision: string): Version {
  const exact = repo.versions.get(repo.refs.get(revision) ?? revision);
  const begun = /^[0-9a-f]{7,39}$/.test(revision)
    ? [...repo.versions.values()].filter(({ commit }) => commit.startsWith(revision))
    : [];
  const found = exact ?? (begun.length === 1 ? begun[0] : undefined);
  if (!found) {
    throw new Refusal(404, 'RevisionNotFound', `Invalid rev id: ${revision}`);
  }
  return found;
}

function info(repo: Repo, version: Version, query: URLSearchParams): Answer {
  const blobs = flag(query, 'blobs');
  const whole: Record<string, unknown> = {
    _id: createHash('sha1').update(`${repo.type}s/${repo.id}`).digest('hex').slice(0, 24),
    id: repo.id,
    ...(repo.type === 'model' ? { modelId: repo.id } : {}),
    author: repo.id.includes('/') ? repo.id.split('/')[0] : undefined,
    sha: version.commit,
    lastModified: DATE,
    createdAt: DATE,
    private: repo.private,
    gated: repo.gated ? 'manual' : false,
    disabled: false,
    downloads: 0,
    likes: 0,
    tags: [],
    siblings: [...version.files]
      .sort(([a], [b]) => compare(a, b))
      .map(([rfilename, { size, oid, sha256, pointerSize }]) => ({
        rfilename,
        ...(blobs ? { blobId: oid, size } : {}),
        ...(blobs && pointerSize !== null ? { lfs: { sha256, size, pointerSize } } : {}),
      })),
  };
  const wanted = query.getAll('expand');
  return jsonAnswer(
    wanted.length === 0
      ? whole
      : Object.fromEntries(Object.entries(whole).filter(([key]) => ['_id', 'id', ...wanted].includes(key))),
  );
}

/** In the order of their paths, a folder before what it holds; none: there is no such folder. */
function treeEntries(version: Version, folder: string, recursive: boolean, expand: boolean): object[] {
  const prefix = folder === '' ? '' : `${folder}/`;
  const lastCommit = expand ? { lastCommit: { id: version.commit, title: 'Add files', date: DATE } } : {};
  const entries = new Map<string, object>();
  for (const [path, { size, oid, sha256, pointerSize }] of version.files) {
    if (!path.startsWith(prefix)) {
      continue;
    }
    const parts = path.slice(prefix.length).split('/');
    for (let depth = 1; depth < (recursive ? parts.length : Math.min(parts.length, 2)); depth += 1) {
      const directory = prefix + parts.slice(0, depth).join('/');
      const id = createHash('sha1').update(`${version.commit}/${directory}`).digest('hex');
      entries.set(directory, { type: 'directory', oid: id, size: 0, path: directory, ...lastCommit });
    }
    if (recursive || parts.length === 1) {
      const lfs = pointerSize === null ? {} : { lfs: { oid: sha256, size, pointerSize } };
      entries.set(path, { type: 'file', oid, size, ...lfs, path, ...lastCommit });
    }
  }
  return [...entries].sort(([a], [b]) => compare(a, b)).map(([, entry]) => entry);
}

/** Not by locale: the order must be the same everywhere. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function jsonAnswer(value: unknown, headers: Record<string, string> = {}): Answer {
  return { status: 200, headers: { 'Content-Type': JSON_TYPE, ...headers }, body: Buffer.from(JSON.stringify(value)) };
}

function storageError(status: number, code: string, message: string): Answer {
  const body = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`;
  return { status, headers: { 'Content-Type': 'application/xml' }, body: Buffer.from(body) };
}

function fileAnswer(blob: Blob, etag: string, type: string, { asked, ifRange }: Range): Answer {
  const headers = { 'Content-Type': type, ETag: etag, 'Accept-Ranges': 'bytes' };
  const part = ifRange === undefined || ifRange === etag ? parseRange(asked, blob.size) : null;
  if (part === null) {
    return { status: 200, headers, body: blob.bytes };
  }
  if (part === 'outside') {
    return { status: 416, headers: { ...headers, 'Content-Range': `bytes */${blob.size}` }, body: Buffer.alloc(0) };
  }
  const [first, last] = part;
  return {
    status: 206,
    headers: { ...headers, 'Content-Range': `bytes ${first}-${last}/${blob.size}` },
    body: blob.bytes.subarray(first, last + 1),
  };
}

/** First and last byte, both included; null: the header is missing, several ranges or not understood, so the whole. */
function parseRange(header: string | null, size: number): [number, number] | 'outside' | null {
  const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(header ?? '') ?? [];
  if (first === '') {
    if (last === '') {
      return null;
    }
    return Number(last) === 0 || size === 0 ? 'outside' : [Math.max(size - Number(last), 0), size - 1];
  }
  if (last !== '' && Number(last) < Number(first)) {
    return null;
  }
  return Number(first) >= size ? 'outside' : [Number(first), last === '' ? size - 1 : Math.min(Number(last), size - 1)];
}

async function send(
  request: IncomingMessage,
  response: ServerResponse,
  seen: SeenRequest,
  answer: Answer,
  fault: Fault | undefined,
): Promise<void> {
  const head = seen.method === 'HEAD';
  const kind = fault?.kind;
  if ((fault?.kind === 'reset' && fault.after === undefined) || (kind === 'stall' && head)) {
    if (kind === 'reset') {
      request.socket.resetAndDestroy();
    }
    return;
  }

  let { body } = answer;
  const headers = { ...answer.headers };
  if (kind === 'gzip-no-length' && /\bgzip\b/.test(request.headers['accept-encoding'] ?? '')) {
    body = gzipSync(body);
    headers['Content-Encoding'] = 'gzip';
    if (headers.ETag) {
      // The bytes are no longer those the tag was made of.
      headers.ETag = `W/${headers.ETag}`;
    }
  }
  if (kind === 'gzip-no-length' || kind === 'endless') {
    delete headers['Accept-Ranges'];
    headers['Transfer-Encoding'] = 'chunked';
  } else {
    headers['Content-Length'] = String(body.length);
  }
  seen.status = answer.status;
  response.writeHead(answer.status, headers);
  response.flushHeaders();
  if (head) {
    response.end();
    return;
  }

  if (kind === 'stall') {
    return;
  }
  if (kind === 'endless') {
    const copies = Math.ceil(ENDLESS_BYTES / Math.max(body.length, 1));
    const round = body.length > 0 ? Buffer.concat(Array(copies).fill(body)) : Buffer.alloc(ENDLESS_BYTES);
    while (await sendBody(response, seen, round)) {
      // Neither this process nor a client that keeps what comes may starve.
      await pause(1);
    }
    return;
  }
  if (fault?.kind === 'truncate' || fault?.kind === 'reset') {
    await sendBody(response, seen, body.subarray(0, fault.after));
    if (fault.kind === 'truncate') {
      request.socket.end();
    } else {
      // A reset can overtake bytes that the client has not read yet.
      await pause(50);
      request.socket.resetAndDestroy();
    }
    return;
  }
  if (kind === 'corrupt' && body.length > 0) {
    body = Buffer.from(body);
    body[body.length >> 1]! ^= 1;
  }
  if (await sendBody(response, seen, body)) {
    response.end();
  }
}

/** @returns whether the client is still there */
async function sendBody(response: ServerResponse, seen: SeenRequest, body: Buffer): Promise<boolean> {
  for (let at = 0; at < body.length; at += PIECE_BYTES) {
    const piece = body.subarray(at, at + PIECE_BYTES);
    seen.bytes += piece.length;
    if (!(await write(response, piece))) {
      return false;
    }
  }
  return !response.destroyed;
}

function write(response: ServerResponse, piece: Buffer): Promise<boolean> {
  return new Promise((resolve) => {
    const left = () => resolve(false);
    response.once('close', left);
    response.write(piece, (error) => {
      response.off('close', left);
      resolve(!error);
    });
  });
}
