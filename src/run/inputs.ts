/** Where the models and the data of a configuration lie on this machine. */
import { existsSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import type { Config } from '../config/load.js';
import { PACKAGE_ROOT } from '../config/paths.js';
import { VoiceGrpoError } from '../errors.js';

export const BUNDLED_POLICY = join(PACKAGE_ROOT, 'assets', 'models', 'gemma3-tiny.gguf');
export const BUNDLED_WHISPER = join(PACKAGE_ROOT, 'assets', 'models', 'whisper-tiny.bin');

export interface InputFiles {
  policy: string;
  /** Null where transcripts come from the manifest. */
  whisper: string | null;
}

/**
 * The files that a configuration names; all that are missing are told at once.
 *
 * @throws VoiceGrpoError E_CONFIG for names that would have to be downloaded, E_MODEL for paths without a file
 */
export function inputFiles(config: Config): InputFiles {
  const wanted: string[] = [];
  const flags: string[] = [];
  const lost: string[] = [];
  const locate = (key: string, value: string, flag: string, bundled: string): string => {
    const path = value === 'bundled' ? bundled : resolve(value);
    if (existsSync(path) && statSync(path).isFile()) {
      return path;
    }
    if (
      value === 'bundled' ||
      /[\\/]/.test(value.replace(/^[\w.-]+\/[\w.-]+$/, '')) ||
      /\.(gguf|bin|pt|safetensors)$/.test(value)
    ) {
      lost.push(`${key}: ${path}`);
    } else {
      wanted.push(`${key} names '${value}'`);
      flags.push(flag);
    }
    return path;
  };
  const policy = locate('policy.model', config.policy.model, '--model FILE.gguf', BUNDLED_POLICY);
  const whisper = config.data.use_text
    ? null
    : locate('whisper.model', config.whisper.model, '--whisper FILE.bin', BUNDLED_WHISPER);
  if (config.data.source === 'voicebench') {
    wanted.push(`data.source names 'voicebench'`);
    flags.push('--data DIR');
  }
  if (lost.length > 0) {
    throw new VoiceGrpoError(`Expected a model file, found none at ${lost.join(', nor at ')}.`, {
      code: 'E_MODEL',
      hint: `Correct the path${lost.length > 1 ? 's' : ''}${wanted.length > 0 ? `, and add ${flags.join(' ')}` : ''}.`,
    });
  }
  if (wanted.length > 0) {
    throw new VoiceGrpoError(
      `Expected files on this machine, but ${wanted.join(', ')}, and this version downloads nothing yet.`,
      {
        code: 'E_CONFIG',
        hint: `Add ${flags.join(' ')} (or --config tiny, which needs none of them).`,
      },
    );
  }
  return { policy, whisper };
}

export function threadCount(config: Pick<Config, 'threads'>): number {
  return config.threads === 0 ? availableParallelism() : config.threads;
}
