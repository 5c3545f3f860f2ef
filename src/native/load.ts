/**
 * Loads the addon. `VOICEGRPO_ADDON` names a file; `VOICEGRPO_BUILD` picks `release` (default), `debug` or `asan` of this checkout.
 * With a GPU there are two addons of the same sources: voicegrpo.node computes on the CPU, voicegrpo-cuda.node on the GPU, and
 * is tried only where a device was asked for. `VOICEGRPO_CUDA_ADDON` names another file for it.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { VoiceGrpoError } from '../errors.js';
import type { Native } from './addon.js';
import { type Choice, type CudaFinding, chooseDevice, describeCuda, type Work } from './devices.js';

const FOLDERS = { release: 'Release', debug: 'Debug', asan: 'Asan' };

const CUDA_FILE = 'voicegrpo-cuda.node';

let loaded: Native | undefined;
let used: Choice = { device: 'cpu', name: null, why: null };
let cuda: { finding: CudaFinding; native: Native | null } | undefined;

/** The addon of the device in use, loaded once. Throws a VoiceGrpoError that says which files were tried and what to run. */
export function loadNative(): Native {
  prepare();
  loaded ??= load(candidates(process.env));
  return loaded;
}

/**
 * Decides which addon `loadNative` gives from here on: the CPU's until it is called. What was opened before stays where it is.
 *
 * @param request auto, cpu, cuda, cuda:N
 * @param needs what will be computed on the device
 * @throws VoiceGrpoError as `chooseDevice` does
 */
export function useDevice(request: string, needs: readonly Work[]): Choice {
  const choice = chooseDevice(
    request,
    needs,
    () => findCuda().finding,
    (index) => (findCuda().native as Required<Native>).openDevice({ index }),
  );
  if (choice.device === 'cpu') {
    if (used.device !== 'cpu') loaded = undefined;
  } else {
    loaded = findCuda().native as Native;
  }
  used = choice;
  return choice;
}

/** The device that `loadNative`'s addon computes on. */
export function usedDevice(): Choice {
  return used;
}

/** What doctor says of GPUs: what was found, and what `--device auto` would take for training and why. */
export function deviceReport(): { ok: boolean; found: string } {
  const { finding, native } = findCuda();
  const { ok, text } = describeCuda(finding);
  const auto = chooseDevice(
    'auto',
    ['policy', 'whisper'],
    () => finding,
    (index) => (native as Required<Native>).openDevice({ index }),
  );
  const why = auto.why === null || finding.addon !== 'loaded' || !ok ? '' : `: ${auto.why}`;
  return { ok, found: `${text.replace(/\.$/, '')}; --device auto takes ${auto.device}${why}` };
}

function findCuda(): { finding: CudaFinding; native: Native | null } {
  cuda ??= tryCuda();
  return cuda;
}

function tryCuda(): { finding: CudaFinding; native: Native | null } {
  const file = process.env.VOICEGRPO_CUDA_ADDON
    ? path.resolve(process.env.VOICEGRPO_CUDA_ADDON)
    : path.join(packageRoot(), 'build', FOLDERS.release, CUDA_FILE);
  if (!existsSync(file)) return { finding: { addon: 'missing', file }, native: null };
  prepare();
  try {
    const native = createRequire(import.meta.url)(file) as Native;
    if (native.devices === undefined) {
      return { finding: { addon: 'unloadable', file, message: 'an addon without CUDA' }, native: null };
    }
    return { finding: { addon: 'loaded', probe: native.devices() }, native };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { finding: { addon: 'unloadable', file, message }, native: null };
  }
}

/** Read by libgomp when an addon loads it: threads that wait for each other sleep after this many turns, so that a busy neighbour costs its share and no more. */
function prepare(): void {
  process.env.GOMP_SPINCOUNT ??= '2000';
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
