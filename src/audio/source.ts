/**
 * Where audio comes from: a path, bytes, or a stream. Whatever is no regular file is first collected, because the decoders go
 * through a file more than once: in memory up to a limit, then in a temporary file that has no name any more when it is
 * written, so nothing is left behind however the process ends.
 */
import { createHash, randomUUID } from 'node:crypto';
import { constants, createReadStream, openSync } from 'node:fs';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { addAbortSignal, Readable } from 'node:stream';
import { problem } from '../errors.js';

/** A path, the bytes of a file, or a stream such as stdin. */
export type AudioSource = string | Uint8Array | Readable;

export interface OpenedSource {
  /** For messages. */
  name: string;
  /** What Native.openAudio takes. */
  native: number | Uint8Array;
  /** SHA-256 of the bytes, hexadecimal; reads all of them. Until it is closed. */
  hash(): Promise<string>;
  /** Ends what `native` names; twice is fine. */
  close(): Promise<void>;
}

/** Streams up to this size, bytes, stay in memory. */
export const SPOOL_LIMIT = 16 * 2 ** 20;
const READ_SIZE = 2 ** 20;
/** A plain open of a pipe waits for its writer, in a thread that nothing can call back. No such flag on Windows, which has no such pipes. */
const READ_WITHOUT_WAITING = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

export interface SourceOptions {
  /** For messages; default: the path, or '<stdin>' for process.stdin. */
  name?: string | undefined;
  signal?: AbortSignal | undefined;
}

/** @throws VoiceGrpoError E_AUDIO for a path that is no readable file */
export async function openSource(source: AudioSource, options: SourceOptions = {}): Promise<OpenedSource> {
  if (typeof source === 'string') return openPath(source, options);
  if (source instanceof Readable) {
    return collect(source, options.name ?? (source === process.stdin ? '<stdin>' : '<stream>'), options.signal);
  }
  return ofBytes(source, options.name ?? '<bytes>');
}

async function openPath(path: string, { name = path, signal }: SourceOptions): Promise<OpenedSource> {
  const next = 'Give a WAV, MP3, FLAC, Ogg Vorbis or Ogg Opus file.';
  const refuse = (got: string) => problem({ code: 'E_AUDIO', where: name, expected: 'an audio file', got, next });
  let handle: FileHandle;
  try {
    handle = await open(path, READ_WITHOUT_WAITING);
  } catch (error) {
    const got: Record<string, string> = {
      ENOENT: 'nothing: no such file',
      ENOTDIR: 'nothing: no such file',
      EACCES: 'a file that may not be read',
      ENAMETOOLONG: 'a name that is too long',
      ELOOP: 'links that lead round in a circle',
      ENXIO: 'a socket or a device',
    };
    const what = got[(error as NodeJS.ErrnoException).code ?? ''];
    throw what ? refuse(what) : error;
  }
  try {
    const status = await handle.stat();
    if (status.isDirectory()) throw refuse('a folder');
    if (status.isFile()) return ofFile(handle, name);
    const stream = status.isFIFO() ? pipe(path) : createReadStream(path);
    await handle.close(); // after the pipe is opened again: without a reader its writer would end
    return await collect(stream, name, signal);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** A pipe, such as one of mkfifo or the shell's <(command), as a stream that takes no thread while it waits. */
function pipe(path: string): Readable {
  return new Socket({ fd: openSync(path, READ_WITHOUT_WAITING), readable: true, writable: false });
}

function ofFile(handle: FileHandle, name: string): OpenedSource {
  let hash: Promise<string> | undefined;
  let closed: Promise<void> | undefined;
  return {
    name,
    native: handle.fd,
    hash: () => {
      hash ??= hashOf(handle);
      return hash;
    },
    close: () => {
      // A hash that nobody waits for any more ends with an error when its file is closed.
      hash?.catch(() => undefined);
      closed ??= handle.close();
      return closed;
    },
  };
}

async function hashOf(handle: FileHandle): Promise<string> {
  const hash = createHash('sha256');
  const buffer = Buffer.alloc(READ_SIZE);
  for (let at = 0; ; ) {
    const { bytesRead } = await handle.read(buffer, 0, READ_SIZE, at);
    if (bytesRead === 0) return hash.digest('hex');
    hash.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
}

function ofBytes(bytes: Uint8Array, name: string): OpenedSource {
  return {
    name,
    native: bytes,
    hash: async () => createHash('sha256').update(bytes).digest('hex'),
    close: async () => undefined,
  };
}

async function collect(stream: Readable, name: string, signal?: AbortSignal): Promise<OpenedSource> {
  if (signal) addAbortSignal(signal, stream);
  const parts: Buffer[] = [];
  let size = 0;
  let file: FileHandle | undefined;
  try {
    for await (const chunk of stream) {
      const bytes: Buffer = typeof chunk === 'string' ? Buffer.from(chunk, 'latin1') : chunk;
      size += bytes.length;
      if (!file && size > SPOOL_LIMIT) {
        file = await openNameless();
        for (const part of parts) await file.writeFile(part);
        parts.length = 0;
      }
      if (file) await file.writeFile(bytes);
      else parts.push(bytes);
    }
  } catch (error) {
    await file?.close();
    signal?.throwIfAborted();
    throw error;
  }
  return file ? ofFile(file, name) : ofBytes(Buffer.concat(parts), name);
}

async function openNameless(): Promise<FileHandle> {
  const path = join(tmpdir(), `voicegrpo-${randomUUID()}`);
  const handle = await open(path, 'wx+', 0o600);
  await unlink(path);
  return handle;
}
