/** Reads a multipart form: its file goes to the disk as it comes, its fields are small. */
import { createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Busboy, type BusboyHeaders, type BusboyInstance } from '@fastify/busboy';
import { ApiError } from './api-error.js';
import type { PrivateFolder } from './private-folder.js';

export interface FormLimits {
  /** Of the whole body, bytes. */
  body: number;
  /** Fields and files together. */
  parts: number;
  /** Of a field's value, bytes. */
  field: number;
}

export interface Form {
  /** Values by name, in the order in which they came; '[]' behind a name is left away. */
  fields: Map<string, string[]>;
  file: { path: string; size: number };
}

/** Bytes of the headers of a part. */
const PART_HEADERS = 8192;
/** Header lines of a part. */
const PART_HEADER_LINES = 32;

/** @throws ApiError 415 for another content type, 413 for a body that says itself that it is too large */
export function checkFormHeaders({ headers }: IncomingMessage, limits: FormLimits): void {
  const type = headers['content-type'] ?? '';
  if (!/^multipart\/form-data\s*(;|$)/i.test(type)) {
    throw new ApiError(415, 'The request must be multipart/form-data with the audio in its part "file".', {
      code: 'unsupported_content_type',
    });
  }
  if (Number(headers['content-length'] ?? 0) > limits.body) {
    throw tooLarge(limits);
  }
}

/**
 * The caller removes the file. Where this fails, nothing is left of it, and the rest of the body is unread.
 *
 * @throws ApiError 400, 413; the signal's reason
 */
export async function readForm(
  request: IncomingMessage,
  folder: PrivateFolder,
  limits: FormLimits,
  signal: AbortSignal,
): Promise<Form> {
  signal.throwIfAborted();
  const parser = parserOf(request, limits);
  const path = folder.newPath();
  const fields: Form['fields'] = new Map();
  const stop = new AbortController();
  let writing: Promise<number> | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      let received = 0;
      request.on('data', (chunk: Buffer) => {
        received += chunk.length;
        if (received > limits.body) reject(tooLarge(limits));
      });
      request.on('error', reject);
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      parser.on('partsLimit', () => reject(malformed(`The form has more than ${limits.parts} parts.`)));
      parser.on('filesLimit', () => reject(malformed('The form has more than one file.', 'file')));
      parser.on('error', (error: Error) => reject(malformed(`The form cannot be read: ${sentence(error)}`)));
      parser.on('field', (name: string | undefined, value: string, _cut: boolean, truncated: boolean) => {
        if (truncated) reject(malformed(`A field has more than ${limits.field} bytes.`));
        else if (name !== undefined) add(fields, name, value);
      });
      parser.on('file', (name: string | undefined, stream: Readable) => {
        if (name !== 'file') {
          stream.on('error', () => {}); // that of the parser says it
          stream.resume();
          reject(malformed('The form has a file in another part than "file".'));
          return;
        }
        writing = store(stream, path, stop.signal);
        writing.catch(reject);
      });
      parser.on('finish', resolve);
      request.pipe(parser);
    });
    if (writing === undefined) {
      throw malformed('The form has no file: send the audio in a part "file" with a file name.', 'file');
    }
    const size = await writing;
    if (size === 0) {
      throw malformed('The file is empty.', 'file');
    }
    return { fields, file: { path, size } };
  } catch (error) {
    request.unpipe(parser);
    stop.abort();
    await writing?.catch(() => {});
    await rm(path, { force: true });
    throw error;
  }
}

function parserOf(request: IncomingMessage, limits: FormLimits): BusboyInstance {
  try {
    return new Busboy({
      headers: request.headers as BusboyHeaders,
      limits: {
        parts: limits.parts,
        files: 1,
        fieldSize: limits.field,
        headerSize: PART_HEADERS,
        headerPairs: PART_HEADER_LINES,
      },
    });
  } catch {
    throw malformed('The Content-Type header has no boundary that can be used.');
  }
}

/** @returns bytes written */
async function store(stream: Readable, path: string, signal: AbortSignal): Promise<number> {
  const target = createWriteStream(path, { flags: 'wx', mode: 0o600 });
  await pipeline(stream, target, { signal });
  return target.bytesWritten;
}

function add(fields: Form['fields'], name: string, value: string): void {
  const key = name.replace(/\[\]$/, '');
  fields.set(key, [...(fields.get(key) ?? []), value]);
}

function malformed(message: string, param?: string): ApiError {
  return new ApiError(400, message, { code: 'invalid_form', ...(param !== undefined && { param }) });
}

function tooLarge({ body }: FormLimits): ApiError {
  return new ApiError(413, `The request is larger than ${body} bytes, which is the most that this server takes.`, {
    code: 'request_too_large',
  });
}

function sentence({ message }: Error): string {
  const text = message.charAt(0).toLowerCase() + message.slice(1);
  return text.endsWith('.') ? text : `${text}.`;
}
