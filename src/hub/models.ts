/** Models by name: which file of which repository a name stands for. */
import { existsSync } from 'node:fs';
import { nearest } from '../config/sentences.js';
import { problem } from '../errors.js';
import type { HubCache, Repository, TreeEntry } from './cache.js';
import type { DownloadOptions, Hub } from './client.js';
import { refusal } from './http.js';

/** Where whisper.cpp's authors keep their converted models: ggml-<name>.bin. */
export const WHISPER_REPOSITORY = 'ggerganov/whisper.cpp';

export type ModelKind = 'policy' | 'whisper';

/** A model's file on the hub. */
export interface HubModel {
  repository: Repository;
  revision: string;
  commit: string;
  entry: TreeEntry;
}

/** What a name asks for: 'org/name', 'org/name@revision', 'org/name:FILE', or a short name of Whisper. */
export interface ModelName {
  id: string;
  revision: string;
  /** Null: the best one there is. */
  file: string | null;
}

/** Null for what is no name but a path. */
export function modelName(kind: ModelKind, name: string): ModelName | null {
  const match = /^([\w.-]+\/[\w.-]+?)(?:@([\w./-]+?))?(?::(.+))?$/.exec(name);
  if (
    match !== null &&
    !/^\.{1,2}\//.test(name) &&
    !existsSync(name.split('/')[0] as string) && // 'models/mine' beside a folder 'models' is a path
    (match[3] !== undefined || !/\.(gguf|bin|pt|safetensors)$/.test(name))
  ) {
    return { id: match[1] as string, revision: match[2] ?? 'main', file: match[3] ?? null };
  }
  return kind === 'whisper' && /^[a-z][a-z0-9._-]*$/.test(name) && !/\.(bin|pt|gguf)$/.test(name)
    ? { id: WHISPER_REPOSITORY, revision: 'main', file: `ggml-${name}.bin` }
    : null;
}

/** Weights without loss first, then by what is lost. */
const GGUF_TYPES = [/bf16/i, /f32/i, /f16/i, /q8_0/i, /q6_k/i, /q5_k_m/i, /q4_k_m/i];

/**
 * Finds a model's file on the hub.
 *
 * @throws VoiceGrpoError E_HUB naming what there is instead
 */
export async function findModel(hub: Hub, kind: ModelKind, name: ModelName, signal?: AbortSignal): Promise<HubModel> {
  const repository: Repository = { type: 'model', id: name.id };
  const commit = await hub.commit(repository, name.revision, signal);
  const tree = await hub.tree(repository, commit, signal);
  if (name.file !== null) {
    const entry = tree.find(({ path }) => path === name.file);
    if (entry === undefined) {
      throw missing(name.id, name.file, tree);
    }
    return { repository, revision: name.revision, commit, entry };
  }
  const entry = kind === 'policy' ? bestGguf(tree) : tree.find(({ path }) => /^ggml-.*\.bin$/.test(path));
  if (entry !== undefined) {
    return { repository, revision: name.revision, commit, entry };
  }
  if (kind === 'policy' && name.revision === 'main' && !/-gguf$/i.test(name.id)) {
    // Weights as safetensors: their GGUF conversion is by custom in a repository beside it.
    return findModel(hub, kind, { id: `${name.id}-GGUF`, revision: 'main', file: null }, signal);
  }
  throw problem({
    code: 'E_HUB',
    expected: kind === 'policy' ? 'a GGUF file' : "a Whisper file 'ggml-*.bin'",
    where: name.id,
    got:
      tree
        .map(({ path }) => path)
        .slice(0, 8)
        .join(', ') || 'no file',
    next: `name a file by ${kind === 'policy' ? '--model' : '--whisper'} ${name.id}:FILE, or another repository`,
  });
}

function bestGguf(tree: readonly TreeEntry[]): TreeEntry | undefined {
  const files = tree.filter(({ path }) => path.endsWith('.gguf') && !/mmproj|-of-\d+\.gguf$/.test(path));
  for (const type of GGUF_TYPES) {
    const found = files.find(({ path }) => type.test(path));
    if (found !== undefined) {
      return found;
    }
  }
  return files[0];
}

function missing(id: string, file: string, tree: readonly TreeEntry[]): Error {
  const names = tree.map(({ path }) => path);
  const [short] = [/^ggml-(.+)\.bin$/.exec(file)?.[1]];
  const close = nearest(file, names);
  const shown = id === WHISPER_REPOSITORY && short !== undefined ? `'${short}'` : file;
  const next =
    close !== null
      ? `did you mean ${id === WHISPER_REPOSITORY ? close.replace(/^ggml-|\.bin$/g, '') : close}?`
      : `it has ${names.slice(0, 6).join(', ')}${names.length > 6 ? ', …' : ''}`;
  return refusal({ what: id }, `a model ${shown}`, 'none of that name', next);
}

/** The model's file in the cache, fetched if it is not there. */
export function pullModel(hub: Hub, model: HubModel, options: DownloadOptions = {}): Promise<string> {
  return hub.download(model.repository, model.commit, model.entry, options);
}

export interface CachedModel {
  repository: string;
  commit: string;
  /** Branches and tags that stood for the commit when last looked at. */
  revisions: string[];
  file: string;
  path: string;
  bytes: number;
}

/** Files in the cache that a policy or a Whisper can be loaded from. */
export function cachedModels(cache: HubCache): CachedModel[] {
  return cache
    .files('model')
    .filter(({ file }) => /\.gguf$|(?:^|\/)ggml-[^/]*\.bin$/.test(file))
    .map(({ repository, ...rest }) => ({ repository: repository.id, ...rest }));
}
