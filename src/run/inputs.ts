/** The models that a configuration names: files on this machine, or on the hub. */
import { existsSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import type { Config } from '../config/load.js';
import { PACKAGE_ROOT } from '../config/paths.js';
import { problem, VoiceGrpoError } from '../errors.js';
import type { Hub } from '../hub/client.js';
import { findModel, type HubModel, type ModelKind, modelName, pullModel, sizeOf } from '../hub/models.js';
import { hashFile } from '../pipeline/data.js';
import { converted, isModelFolder, needsConversion } from './converted.js';
import { type Progress, Transfer } from './progress.js';

export const BUNDLED_POLICY = join(PACKAGE_ROOT, 'assets', 'models', 'gemma3-tiny.gguf');
export const BUNDLED_WHISPER = join(PACKAGE_ROOT, 'assets', 'models', 'whisper-tiny.bin');

export interface InputFiles {
  policy: string;
  /** Null where transcripts come from the manifest. */
  whisper: string | null;
}

/** What the manifest records of a model that came from the hub. */
export interface ModelOrigin {
  repository: string;
  revision: string;
  commit: string;
  file: string;
}

export interface ModelFiles {
  files: InputFiles;
  origins: Partial<Record<ModelKind, ModelOrigin>>;
}

export interface ModelContext {
  hub: Hub;
  progress: Progress;
  signal?: AbortSignal | undefined;
}

/**
 * Finds the models that a configuration names; the function that comes of it fetches those that are on the hub. Paths that have no
 * file are all told at once, and a mistyped name is known before anything large is fetched.
 *
 * @throws VoiceGrpoError E_MODEL, E_HUB
 */
export async function findModels(config: Config, context: ModelContext): Promise<() => Promise<ModelFiles>> {
  const wanted: [ModelKind, string][] = [['policy', config.policy.model]];
  if (!config.data.use_text) {
    wanted.push(['whisper', config.whisper.model]);
  }
  const lost = wanted.filter(([kind, name]) => pathOf(kind, name) === null && modelName(kind, name) === null);
  if (lost.length > 0) {
    const places = lost.map(([kind, name]) => `${kind}.model: ${resolve(name)}`);
    throw new VoiceGrpoError(`Expected a model file, found none at ${places.join(', nor at ')}.`, {
      code: 'E_MODEL',
      hint: `Correct the path${lost.length > 1 ? 's' : ''}, or name a model of the hub ('org/name').`,
    });
  }
  const found: [ModelKind, string | HubModel][] = [];
  for (const [kind, name] of wanted) {
    found.push([kind, await locate(kind, name, context)]);
  }
  return async () => {
    const result: ModelFiles = { files: { policy: '', whisper: null }, origins: {} };
    for (const [kind, model] of found) {
      result.files[kind] =
        typeof model === 'string' ? await loadable(kind, model, context) : await fetchModel(model, context);
      if (typeof model !== 'string') {
        result.origins[kind] = originOf(model);
      }
    }
    return result;
  };
}

/** The path of one model's file; fetched if it is on the hub. */
export async function modelFile(kind: ModelKind, name: string, context: ModelContext): Promise<string> {
  const model = await locate(kind, name, context);
  return typeof model === 'string' ? loadable(kind, model, context) : fetchModel(model, context);
}

/** A path, whether or not there is a file, or a file of the hub. */
async function locate(kind: ModelKind, name: string, { hub, signal }: ModelContext): Promise<string | HubModel> {
  const path = pathOf(kind, name);
  const named = path === null ? modelName(kind, name) : null;
  return named === null ? (path ?? resolve(name)) : findModel(hub, kind, named, signal);
}

/** A model's file of a run: where it was, or, if it is gone from there, from the same commit of the hub. Null: the run had none. */
export async function fileOfRun(
  kind: ModelKind,
  manifest: Record<string, unknown>,
  context: ModelContext,
): Promise<string | null> {
  const stored = (manifest.files as InputFiles)[kind];
  const origin = (manifest.models as ModelFiles['origins'] | undefined)?.[kind];
  if (stored === null || existsSync(stored) || origin === undefined) {
    return stored;
  }
  const { repository: id, commit: revision, file } = origin;
  return fetchModel(await findModel(context.hub, kind, { id, revision, file }, context.signal), context);
}

/**
 * The policy that a run was made with: where it was, or from the same commit of the hub.
 *
 * @throws VoiceGrpoError E_MODEL if it is gone, or another file is in its place
 */
export async function policyOfRun(
  manifest: Record<string, unknown>,
  given: string | null,
  context: ModelContext,
): Promise<string> {
  const path = given ?? ((await fileOfRun('policy', manifest, context)) as string);
  const next = 'name the same file by --model FILE.gguf';
  if (!existsSync(path)) {
    throw problem({ code: 'E_MODEL', expected: 'the model of the run', where: path, got: 'no such file', next });
  }
  const wanted = (manifest.sha256 as { policy: string }).policy;
  const found = await hashFile(path);
  if (found !== wanted) {
    throw problem({
      code: 'E_MODEL',
      expected: `the model that the run was made with (SHA-256 ${wanted.slice(0, 12)}…)`,
      where: path,
      got: `another one (${found.slice(0, 12)}…)`,
      next,
    });
  }
  return path;
}

/** Fetches a model, shows how far it is, and converts a folder. */
export async function fetchModel(model: HubModel, { hub, progress, signal }: ModelContext): Promise<string> {
  const { entry, parts, repository, commit } = model;
  const what = parts.length === 1 ? entry.path : `${parts.length} files`;
  const size = sizeOf(model);
  if (parts.some((part) => hub.local(repository, commit, part) === null) && !hub.environment.offline) {
    progress.line(`To fetch from ${repository.id}: ${what}, ${(size / 1e6).toFixed(1)} MB.`);
  }
  const transfer = new Transfer(progress, parts.length === 1 ? entry.path : repository.id, size);
  let path: string;
  try {
    path = await pullModel(hub, model, { progress: (bytes) => transfer.at(bytes), signal });
  } finally {
    progress.end();
  }
  return basename(path) === 'config.json'
    ? converted('policy', dirname(path), repository.id.split('/').at(-1), progress, signal)
    : path;
}

/** A path on this machine as a file that can be loaded. */
async function loadable(kind: ModelKind, path: string, { progress, signal }: ModelContext): Promise<string> {
  return needsConversion(kind, path) ? converted(kind, path, undefined, progress, signal) : path;
}

export function originOf({ repository, revision, commit, entry }: HubModel): ModelOrigin {
  return { repository: repository.id, revision, commit, file: entry.path };
}

function pathOf(kind: ModelKind, name: string): string | null {
  const path = name === 'bundled' ? (kind === 'policy' ? BUNDLED_POLICY : BUNDLED_WHISPER) : resolve(name);
  const isModel = existsSync(path) && (statSync(path).isFile() || isModelFolder(path));
  return name === 'bundled' || isModel ? path : null;
}

export function threadCount(config: Pick<Config, 'threads'>): number {
  return config.threads === 0 ? availableParallelism() : config.threads;
}
