/** The models that a configuration names: files on this machine, or on the hub. */
import { existsSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import type { Config } from '../config/load.js';
import { PACKAGE_ROOT } from '../config/paths.js';
import { VoiceGrpoError } from '../errors.js';
import type { Hub } from '../hub/client.js';
import { findModel, type HubModel, type ModelKind, modelName, pullModel } from '../hub/models.js';
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
 * The files that a configuration names, fetched where they are on the hub. Paths that have no file are all told at once, before
 * anything is fetched.
 *
 * @throws VoiceGrpoError E_MODEL, E_HUB
 */
export async function modelFiles(config: Config, context: ModelContext): Promise<ModelFiles> {
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
  const result: ModelFiles = { files: { policy: '', whisper: null }, origins: {} };
  for (const [kind, name] of wanted) {
    const { path, origin } = await modelFile(kind, name, context);
    result.files[kind] = path;
    if (origin !== null) {
      result.origins[kind] = origin;
    }
  }
  return result;
}

/** One model: the path of its file, and where on the hub it is from. */
export async function modelFile(
  kind: ModelKind,
  name: string,
  context: ModelContext,
): Promise<{ path: string; origin: ModelOrigin | null }> {
  const path = pathOf(kind, name);
  const named = path === null ? modelName(kind, name) : null;
  if (path !== null || named === null) {
    return { path: path ?? resolve(name), origin: null };
  }
  const model = await findModel(context.hub, kind, named, context.signal);
  return { path: await fetchModel(model, context), origin: originOf(model) };
}

/** Fetches a model, and shows how far it is. */
export async function fetchModel(model: HubModel, { hub, progress, signal }: ModelContext): Promise<string> {
  const { entry, repository } = model;
  if (hub.local(repository, model.commit, entry) === null && !hub.environment.offline) {
    progress.line(`To fetch from ${repository.id}: ${entry.path}, ${(entry.size / 1e6).toFixed(1)} MB.`);
  }
  const transfer = new Transfer(progress, entry.path, entry.size);
  const path = await pullModel(hub, model, { progress: (bytes) => transfer.at(bytes), signal });
  progress.end();
  return path;
}

export function originOf({ repository, revision, commit, entry }: HubModel): ModelOrigin {
  return { repository: repository.id, revision, commit, file: entry.path };
}

function pathOf(kind: ModelKind, name: string): string | null {
  const path = name === 'bundled' ? (kind === 'policy' ? BUNDLED_POLICY : BUNDLED_WHISPER) : resolve(name);
  return name === 'bundled' || (existsSync(path) && statSync(path).isFile()) ? path : null;
}

export function threadCount(config: Pick<Config, 'threads'>): number {
  return config.threads === 0 ? availableParallelism() : config.threads;
}
