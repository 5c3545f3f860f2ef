/** Models by name: which file of which repository a name stands for. */
import { existsSync } from 'node:fs';
import { nearest } from '../config/sentences.js';
import { problem } from '../errors.js';
import type { HubCache, Repository, TreeEntry } from './cache.js';
import type { DownloadOptions, Hub } from './client.js';
import { refusal } from './http.js';

/** Where whisper.cpp's authors keep their converted models: ggml-<name>.bin. */
export const WHISPER_REPOSITORY = 'ggerganov/whisper.cpp';

/** Where whisper.cpp's authors keep models of voice activity: ggml-<name>.bin. */
export const VAD_REPOSITORY = 'ggml-org/whisper-vad';
/** The one that is taken where none is named. */
export const VAD_MODEL = 'silero-v5.1.2';

export type ModelKind = 'policy' | 'whisper';

/** A model's file on the hub. */
export interface HubModel {
  repository: Repository;
  revision: string;
  commit: string;
  /** The file that is loaded; of a folder its config.json. */
  entry: TreeEntry;
  /** What has to be fetched: the file, or all of a folder that matters. */
  parts: readonly TreeEntry[];
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

const CONFIG = 'config.json';
const WEIGHTS = /^model(-\d+-of-\d+)?\.safetensors$/;

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
    return {
      repository,
      revision: name.revision,
      commit,
      entry,
      parts: entry.path === CONFIG ? folderOf(tree) : [entry],
    };
  }
  const entry = kind === 'policy' ? bestGguf(tree) : tree.find(({ path }) => /^ggml-.*\.bin$/.test(path));
  if (entry !== undefined) {
    return { repository, revision: name.revision, commit, entry, parts: [entry] };
  }
  const config = tree.find(({ path }) => path === CONFIG);
  if (kind === 'policy' && config !== undefined && tree.some(({ path }) => WEIGHTS.test(path))) {
    return { repository, revision: name.revision, commit, entry: config, parts: folderOf(tree) };
  }
  if (kind === 'policy' && name.revision === 'main' && !/-gguf$/i.test(name.id)) {
    // Conversions to GGUF lie by custom in a repository beside the model's own.
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

/** What a conversion of the model reads, and no other weights. */
function folderOf(tree: readonly TreeEntry[]): TreeEntry[] {
  const texts =
    /^((generation_|tokenizer_)?config|tokenizer|model\.safetensors\.index)\.json$|^tokenizer\.model$|^chat_template\.jinja$|^README\.md$/;
  return tree.filter(({ path }) => texts.test(path) || WEIGHTS.test(path));
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
  const short = /^ggml-(.+)\.bin$/.exec(file)?.[1];
  const close = nearest(file, names);
  const shown = id === WHISPER_REPOSITORY && short !== undefined ? `'${short}'` : file;
  const next =
    close !== null
      ? `did you mean ${id === WHISPER_REPOSITORY ? close.replace(/^ggml-|\.bin$/g, '') : close}?`
      : `it has ${names.slice(0, 6).join(', ')}${names.length > 6 ? ', …' : ''}`;
  return refusal({ what: id }, `a model ${shown}`, 'none of that name', next);
}

/** The model's file in the cache; what is not there is fetched. @param options progress is told the bytes of all parts */
export async function pullModel(hub: Hub, model: HubModel, options: DownloadOptions = {}): Promise<string> {
  const of = sizeOf(model);
  let before = 0;
  for (const part of model.parts) {
    const progress = (bytes: number) => options.progress?.(before + bytes, of);
    await hub.download(model.repository, model.commit, part, { ...options, progress });
    before += part.size;
  }
  return hub.download(model.repository, model.commit, model.entry, options);
}

/** bytes */
export function sizeOf({ parts }: HubModel): number {
  return parts.reduce((sum, { size }) => sum + size, 0);
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
