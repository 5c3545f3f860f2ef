/** A model as transformers saves it: a folder of JSON files and safetensors, single or in parts. */
import type { Stats } from 'node:fs';
import { open, readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { problem, type VoiceGrpoError } from '../errors.js';
import { decodeFloats, FLOAT_BYTES, type FloatDtype } from './gguf-types.js';
import { type JsonLimits, parseJson, quoted, readSafetensorsHeader, type TensorEntry } from './safetensors.js';

const MB = 1_000_000;
const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
/** A configuration is some kB; one of 27 billion parameters has an index of 100 kB. */
const SMALL_JSON: JsonLimits & { bytes: number } = { bytes: 16 * MB, depth: 32, values: MB };
/** Values read, converted and written at a time: a multiple of every type's block. */
const AT_A_TIME = 2 ** 20;

/** A tensor in a file of the folder. */
export interface FolderTensor extends TensorEntry {
  name: string;
  /** Path of the file that it lies in. */
  file: string;
}

/** A failure that the folder's files are the reason of. */
export function folderProblem(
  where: string,
  expected: string,
  got: string,
  next = 'download the model again, or save it again with save_pretrained',
): VoiceGrpoError {
  return problem({ code: 'E_MODEL', expected, where, got, next });
}

/** A list for a sentence, which names the first few. */
export function listed(names: readonly string[], most = 4): string {
  const shown = names.slice(0, most).map(quoted).join(', ');
  return names.length > most ? `${shown} and ${names.length - most} more` : shown;
}

/** Null where there is nothing. */
async function statOf(path: string): Promise<Stats | null> {
  try {
    return await stat(path);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(String((error as NodeJS.ErrnoException).code))) return null;
    throw error;
  }
}

/**
 * The bytes of a file that must not be large; null where there is none.
 *
 * @throws VoiceGrpoError E_MODEL for a larger file or something that is no file
 */
export async function readSmallFile(path: string, most: number): Promise<Buffer | null> {
  const found = await statOf(path);
  if (found === null) return null;
  if (!found.isFile()) throw folderProblem(path, 'a file', 'a folder or a device');
  if (found.size > most) throw folderProblem(path, `at most ${most} bytes`, `${found.size}`);
  const bytes = await readFile(path);
  if (isPointer(bytes)) throw pointerProblem(path);
  return bytes;
}

/** What git leaves in the place of a large file that was not fetched. */
const isPointer = (bytes: Buffer): boolean =>
  bytes.subarray(0, 34).toString('latin1') === 'version https://git-lfs.github.com';

const pointerProblem = (path: string): VoiceGrpoError =>
  folderProblem(
    path,
    'the file itself',
    'a Git LFS pointer to it',
    'run `git lfs pull` in the folder, or download the model again',
  );

/**
 * A JSON object; null where there is no such file.
 *
 * @throws VoiceGrpoError E_MODEL for anything else, with keys that stand there twice and bounds that are exceeded
 */
export async function readJsonObject(
  path: string,
  limits: JsonLimits & { bytes: number } = SMALL_JSON,
): Promise<Record<string, unknown> | null> {
  const bytes = await readSmallFile(path, limits.bytes);
  if (bytes === null) return null;
  let value: unknown;
  try {
    value = parseJson(bytes, limits);
  } catch (error) {
    throw folderProblem(path, 'a JSON object', `a file that ${(error as Error).message}`);
  }
  if (!isObject(value)) throw folderProblem(path, 'a JSON object', `another value: ${shown(value)}`);
  return value;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/** A value of a file for a sentence. */
export function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'string') return quoted(value);
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

/** The folder's name for people: of a snapshot in the hub's cache, models--org--name/snapshots/commit, the repository's. */
export function folderName(folder: string): string {
  const full = resolve(folder);
  const repository = /^models--.+?--(.+)$/.exec(basename(dirname(dirname(full))));
  return basename(dirname(full)) === 'snapshots' && repository !== null ? (repository[1] as string) : basename(full);
}

/**
 * Finds every tensor of the folder's weights: of model.safetensors, or of the parts that model.safetensors.index.json names.
 * Reads headers only.
 *
 * @throws VoiceGrpoError E_MODEL for damaged files, an index that does not fit them, or names that lead out of the folder
 */
export async function readFolderTensors(folder: string): Promise<Map<string, FolderTensor>> {
  if ((await statOf(join(folder, SINGLE))) !== null) return readPart(folder, SINGLE);
  const path = join(folder, INDEX);
  const index = await readJsonObject(path, { ...SMALL_JSON, bytes: 100 * MB });
  if (index === null) throw noWeights(folder, await readdir(folder));
  const { weight_map: map } = index;
  if (!isObject(map)) throw folderProblem(path, "'weight_map' with a file for each tensor", shown(map));
  const parts = new Set<string>();
  for (const [name, part] of Object.entries(map)) {
    if (typeof part !== 'string' || !/^[\w.-]+\.safetensors$/.test(part)) {
      throw folderProblem(path, `the name of a safetensors file in this folder for ${quoted(name)}`, shown(part));
    }
    parts.add(part);
  }
  const tensors = new Map<string, FolderTensor>();
  for (const part of [...parts].sort()) {
    for (const [name, tensor] of await readPart(folder, part)) {
      if (map[name] !== part) {
        const other = Object.hasOwn(map, name) ? shown(map[name]) : 'no file';
        throw folderProblem(path, `${quoted(name)} in ${quoted(part)}, where it lies`, other);
      }
      tensors.set(name, tensor);
    }
  }
  const missing = Object.keys(map).filter((name) => !tensors.has(name));
  if (missing.length > 0) {
    throw folderProblem(
      path,
      `files with its ${Object.keys(map).length} tensors`,
      `none of them with ${listed(missing)}`,
    );
  }
  return tensors;
}

function noWeights(folder: string, names: readonly string[]): VoiceGrpoError {
  const expected = `${SINGLE}, or parts and ${INDEX}`;
  const others = names.filter((name) => /\.(safetensors|bin|pt|pth|gguf|h5|msgpack)$/.test(name));
  const next = others.some((name) => name.endsWith('.safetensors'))
    ? `download ${INDEX} of the model too`
    : others.some((name) => name.endsWith('.gguf'))
      ? 'a GGUF file needs no conversion: name the file itself'
      : 'load the model with transformers and save it with save_pretrained, which writes safetensors';
  return folderProblem(folder, expected, others.length > 0 ? listed(others) : 'no file of weights', next);
}

async function readPart(folder: string, part: string): Promise<Map<string, FolderTensor>> {
  const file = join(folder, part);
  const found = await statOf(file);
  if (!found?.isFile()) {
    throw folderProblem(file, 'a safetensors file', found === null ? 'no such file' : 'a folder or a device');
  }
  // A pointer is shorter than this; weights of this size are no model.
  if (found.size < 1024 && isPointer(await readFile(file))) throw pointerProblem(file);
  let entries: Map<string, TensorEntry>;
  try {
    entries = await readSafetensorsHeader(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall !== undefined) throw error;
    throw folderProblem(file, 'a safetensors file', `a damaged one: ${(error as Error).message}`);
  }
  return new Map([...entries].map(([name, entry]) => [name, { ...entry, name, file }]));
}

/** Whether the tensor's numbers can be read by `readValues`. */
export function isFloat(dtype: string): dtype is FloatDtype {
  return Object.hasOwn(FLOAT_BYTES, dtype);
}

/**
 * The tensor's numbers as float32, about a million at a time; the array is the same each time.
 *
 * @throws VoiceGrpoError E_MODEL for NaN, infinity and a file that was cut meanwhile; the signal's reason
 */
export async function* readValues(tensor: FolderTensor, signal?: AbortSignal): AsyncGenerator<Float32Array> {
  const { file: path, start, end } = tensor;
  if (!isFloat(tensor.dtype)) throw new RangeError(`${tensor.name} has type ${tensor.dtype}`);
  const size = FLOAT_BYTES[tensor.dtype];
  const count = Math.min(AT_A_TIME, (end - start) / size);
  const bytes = new Uint8Array(count * size);
  const values = new Float32Array(count);
  const file = await open(path, 'r');
  try {
    for (let at = start; at < end; ) {
      signal?.throwIfAborted();
      const piece = bytes.subarray(0, Math.min(bytes.length, end - at));
      for (let got = 0; got < piece.length; ) {
        const { bytesRead } = await file.read(piece, got, piece.length - got, at + got);
        if (bytesRead === 0) throw folderProblem(path, `${end} bytes`, `${at + got}: it was cut while it was read`);
        got += bytesRead;
      }
      at += piece.length;
      const part = values.subarray(0, piece.length / size);
      if (!decodeFloats(tensor.dtype, piece, part)) {
        throw folderProblem(path, 'finite weights', `NaN or infinity in ${quoted(tensor.name)}`);
      }
      yield part;
    }
  } finally {
    await file.close();
  }
}
