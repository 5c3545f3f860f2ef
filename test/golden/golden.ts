/**
 * Reads what tools/golden/make_golden.py wrote, and compares arrays with it.
 *
 * The golden model has 7 layers (the sixth global), a window of 9 tokens, D 64, 4 heads of 32 over 2 KV heads. The data has B = 3
 * prompts (5, 14 and 41 tokens), G = 3 completions each, L = 12 places a row, and LoRA r 4 alpha 8 on all seven linear layers.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import type { NativeAdapter, NativePolicy, PackedRequest, RolloutRequest } from '../../src/native/addon.js';
import { loadNative } from '../../src/native/load.js';

export type Numbers = Float32Array | Float64Array | Int32Array;
export interface StoredTensor {
  shape: number[];
  data: Numbers;
}

/** Layout: 8 bytes of header length, a JSON header, then the data; https://github.com/huggingface/safetensors#format */
export function readSafetensors(path: string): Map<string, StoredTensor> {
  const file = readFileSync(path);
  const headerLength = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerLength)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const kinds = { F32: Float32Array, F64: Float64Array, I32: Int32Array } as const;
  const tensors = new Map<string, StoredTensor>();
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const Kind = kinds[dtype as keyof typeof kinds];
    if (!Kind) throw new Error(`${path}: ${name} has type ${dtype}; F32, F64 or I32 was expected`);
    // A copy: a typed array needs an aligned start, which the file does not give.
    const bytes = Uint8Array.from(
      file.subarray(8 + headerLength + data_offsets[0], 8 + headerLength + data_offsets[1]),
    );
    tensors.set(name, { shape, data: new Kind(bytes.buffer) });
  }
  return tensors;
}

export interface GradientCase {
  name: string;
  loss_type: string;
  temperature: number;
  beta: number;
  off_policy: boolean;
  loss: number;
  kl: number;
  clip_low: number;
  clip_high: number;
  ratio_mean: number;
  ratio_max: number;
}

export interface GoldenMeta {
  vocab: number;
  rank: number;
  alpha: number;
  target_modules: string[];
  group: number;
  max_completion_length: number;
  epsilon: number;
  epsilon_high: number;
  prompts: number[][];
  lengths: number[];
  masked: boolean[];
  logits_of: number[];
  pieces_from: number;
  gradients: GradientCase[];
  updates: {
    beta1: number;
    beta2: number;
    epsilon: number;
    weight_decay: number;
    max_grad_norm: number;
    beta: number;
    steps: {
      learning_rate: number;
      loss: number;
      grad_norm: number;
      kl: number;
      clip_low: number;
      clip_high: number;
    }[];
  };
  greedy: { tokens: number[]; lead: number }[];
}

const folder = fileURLToPath(new URL('.', import.meta.url));
export const GOLDEN_MODEL = `${folder}golden.gguf`;
export const meta = JSON.parse(readFileSync(`${folder}golden.json`, 'utf8')) as GoldenMeta;
const stored = readSafetensors(`${folder}golden.safetensors`);

export function golden(name: string): Numbers {
  const tensor = stored.get(name);
  if (!tensor) throw new Error(`golden.safetensors has no ${name}; run tools/golden/make_golden.py`);
  return tensor.data;
}

/** max|got - reference| / max|reference|. A wrong length or a value that is not finite is an error, never a small number. */
export function maxRelative(got: ArrayLike<number>, reference: ArrayLike<number>): number {
  if (got.length !== reference.length) throw new Error(`${got.length} numbers against ${reference.length}`);
  let difference = 0;
  let scale = 0;
  for (let i = 0; i < got.length; i++) {
    const a = got[i] as number;
    const b = reference[i] as number;
    if (!Number.isFinite(a) || !Number.isFinite(b)) throw new Error(`place ${i}: ${a} against ${b}`);
    difference = Math.max(difference, Math.abs(a - b));
    scale = Math.max(scale, Math.abs(b));
  }
  return scale === 0 ? (difference === 0 ? 0 : Number.POSITIVE_INFINITY) : difference / scale;
}

/** max|got - reference|, with the same strictness. */
export function maxAbsolute(got: ArrayLike<number>, reference: ArrayLike<number>): number {
  const scale = Math.max(...Array.from(reference, Math.abs));
  return scale === 0 ? Math.max(...Array.from(got, Math.abs)) : maxRelative(got, reference) * scale;
}

/** The places of [N, L] that belong to a completion, one after another. */
export function active(values: ArrayLike<number>, lengths: ArrayLike<number>, rowLength: number): number[] {
  if (values.length !== lengths.length * rowLength)
    throw new Error(`${values.length} places, not ${lengths.length} x ${rowLength}`);
  const out: number[] = [];
  for (let n = 0; n < lengths.length; n++) {
    for (let t = 0; t < (lengths[n] as number); t++) out.push(values[n * rowLength + t] as number);
  }
  return out;
}

/** Fails unless the figure is within its bound (NaN fails), and prints it. */
export function within(what: string, figure: number, bound: number): void {
  console.log(`  ${what}: ${figure.toExponential(1)} (bound ${bound.toExponential(0)})`);
  assert.ok(figure <= bound, `${what}: ${figure} exceeds ${bound}`);
}

export function flatten(prompts: number[][]): { promptTokens: Int32Array; promptLengths: Int32Array } {
  return { promptTokens: Int32Array.from(prompts.flat()), promptLengths: Int32Array.from(prompts, (p) => p.length) };
}

/** The golden prompts and completions as one request. */
export function packedRequest(adapter: NativeAdapter | null, temperature: number): PackedRequest {
  return {
    adapter,
    ...flatten(meta.prompts),
    numGenerations: meta.group,
    tokens: golden('tokens') as Int32Array,
    lengths: Int32Array.from(meta.lengths),
    maxCompletionLength: meta.max_completion_length,
    temperature,
  };
}

export function rolloutRequest(adapter: NativeAdapter | null, change: Partial<RolloutRequest> = {}): RolloutRequest {
  return {
    adapter,
    ...flatten(meta.prompts),
    numGenerations: meta.group,
    maxCompletionLength: 16,
    temperature: 1,
    topK: 0,
    topP: 1,
    stopTokens: new Int32Array(0),
    stopStrings: [],
    seed: 11,
    step: 3,
    promptKeys: Uint32Array.from(meta.prompts, (_, i) => 100 + i),
    ...change,
  };
}

/** The golden model in f32, closed afterwards. */
export async function withPolicy(use: (policy: NativePolicy) => Promise<void>, threads = 2): Promise<void> {
  const policy = await loadNative().openPolicy(GOLDEN_MODEL, { type: 'f32', threads });
  try {
    await use(policy);
  } finally {
    policy.close();
  }
}

/** An adapter with the golden matrices of `set`: 'start' or 'final'. */
export function goldenAdapter(policy: NativePolicy, set = 'start', alpha = meta.alpha): NativeAdapter {
  const adapter = policy.createAdapter({ rank: meta.rank, alpha, targetModules: meta.target_modules, seed: 0 });
  for (const { name, data } of adapter.tensors) data.set(golden(`${set}.${name}`) as Float32Array);
  return adapter;
}

export function row(values: ArrayLike<number>, n: number, rowLength: number): number[] {
  return Array.from({ length: rowLength }, (_, t) => values[n * rowLength + t] as number);
}

/** `count` tokens that differ from call to call only through `salt`; neither control tokens nor bytes. */
export function someTokens(count: number, salt: number): number[] {
  const pieces = meta.vocab - meta.pieces_from;
  return Array.from({ length: count }, (_, i) => meta.pieces_from + ((i * i * 7 + i * 13 + salt * 31) % pieces));
}
