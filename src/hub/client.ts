/** The hub: commits, listings, whole files into the cache, and parts of files. */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { nearest } from '../config/sentences.js';
import { VoiceGrpoError } from '../errors.js';
import {
  checkRepositoryId,
  HubCache,
  isCommit,
  isEtag,
  isInside,
  isTreeEntry,
  type Repository,
  type TreeEntry,
} from './cache.js';
import { type HubEnvironment, hubEnvironment } from './environment.js';
import {
  type Address,
  type Answer,
  type HttpOptions,
  HubHttp,
  interrupted,
  offline,
  refusal,
  Transient,
  Unreachable,
} from './http.js';

/** Pages of a listing; more is no listing. */
const MAX_PAGES = 500;
/** Bytes that make a broken try worth another five. */
const PROGRESS_BYTES = 2 ** 20;
/** Statuses by which a signed address says that it is over. */
const EXPIRED = [401, 403, 410];

/** Bytes of a file, wherever they are: [start, end). */
export interface RandomAccess {
  /** bytes */
  size: number;
  slice(start: number, end: number): Promise<Uint8Array>;
}

export interface DownloadOptions {
  /** Told bytes fetched of all. */
  progress?: (bytes: number, of: number) => void;
  signal?: AbortSignal | undefined;
}

export class Hub {
  readonly cache: HubCache;
  readonly #http: HubHttp;
  readonly #note: (text: string) => void;

  constructor(
    readonly environment: HubEnvironment = hubEnvironment(),
    options: HttpOptions = {},
  ) {
    this.cache = new HubCache(environment.cache);
    this.#http = new HubHttp(environment, options);
    this.#note = options.note ?? (() => {});
  }

  /** Ends open connections. */
  close(): Promise<void> {
    return this.#http.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * The commit that a branch, a tag or a short hash stands for now. Without a connection: the one seen last.
   *
   * @throws VoiceGrpoError E_HUB
   */
  async commit(repository: Repository, revision: string, signal?: AbortSignal): Promise<string> {
    checkRepositoryId(repository.id, 'the hub');
    if (isCommit(revision)) {
      return revision;
    }
    const address = this.#address(
      repository,
      `revision '${revision}' of ${repository.id}`,
      `/revision/${encodeURIComponent(revision)}`,
    );
    if (!isInside(revision)) {
      throw refusal(address, 'a branch, a tag or a commit', `'${revision}'`, 'correct --revision');
    }
    const known = this.cache.commitOf(repository, revision);
    if (this.environment.offline) {
      if (known === null) {
        throw offline(address.what);
      }
      return known;
    }
    try {
      // Where the cache may do, nobody waits for a network that is not there.
      const { value } = await this.#http.json(address, { signal, ...(known !== null && { most: 1 }) });
      const sha = (value as { sha?: unknown } | null)?.sha;
      if (typeof sha !== 'string' || !isCommit(sha)) {
        throw refusal(
          address,
          'a commit of 40 hex digits',
          JSON.stringify(sha)?.slice(0, 100) ?? 'none',
          'correct HF_ENDPOINT',
        );
      }
      this.cache.rememberCommit(repository, revision, sha);
      return sha;
    } catch (error) {
      if (known === null || !(error instanceof Unreachable)) {
        throw error;
      }
      this.#note(`${error.message} Taking the revision seen last, ${known}.`);
      return known;
    }
  }

  /** Every file of a commit. Asked for once: a commit does not change. Offline, and never asked for: the files that are here. */
  async tree(repository: Repository, commit: string, signal?: AbortSignal): Promise<TreeEntry[]> {
    const known = this.cache.tree(repository, commit);
    if (known !== null) {
      return known;
    }
    const what = `the files of ${repository.id}`;
    const here = this.environment.offline ? this.cache.snapshot(repository, commit) : [];
    if (here.length > 0) {
      this.#note(`Of ${repository.id} only what is here is known: ${here.length} file${here.length > 1 ? 's' : ''}.`);
      return here;
    }
    const entries: TreeEntry[] = [];
    const blobIds = new Map<string, string>();
    let next: string | null = this.#address(repository, what, `/tree/${commit}?recursive=true`).url;
    for (let page = 0; next !== null; page++) {
      const address: Address = { ...this.#address(repository, what, ''), url: next };
      const answer: Awaited<ReturnType<HubHttp['json']>> = await this.#http.json(address, { signal });
      if (!Array.isArray(answer.value) || page >= MAX_PAGES) {
        throw refusal(
          address,
          'a list of files',
          page >= MAX_PAGES ? 'one without end' : typeof answer.value,
          'correct HF_ENDPOINT',
        );
      }
      for (const listed of answer.value as (ListedEntry | null)[]) {
        if (listed?.type !== 'file') {
          continue;
        }
        const { path, size, oid, lfs } = listed;
        const entry = { path, size: lfs?.size ?? size, etag: lfs?.oid ?? oid };
        if (!isTreeEntry(entry) || !isEtag(oid)) {
          throw refusal(
            address,
            'paths, sizes and hashes of files',
            JSON.stringify(listed).slice(0, 200),
            'correct HF_ENDPOINT',
          );
        }
        entries.push(entry);
        blobIds.set(path, oid);
      }
      next = answer.next;
    }
    this.cache.rememberTree(repository, commit, entries, blobIds);
    return entries;
  }

  /** A file of a commit. @throws VoiceGrpoError E_HUB naming what there is instead */
  async entry(repository: Repository, commit: string, path: string, signal?: AbortSignal): Promise<TreeEntry> {
    const tree = await this.tree(repository, commit, signal);
    const found = tree.find((entry) => entry.path === path);
    if (found === undefined) {
      const close = nearest(
        path,
        tree.map((entry) => entry.path),
      );
      throw refusal(
        { what: `${path} of ${repository.id}` },
        'a file that exists',
        'none of that name',
        close === null ? `see ${this.#page(repository)}/tree/${commit}` : `did you mean ${close}?`,
      );
    }
    return found;
  }

  /**
   * The path of a file in the cache; fetched if it is not there. What was fetched before an interruption is kept, and nothing gets
   * its name before its size and checksum are right.
   */
  async download(
    repository: Repository,
    commit: string,
    entry: TreeEntry,
    options: DownloadOptions = {},
  ): Promise<string> {
    const known = this.local(repository, commit, entry);
    if (known !== null) {
      return known;
    }
    const address = this.#file(repository, commit, entry);
    if (this.environment.offline) {
      throw offline(address.what);
    }
    const partial = this.cache.partial(repository, entry.etag);
    await using file = await open(partial, 'r+').then(disposable);
    try {
      await this.#fetch(file.handle, partial, address, entry, options);
    } catch (error) {
      await file.handle.close();
      this.cache.leave(partial);
      throw error;
    }
    await file.handle.sync();
    this.cache.finish(repository, entry.etag, partial);
    return this.cache.link(repository, commit, entry.path, entry.etag);
  }

  /** The path of a file that is whole in the cache, else null. */
  local(repository: Repository, commit: string, entry: TreeEntry): string | null {
    return (
      this.cache.file(repository, commit, entry.path) ??
      (this.cache.blob(repository, entry.etag) === null
        ? null
        : this.cache.link(repository, commit, entry.path, entry.etag))
    );
  }

  /**
   * Parts of a file without the rest of it.
   *
   * @param progress told the bytes of each piece that arrives
   */
  parts(
    repository: Repository,
    commit: string,
    entry: TreeEntry,
    { progress, signal }: { progress?: (bytes: number) => void; signal?: AbortSignal | undefined } = {},
  ): RandomAccess {
    const address = this.#file(repository, commit, entry);
    let signed: string | null = null;
    return {
      size: entry.size,
      slice: async (start, end) => {
        if (!(start >= 0 && start <= end && end <= entry.size)) {
          throw refusal(
            address,
            `bytes within its ${entry.size}`,
            `a request for ${start} to ${end}`,
            'the file is damaged: choose another --revision',
          );
        }
        if (start === end) {
          return new Uint8Array(0);
        }
        const part = new Uint8Array(end - start);
        let at = start;
        await this.#http.tries(
          async () => {
            const from = signed;
            const answer = await this.#http.answerOnce(
              { ...address, url: from ?? address.url },
              { range: `bytes=${at}-${end - 1}`, allow: from === null ? [] : EXPIRED, signal },
            );
            if (answer.status >= 400) {
              signed = null;
              throw new Transient(refusal(address, 'an answer', `status ${answer.status}`, 'try again later'), 0);
            }
            signed = new URL(answer.url).origin === new URL(this.environment.endpoint).origin ? null : answer.url;
            let place = startOf(answer, address, entry);
            if (place > at) {
              answer.body.destroy();
              throw new Transient(refusal(address, `bytes from ${at}`, `bytes from ${place}`, 'try again later'));
            }
            try {
              for await (const chunk of answer.body as AsyncIterable<Buffer>) {
                // The whole may have come in place of the part.
                const bytes = chunk.subarray(Math.max(0, at - place), Math.max(0, end - place));
                part.set(bytes, at - start);
                at += bytes.length;
                place += chunk.length;
                progress?.(chunk.length);
                if (at === end) {
                  break;
                }
              }
            } catch (error) {
              throw interrupted(address, error);
            }
            if (at < end) {
              throw interrupted(address, new Error(`${at - start} of ${end - start} bytes`));
            }
          },
          { signal, progressed: gains(() => at) },
        );
        return part;
      },
    };
  }

  async #fetch(
    file: FileHandle,
    partial: string,
    address: Address,
    entry: TreeEntry,
    { progress, signal }: DownloadOptions,
  ): Promise<void> {
    let { hash, at } = await resumed(file, partial, entry, signal);
    const restart = async () => {
      await file.truncate(0);
      ({ hash, at } = { hash: checksum(entry), at: 0 });
    };
    await this.#http.tries(
      async () => {
        if (at < entry.size) {
          const answer = await this.#http.answerOnce(address, {
            ...(at > 0 && { range: `bytes=${at}-`, allow: [416] }),
            signal,
          });
          const place = answer.status === 416 ? -1 : startOf(answer, address, entry);
          if (place !== at) {
            await restart();
          }
          if (place !== at) {
            answer.body.destroy(); // not even the whole came
            const got = place < 0 ? 'status 416' : `bytes from ${place}`;
            throw new Transient(refusal(address, 'the rest of it', got, 'try again later'), 0);
          }
          try {
            for await (const chunk of answer.body as AsyncIterable<Buffer>) {
              if (at + chunk.length > entry.size) {
                answer.body.destroy();
                await restart();
                throw refusal(address, `${entry.size} bytes`, 'more', 'try again later');
              }
              await writeAll(file, chunk, at);
              hash.update(chunk);
              at += chunk.length;
              progress?.(at, entry.size);
            }
          } catch (error) {
            throw error instanceof VoiceGrpoError || isOfDisk(error) ? error : interrupted(address, error);
          }
          if (at < entry.size) {
            throw interrupted(address, new Error(`${at} of ${entry.size} bytes`));
          }
        }
        if (hash.copy().digest('hex') !== entry.etag) {
          await restart();
          throw new Transient(
            refusal(address, `content with the checksum ${entry.etag}`, 'another', 'try again later'),
          );
        }
      },
      { signal, progressed: gains(() => at) },
    );
  }

  #address(repository: Repository, what: string, rest: string): Address {
    return {
      url: `${this.environment.endpoint}/api/${repository.type}s/${repository.id}${rest}`,
      what,
      page: this.#page(repository),
    };
  }

  #file(repository: Repository, commit: string, { path }: TreeEntry): Address {
    return {
      url: `${this.#page(repository)}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`,
      what: `${path} of ${repository.id}`,
      page: this.#page(repository),
    };
  }

  #page({ type, id }: Repository): string {
    return `${this.environment.endpoint}/${type === 'dataset' ? 'datasets/' : ''}${id}`;
  }
}

/** As the hub's tree lists it. */
interface ListedEntry {
  type: string;
  path: string;
  size: number;
  oid: string;
  lfs?: { oid: string; size: number };
}

function disposable(handle: FileHandle) {
  return { handle, [Symbol.asyncDispose]: () => handle.close() };
}

/** The running checksum that an etag is made of. */
function checksum({ etag, size }: TreeEntry): Hash {
  return etag.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

/** Where a part stands that is already here. */
async function resumed(
  file: FileHandle,
  partial: string,
  entry: TreeEntry,
  signal?: AbortSignal,
): Promise<{ hash: Hash; at: number }> {
  const hash = checksum(entry);
  const { size } = await file.stat();
  if (size > entry.size) {
    await file.truncate(0);
    return { hash, at: 0 };
  }
  if (size > 0) {
    for await (const chunk of createReadStream(partial, { end: size - 1, signal })) {
      hash.update(chunk as Buffer);
    }
  }
  return { hash, at: size };
}

/** Whether a failed try brought more than any before it: what has to be fetched again counts once. */
function gains(at: () => number): () => boolean {
  let furthest = at();
  return () => {
    const gained = at() - furthest >= PROGRESS_BYTES;
    furthest = Math.max(furthest, at());
    return gained;
  };
}

/**
 * Where the body of an answer begins in the file.
 *
 * @throws Transient for another file, such as the page by which a network asks for a login
 */
function startOf({ status, headers, body }: Answer, address: Address, { size }: TreeEntry): number {
  const [, start, total] =
    status === 206
      ? (/^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers['content-range'] ?? '') ?? [])
      : ['', '0', headers['content-encoding'] === undefined ? headers['content-length'] : undefined];
  if (start === undefined || (total !== undefined && total !== '*' && Number(total) !== size)) {
    body.destroy();
    const got = start === undefined ? 'a part without its place' : `${total} bytes`;
    throw new Transient(refusal(address, `${size} bytes`, got, 'try again later'));
  }
  return Number(start);
}

async function writeAll(file: FileHandle, bytes: Buffer, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
  }
}

function isOfDisk(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT', 'EFBIG', 'EIO', 'EROFS', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '');
}
