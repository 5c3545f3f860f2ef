/**
 * The cache on disk, laid out as Python's huggingface_hub lays it out (file_download.py, _tree_cache.py), so that either finds
 * what the other fetched:
 *
 *   models--org--name/   datasets--org--name/
 *     blobs/<etag>                      content; may be a link into a store shared by repositories, which is read and left alone
 *     snapshots/<commit>/<path>         relative links to blobs
 *     refs/<revision>                   the commit, 40 hex digits without a newline
 *     trees/<commit>.json               every file of the commit
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { problem } from '../errors.js';

export interface Repository {
  type: 'model' | 'dataset';
  /** 'org/name', or 'name' of old ones */
  id: string;
}

/** A file of one commit. */
export interface TreeEntry {
  path: string;
  /** bytes */
  size: number;
  /** Name of the blob: SHA-256 of the content for a large file, else git's SHA-1. */
  etag: string;
}

export interface CachedFile {
  repository: Repository;
  commit: string;
  /** Branches and tags that stood for the commit when last looked at. */
  revisions: string[];
  /** Path in the repository. */
  file: string;
  /** Path on this machine. */
  path: string;
  bytes: number;
}

const COMMIT = /^[0-9a-f]{40}$/;
const ETAG = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
const CACHEDIR_TAG = `Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by huggingface_hub.
# For information about cache directory tags, see:
#\thttps://bford.info/cachedir/
`;
/** A part of a process that cannot be looked up is taken over once that must be gone: no wait between two tries is as long, ms. */
const ABANDONED_AFTER = 600_000;
/** Names where process numbers mean the same as here. */
const HOST = createHash('sha256').update(processSpace()).digest('hex').slice(0, 8);
const TREE_FORMAT = 1;

export function isCommit(revision: string): boolean {
  return COMMIT.test(revision);
}

/** @throws VoiceGrpoError E_CONFIG for what is no repository id */
export function checkRepositoryId(id: string, where: string): void {
  const part = '\\w(?:[\\w.-]*\\w)?';
  if (!new RegExp(`^(?:${part}/)?${part}$`).test(id) || id.length > 96 || /--|\.\.|\.git$/.test(id)) {
    throw problem({
      code: 'E_CONFIG',
      expected: "a repository of the hub, 'org/name'",
      where,
      got: `'${id}'`,
      next: 'correct the name',
    });
  }
}

/** True for a path inside a repository that stays inside the folder it is put in. Half a character has no place in a URL. */
export function isInside(path: string): boolean {
  return (
    path !== '' &&
    !/[\\\0]|\p{Surrogate}/u.test(path) &&
    path.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
  );
}

/** True for a name that a blob can have: it is the checksum of the content. */
export function isEtag(etag: string): boolean {
  return typeof etag === 'string' && ETAG.test(etag);
}

export class HubCache {
  constructor(readonly root: string) {}

  folder({ type, id }: Repository): string {
    return join(this.root, [`${type}s`, ...id.split('/')].join('--'));
  }

  /** The commit of a revision as of the last look; null if it was never seen. */
  commitOf(repository: Repository, revision: string): string | null {
    if (isCommit(revision)) {
      return revision;
    }
    const text = readText(this.#ref(repository, revision))?.trim() ?? '';
    return isCommit(text) ? text : null;
  }

  rememberCommit(repository: Repository, revision: string, commit: string): void {
    const ref = this.#ref(repository, revision);
    if (revision !== commit && readText(ref) !== commit) {
      this.#keep(() => writeRenamed(ref, commit));
    }
  }

  /** Path of a file of a commit, null if it is not here. Links are followed, wherever they lead. */
  file(repository: Repository, commit: string, path: string): string | null {
    const pointer = join(this.folder(repository), 'snapshots', commit, path);
    return isInside(path) && existsSync(pointer) ? pointer : null;
  }

  /** The files of a commit that are here, by their links: all there is to know of them without a listing. */
  snapshot(repository: Repository, commit: string): TreeEntry[] {
    const folder = join(this.folder(repository), 'snapshots', commit);
    return list(folder, true)
      .map((path) => ({
        path,
        size: statSync(join(folder, path), { throwIfNoEntry: false })?.size ?? -1,
        etag: basename(linkOf(join(folder, path)) ?? ''),
      }))
      .filter(isTreeEntry);
  }

  /** Every file of every snapshot. */
  files(type: Repository['type']): CachedFile[] {
    const found: CachedFile[] = [];
    for (const name of list(this.root)) {
      const [kind, ...parts] = name.split('--');
      if (kind !== `${type}s` || parts.length === 0) {
        continue;
      }
      const repository: Repository = { type, id: parts.join('/') };
      const folder = this.folder(repository);
      const refs = list(join(folder, 'refs'), true).map(
        (revision) => [revision, this.commitOf(repository, revision)] as const,
      );
      for (const commit of list(join(folder, 'snapshots')).filter(isCommit)) {
        const revisions = refs.filter(([, of]) => of === commit).map(([revision]) => revision);
        for (const file of list(join(folder, 'snapshots', commit), true)) {
          const path = join(folder, 'snapshots', commit, file);
          const stats = statSync(path, { throwIfNoEntry: false }); // none: a link to what is no longer there
          if (stats?.isFile()) {
            found.push({ repository, commit, revisions, file, path, bytes: stats.size });
          }
        }
      }
    }
    return found;
  }

  /** Content by its name, null if it is not here. */
  blob(repository: Repository, etag: string): string | null {
    const path = join(this.folder(repository), 'blobs', etag);
    return existsSync(path) ? path : null;
  }

  /** Names the blob in a snapshot; returns the path there. */
  link(repository: Repository, commit: string, path: string, etag: string): string {
    const folder = this.folder(repository);
    const blob = join(folder, 'blobs', etag);
    const pointer = join(folder, 'snapshots', commit, path);
    if (existsSync(pointer)) {
      return pointer;
    }
    mkdirSync(dirname(pointer), { recursive: true });
    rmSync(pointer, { force: true }); // a link to what is no longer there
    try {
      symlinkSync(relative(dirname(pointer), blob), pointer);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST' && existsSync(pointer)) {
        return pointer; // another process was as quick
      }
      if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'EOPNOTSUPP') {
        throw error;
      }
      const temporary = `${pointer}.${randomBytes(4).toString('hex')}.tmp`;
      copyFileSync(blob, temporary); // a file system without links
      renameSync(temporary, pointer);
    }
    return pointer;
  }

  /**
   * A file of our own for content that is to become blob `etag`: what an ended process left of it, or a new one. Names are
   * unique, since locks are not to be trusted on network file systems; what is adopted wrongly fails its checksum.
   */
  partial(repository: Repository, etag: string): string {
    this.#prepare();
    const folder = join(this.folder(repository), 'blobs');
    mkdirSync(folder, { recursive: true });
    const own = join(folder, `${etag}.${HOST}-${process.pid}-${randomBytes(4).toString('hex')}.incomplete`);
    for (const name of readdirSync(folder)) {
      const [, host, pid] = /\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.incomplete$/.exec(name) ?? [];
      if (!name.startsWith(`${etag}.`) || host === undefined) {
        continue;
      }
      const path = join(folder, name);
      try {
        const age = Date.now() - statSync(path).mtimeMs;
        if (age > ABANDONED_AFTER || (host === HOST && !isRunning(Number(pid)))) {
          renameSync(path, own);
          return own;
        }
      } catch {
        // Another process took it first.
      }
    }
    closeSync(openSync(own, 'wx'));
    return own;
  }

  /** This process is done with a part: whoever comes next may go on with it. An empty one is of no use. */
  leave(partial: string): void {
    try {
      if (statSync(partial).size === 0) {
        rmSync(partial);
      } else {
        utimesSync(partial, 0, 0);
      }
    } catch {
      // Another process took it. What ended the download is what is to be told.
    }
  }

  /** Content that was verified gets its name. A link that stood there is replaced, what it leads to is left alone. */
  finish(repository: Repository, etag: string, partial: string): void {
    renameSync(partial, join(this.folder(repository), 'blobs', etag));
  }

  tree(repository: Repository, commit: string): TreeEntry[] | null {
    try {
      const { format_version, files } = JSON.parse(readFileSync(this.#tree(repository, commit), 'utf8'));
      if (format_version !== TREE_FORMAT) {
        return null;
      }
      const entries = Object.entries(files as Record<string, StoredTreeEntry>).map(([path, entry]) => ({
        path,
        size: entry.lfs_size ?? entry.size,
        etag: entry.lfs_sha256 ?? entry.blob_id,
      }));
      return entries.every(isTreeEntry) ? entries : null;
    } catch {
      return null; // not there, or of no use: it is fetched anew
    }
  }

  rememberTree(
    repository: Repository,
    commit: string,
    entries: readonly TreeEntry[],
    blobIds: ReadonlyMap<string, string>,
  ): void {
    const files = Object.fromEntries(
      [...entries]
        .sort((a, b) => (a.path < b.path ? -1 : 1))
        .map(({ path, size, etag }): [string, StoredTreeEntry] => {
          const blob_id = blobIds.get(path) ?? etag;
          return [path, blob_id === etag ? { size, blob_id } : { size, blob_id, lfs_sha256: etag, lfs_size: size }];
        }),
    );
    this.#keep(() => {
      writeRenamed(this.#tree(repository, commit), JSON.stringify({ format_version: TREE_FORMAT, files }, null, 1));
      // A ref to a commit without this folder is a damaged cache to huggingface_hub.
      mkdirSync(join(this.folder(repository), 'snapshots', commit), { recursive: true });
    });
  }

  /** Writes what can be asked for again, if it can be written: a cache that belongs to others still serves what it has. */
  #keep(write: () => void): void {
    try {
      this.#prepare();
      write();
    } catch {
      // The next process asks again.
    }
  }

  #ref(repository: Repository, revision: string): string {
    return join(this.folder(repository), 'refs', revision);
  }

  #tree(repository: Repository, commit: string): string {
    return join(this.folder(repository), 'trees', `${commit}.json`);
  }

  #prepare(): void {
    mkdirSync(this.root, { recursive: true });
    const tag = join(this.root, 'CACHEDIR.TAG');
    if (!existsSync(tag)) {
      writeFileSync(tag, CACHEDIR_TAG);
    }
  }
}

/** As in huggingface_hub's trees/<commit>.json. */
interface StoredTreeEntry {
  size: number;
  /** git's SHA-1 */
  blob_id: string;
  lfs_sha256?: string;
  lfs_size?: number;
}

export function isTreeEntry({ path, size, etag }: TreeEntry): boolean {
  return typeof path === 'string' && isInside(path) && Number.isSafeInteger(size) && size >= 0 && isEtag(etag);
}

function list(folder: string, recursive = false): string[] {
  return existsSync(folder) ? readdirSync(folder, { recursive, encoding: 'utf8' }).sort() : [];
}

/** This machine since it started, and the container on it. */
function processSpace(): string {
  try {
    return [
      hostname(),
      readFileSync('/proc/sys/kernel/random/boot_id', 'utf8'),
      readlinkSync('/proc/self/ns/pid'),
    ].join();
  } catch {
    return hostname(); // no Linux
  }
}

function linkOf(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null; // no link
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

function writeRenamed(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  const temporary = `${path}.${randomBytes(4).toString('hex')}.tmp`;
  writeFileSync(temporary, text);
  renameSync(temporary, path);
}
