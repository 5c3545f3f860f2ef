/** Models in formats that the addon does not read, converted once into the cache. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { convertGemmaFolder } from '../formats/gemma3-gguf.js';
import { cacheFolder } from '../pipeline/transcript.js';
import { type Progress, Transfer } from './progress.js';

/** Raise it when the same folder gives another file. */
const CONVERSION_VERSION = 1;

/** True for a Hugging Face model folder. */
export function isModelFolder(path: string): boolean {
  return existsSync(join(path, 'config.json'));
}

/**
 * The GGUF of a model folder, in the weights' own type. Known by the names, sizes and times of the folder's files, so that a
 * second run need not read them.
 *
 * @param name of the model; undefined: as the folder says
 * @throws VoiceGrpoError E_MODEL for a folder that cannot be converted
 */
export async function convertedFolder(
  folder: string,
  name: string | undefined,
  progress: Progress,
  signal?: AbortSignal,
): Promise<string> {
  const root = realpathSync(resolve(folder));
  const files = readdirSync(root)
    .sort()
    .map((name) => [name, statSync(join(root, name))] as const)
    .filter(([, stats]) => stats.isFile())
    .map(([name, { size, mtimeMs }]) => [name, size, mtimeMs]);
  const key = createHash('sha256')
    .update(JSON.stringify([CONVERSION_VERSION, root, name, files]))
    .digest('hex')
    .slice(0, 32);
  const output = join(cacheFolder(), 'converted', `${key}.gguf`);
  if (!existsSync(output)) {
    progress.line(`Converting ${name ?? folder} to GGUF, once.`);
    mkdirSync(join(cacheFolder(), 'converted'), { recursive: true });
    let transfer: Transfer | undefined;
    try {
      await convertGemmaFolder(root, output, {
        name,
        signal,
        progress: (written, total) => {
          transfer ??= new Transfer(progress, basename(root), total, 'converted');
          transfer.at(written);
        },
      });
    } finally {
      progress.end();
    }
  }
  return output;
}
