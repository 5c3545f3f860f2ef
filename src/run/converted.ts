/** Models in formats that the addon does not read, converted once into the cache. */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readSync, realpathSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { convertGemmaFolder } from '../formats/gemma3-gguf.js';
import { convertWhisper } from '../formats/whisper-ggml.js';
import type { ModelKind } from '../hub/models.js';
import { cacheFolder } from '../pipeline/transcript.js';
import { type Progress, Transfer } from './progress.js';

/** Raise it when the same model gives another file. */
const CONVERSION_VERSION = 1;

/** True for a Hugging Face model folder. */
export function isModelFolder(path: string): boolean {
  return existsSync(join(path, 'config.json'));
}

/** True for what has to be converted: a Hugging Face folder; of Whisper also a checkpoint of PyTorch or safetensors. */
export function needsConversion(kind: ModelKind, path: string): boolean {
  if (!existsSync(path)) {
    return false;
  }
  if (statSync(path).isDirectory()) {
    return isModelFolder(path);
  }
  return kind === 'whisper' && (/\.(pt|pth|ckpt|safetensors)$/.test(path) || isZip(path));
}

/**
 * The model as the addon reads it: a policy in the weights' own type, a Whisper in f16. Known by the names, sizes and times of
 * its files, so that a second run need not read them.
 *
 * @param name of the model; undefined: as its folder says
 * @throws VoiceGrpoError E_MODEL for what cannot be converted
 */
export async function converted(
  kind: ModelKind,
  path: string,
  name: string | undefined,
  progress: Progress,
  signal?: AbortSignal,
): Promise<string> {
  const root = realpathSync(resolve(path));
  const places = statSync(root).isDirectory() ? readdirSync(root).sort() : [''];
  const files = places
    .map((file) => [file, statSync(join(root, file))] as const)
    .filter(([, stats]) => stats.isFile())
    .map(([file, { size, mtimeMs }]) => [file, size, mtimeMs]);
  const key = createHash('sha256')
    .update(JSON.stringify([CONVERSION_VERSION, root, name, files]))
    .digest('hex')
    .slice(0, 32);
  const output = join(cacheFolder(), 'converted', `${key}${kind === 'policy' ? '.gguf' : '.bin'}`);
  if (!existsSync(output)) {
    progress.line(`Converting ${name ?? path} to ${kind === 'policy' ? 'GGUF' : "whisper.cpp's format"}, once.`);
    mkdirSync(join(cacheFolder(), 'converted'), { recursive: true });
    let transfer: Transfer | undefined;
    const told = (written: number, total: number) => {
      transfer ??= new Transfer(progress, basename(root), total, 'converted');
      transfer.at(written);
    };
    try {
      await (kind === 'policy'
        ? convertGemmaFolder(root, output, { name, signal, progress: told })
        : convertWhisper(root, output, { progress: told, ...(signal && { signal }) }));
    } finally {
      progress.end();
    }
  }
  return output;
}

/** PyTorch writes zip archives, whatever the name. */
function isZip(path: string): boolean {
  const file = openSync(path, 'r');
  try {
    const magic = Buffer.alloc(4);
    return readSync(file, magic, 0, 4, 0) === 4 && magic.toString('latin1') === 'PK\u0003\u0004';
  } finally {
    closeSync(file);
  }
}
