/**
 * Loads the addon. `VOICEGRPO_ADDON` names a file; `VOICEGRPO_BUILD` picks `release` (default), `debug` or `asan` of this checkout.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { VoiceGrpoError } from '../errors.js';
import type { Native } from './addon.js';

const FOLDERS = { release: 'Release', debug: 'Debug', asan: 'Asan' };

let loaded: Native | undefined;

/** The addon, loaded once. Throws a VoiceGrpoError that says which files were tried and what to run. */
export function loadNative(): Native {
  // Read by libgomp when the addon loads it: threads that wait for each other sleep after this many turns, so that a busy
  // neighbour costs its share and no more.
  process.env.GOMP_SPINCOUNT ??= '2000';
  loaded ??= load(candidates(process.env));
  return loaded;
}

/** The package's root, seen from src/native/ or dist/native/ alike. */
function packageRoot(): string {
  return path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');
}

interface Candidates {
  files: string[];
  command: string;
}

function candidates(env: NodeJS.ProcessEnv): Candidates {
  if (env.VOICEGRPO_ADDON) {
    return { files: [path.resolve(env.VOICEGRPO_ADDON)], command: 'unset VOICEGRPO_ADDON or build that file' };
  }
  const build = env.VOICEGRPO_BUILD || 'release';
  if (!(build in FOLDERS)) {
    throw new VoiceGrpoError(`VOICEGRPO_BUILD: expected release, debug or asan, got "${build}".`, {
      code: 'E_CONFIG',
      hint: 'Unset it for the release build.',
    });
  }
  const folder = FOLDERS[build as keyof typeof FOLDERS];
  return {
    files: [path.join(packageRoot(), 'build', folder, 'voicegrpo.node')],
    command: build === 'release' ? 'npm run build:native' : `npm run build:${build}`,
  };
}

function load({ files, command }: Candidates): Native {
  const require = createRequire(import.meta.url);
  const tried: string[] = [];
  for (const file of files) {
    if (!existsSync(file)) {
      tried.push(`${file}: no such file`);
      continue;
    }
    try {
      return require(file) as Native;
    } catch (error) {
      tried.push(`${file}: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`);
    }
  }
  const asan = tried.some((line) => line.includes('libasan') || line.includes('ASan runtime'))
    ? ' An ASan build needs LD_PRELOAD="$(cc -print-file-name=libasan.so)".'
    : '';
  throw new VoiceGrpoError(`The native addon could not be loaded. Tried:\n  ${tried.join('\n  ')}`, {
    code: 'E_ADDON',
    hint: `In ${packageRoot()} run: ${command}.${asan}`,
  });
}
