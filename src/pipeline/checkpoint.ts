/**
 * Checkpoints: adapter, optimizer moments and the loop's state as plain files.
 *
 * A checkpoint is written to a folder beside its place, synced and renamed; its manifest, written last, has the SHA-256 of
 * every other file. A folder without a valid manifest is no checkpoint.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { problem } from '../errors.js';
import { readSafetensors, type Tensor, writeSafetensors } from '../formats/safetensors.js';
import type { NativeAdapter } from '../native/addon.js';
import { json, sha256, writeFolderAtomic } from '../run/files.js';
import type { StoppingState } from './stopping.js';

const FORMAT = 1;
const MANIFEST = 'manifest.json';

/** PEFT writes its tensors below this prefix. */
export const PEFT_PREFIX = 'base_model.model.';

export interface AdapterConfig {
  base_model_name_or_path: string | null;
  r: number;
  lora_alpha: number;
  target_modules: readonly string[];
}

/** What the loop needs, beside adapter and optimizer, to go on as if it had not stopped. */
export interface LoopState {
  /** Optimizer updates done. */
  step: number;
  stopping: StoppingState;
  /** Labels predicted lately, oldest first. */
  recentPredictions: string[];
  /** Tokens of prompts and answers seen in training. */
  numTokens: number;
  /** Why the run stopped early; null: it did not. */
  stopReason: string | null;
  finished: boolean;
}

/** The adapter's matrices at one moment, by PEFT's names. */
export type AdapterSnapshot = ReadonlyMap<string, Tensor>;

export function snapshotAdapter(adapter: NativeAdapter): AdapterSnapshot {
  return new Map(
    adapter.tensors.map(({ name, shape, data }) => [`${PEFT_PREFIX}${name}`, { shape, data: data.slice() }]),
  );
}

/** Writes a snapshot into the adapter. @throws VoiceGrpoError E_MODEL if the shapes do not fit */
export function restoreAdapter(adapter: NativeAdapter, snapshot: AdapterSnapshot, where: string): void {
  for (const { name, shape, data } of adapter.tensors) {
    data.set(tensorOf(snapshot, `${PEFT_PREFIX}${name}`, shape, where));
  }
  if (snapshot.size !== adapter.tensors.length) {
    throw problem({
      code: 'E_MODEL',
      expected: `${adapter.tensors.length} matrices`,
      where,
      got: `${snapshot.size}`,
      next: 'use the model and the LoRA settings that the run was made with',
    });
  }
}

function tensorOf(
  tensors: ReadonlyMap<string, Tensor>,
  name: string,
  shape: readonly number[],
  where: string,
): Float32Array {
  const tensor = tensors.get(name);
  if (tensor === undefined || tensor.shape.join() !== shape.join()) {
    throw problem({
      code: 'E_MODEL',
      expected: `'${name}' with shape [${shape.join(', ')}]`,
      where,
      got: tensor === undefined ? 'no such matrix' : `shape [${tensor.shape.join(', ')}]`,
      next: 'use the model and the LoRA settings that the run was made with',
    });
  }
  return tensor.data;
}

/** The two files that PEFT loads. */
export function adapterFiles(snapshot: AdapterSnapshot, config: AdapterConfig): Map<string, string | Uint8Array> {
  return new Map<string, string | Uint8Array>([
    ['adapter_model.safetensors', writeSafetensors(snapshot, { format: 'pt' })],
    [
      'adapter_config.json',
      json({
        peft_type: 'LORA',
        task_type: 'CAUSAL_LM',
        base_model_name_or_path: config.base_model_name_or_path,
        r: config.r,
        lora_alpha: config.lora_alpha,
        lora_dropout: 0,
        target_modules: config.target_modules,
        bias: 'none',
        fan_in_fan_out: false,
        inference_mode: true,
        use_rslora: false,
        use_dora: false,
      }),
    ],
  ]);
}

/** Reads adapter_model.safetensors of a folder. */
export function readAdapter(folder: string): AdapterSnapshot {
  return readTensors(join(folder, 'adapter_model.safetensors'));
}

function readTensors(file: string): Map<string, Tensor> {
  try {
    return readSafetensors(readFileSync(file)).tensors;
  } catch (error) {
    throw problem({
      code: 'E_MODEL',
      expected: 'a safetensors file',
      where: file,
      got: (error as Error).message,
      next: 'train again, or use another checkpoint',
    });
  }
}

/** checkpoints/step-000025 */
export function checkpointName(step: number): string {
  return `step-${String(step).padStart(6, '0')}`;
}

/** Writes a checkpoint and removes those beyond `keep`. */
export function writeCheckpoint(
  folder: string,
  contents: { adapter: NativeAdapter; config: AdapterConfig; state: LoopState; best: AdapterSnapshot | null },
  keep: number,
): void {
  const { adapter, config, state, best } = contents;
  const moments = new Map<string, Tensor>();
  for (const { name, shape, expAvg, expAvgSq } of adapter.tensors) {
    moments.set(`${name}.exp_avg`, { shape, data: expAvg });
    moments.set(`${name}.exp_avg_sq`, { shape, data: expAvgSq });
  }
  const files = adapterFiles(snapshotAdapter(adapter), config);
  files.set('optimizer.safetensors', writeSafetensors(moments, { updates: String(adapter.updates) }));
  files.set('state.json', json(state));
  if (best !== null) {
    files.set('best.safetensors', writeSafetensors(best, { format: 'pt' }));
  }
  const hashes = Object.fromEntries([...files].map(([name, bytes]) => [name, sha256(bytes)]));
  files.set(MANIFEST, json({ format: FORMAT, step: state.step, sha256: hashes }));
  writeFolderAtomic(join(folder, checkpointName(state.step)), files);
  for (const name of listCheckpoints(folder).slice(0, -keep)) {
    rmSync(join(folder, name), { recursive: true, force: true });
  }
}

/** Names of the complete checkpoints, oldest first. */
export function listCheckpoints(folder: string): string[] {
  if (!existsSync(folder)) {
    return [];
  }
  return readdirSync(folder)
    .filter((name) => /^step-\d{6,}$/.test(name) && existsSync(join(folder, name, MANIFEST)))
    .sort();
}

/** Null if every file is what the manifest says; else what is wrong. */
export function checkpointFault(path: string): string | null {
  try {
    const manifest = JSON.parse(readFileSync(join(path, MANIFEST), 'utf8')) as {
      format?: unknown;
      sha256?: Record<string, string>;
    };
    if (manifest.format !== FORMAT || typeof manifest.sha256 !== 'object') {
      return `${MANIFEST} has format ${String(manifest.format)}, expected ${FORMAT}`;
    }
    for (const [name, hash] of Object.entries(manifest.sha256)) {
      if (sha256(readFileSync(join(path, name))) !== hash) {
        return `${name} differs from its hash`;
      }
    }
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

/**
 * The newest checkpoint whose files are what its manifest says.
 *
 * @param onFault is told of each newer one that is damaged
 */
export function newestCheckpoint(folder: string, onFault: (path: string, fault: string) => void): string | null {
  for (const name of listCheckpoints(folder).reverse()) {
    const path = join(folder, name);
    const fault = checkpointFault(path);
    if (fault === null) {
      return path;
    }
    onFault(path, fault);
  }
  return null;
}

/** Restores adapter and optimizer; returns the loop's state and the best adapter so far. */
export function readCheckpoint(
  path: string,
  adapter: NativeAdapter,
): { state: LoopState; best: AdapterSnapshot | null } {
  restoreAdapter(adapter, readAdapter(path), path);
  const file = join(path, 'optimizer.safetensors');
  const { tensors: moments, metadata } = readSafetensors(readFileSync(file));
  for (const { name, shape, expAvg, expAvgSq } of adapter.tensors) {
    expAvg.set(tensorOf(moments, `${name}.exp_avg`, shape, file));
    expAvgSq.set(tensorOf(moments, `${name}.exp_avg_sq`, shape, file));
  }
  adapter.updates = Number(metadata.updates);
  const best = join(path, 'best.safetensors');
  return {
    state: JSON.parse(readFileSync(join(path, 'state.json'), 'utf8')) as LoopState,
    best: existsSync(best) ? readTensors(best) : null,
  };
}
