/**
 * The weights of a trained policy as one model: W + (alpha / r) B A for each matrix that LoRA adapts, the rest as it is.
 *
 * Read from the run's GGUF file a million values at a time, so that memory does not grow with the model.
 */
import { problem } from '../errors.js';
import { type GemmaTensorName, gemmaTensors, ggufOfLora } from '../formats/gemma3-names.js';
import { GgufEntries } from '../formats/gguf-entries.js';
import {
  decodeFloats,
  decodeQ8,
  encodeFloats,
  GGUF_TENSOR_TYPES,
  type PlainType,
  tensorBytes,
} from '../formats/gguf-types.js';
import type { AdapterTensor, BaseType, GgufTensorInfo, Native, NativeGguf } from '../native/addon.js';

/** Values that are read, changed and written at a time. */
const AT_A_TIME = 2 ** 20;

/** The low-rank pair of one matrix. */
interface Pair {
  a: Float32Array; // [r, in]
  b: Float32Array; // [out, r]
}

export interface TrainedAdapter {
  rank: number; // r
  alpha: number;
  tensors: readonly Pick<AdapterTensor, 'name' | 'shape' | 'data'>[];
}

export interface WeightTensor extends GemmaTensorName {
  norm: boolean;
  /** float32 rows, about a million values at a time. */
  rows(signal?: AbortSignal): AsyncGenerator<Float32Array>;
}

export class PolicyWeights implements Disposable {
  readonly entries: GgufEntries;
  readonly tensors: readonly WeightTensor[];
  /** Whether the output matrix is one of its own and not the embedding. */
  readonly untied: boolean;

  private constructor(
    private readonly file: NativeGguf,
    readonly path: string,
    adapter: TrainedAdapter,
    private readonly baseType: BaseType,
  ) {
    this.entries = new GgufEntries(file.entries);
    const found = new Map(file.tensors.map((tensor) => [tensor.name, tensor]));
    const pairs = pairsOf(adapter);
    this.untied = found.has('output.weight');
    const names = [...gemmaTensors(this.shape(), this.vocab(found), this.untied)];
    this.tensors = names.map((name) => this.tensor(name, found, pairs, adapter.alpha / adapter.rank));
    if (pairs.size > 0) {
      throw this.unfit(`a matrix for ${[...pairs.keys()][0]}`, 'none', 'the adapter is of another model');
    }
  }

  /**
   * @param baseType how the policy stores its weights in memory: matrices are rounded to it before the adapter is added, as in
   *   training
   * @throws an error E_MODEL for a file that is no Gemma 3 model, or not the adapter's
   */
  static async open(
    native: Native,
    path: string,
    adapter: TrainedAdapter,
    baseType: BaseType = 'auto',
  ): Promise<PolicyWeights> {
    const file = await native.openGguf(path);
    try {
      return new PolicyWeights(file, path, adapter, baseType);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** A number of the file's metadata. @throws VoiceGrpoError E_MODEL where it has none and there is no fallback */
  number(key: string, fallback?: number): number {
    const value = this.entries.number(key) ?? fallback;
    if (value === undefined) throw this.unfit(`the key ${key}`, 'none', 'choose a Gemma 3 text model in GGUF');
    return value;
  }

  /** Layers and sizes. */
  shape(): { layers: number; width: number; inner: number; heads: number; kvHeads: number; headDim: number } {
    const width = this.number('gemma3.embedding_length');
    const heads = this.number('gemma3.attention.head_count');
    return {
      layers: this.number('gemma3.block_count'),
      width,
      inner: this.number('gemma3.feed_forward_length'),
      heads,
      kvHeads: this.number('gemma3.attention.head_count_kv', heads),
      headDim: this.number('gemma3.attention.key_length', Math.floor(width / heads)),
    };
  }

  close(): void {
    this.file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private vocab(found: ReadonlyMap<string, GgufTensorInfo>): number {
    return found.get('token_embd.weight')?.shape[0] ?? 0;
  }

  private tensor(
    name: GemmaTensorName,
    found: ReadonlyMap<string, GgufTensorInfo>,
    pairs: Map<string, Pair>,
    scale: number,
  ): WeightTensor {
    const info = found.get(name.gguf);
    if (info === undefined || info.shape.join() !== name.shape.join()) {
      const got = info === undefined ? 'no such tensor' : `shape [${info.shape.join(', ')}]`;
      throw this.unfit(`${name.gguf} with shape [${name.shape.join(', ')}]`, got, 'choose the model of the run');
    }
    const key = name.gguf.replace(/\.weight$/, '');
    const pair = pairs.get(key);
    pairs.delete(key);
    const norm = name.shape.length === 1;
    const { file, baseType } = this;
    const [rows, length] = norm ? [1, name.shape[0] as number] : (name.shape as [number, number]);
    const most = Math.max(1, Math.floor(AT_A_TIME / length));
    async function* read(signal?: AbortSignal): AsyncGenerator<Float32Array> {
      for (let row = 0; row < rows; row += most) {
        signal?.throwIfAborted();
        const values = file.readRows(name.gguf, row, Math.min(most, rows - row));
        if (!norm) roundTo(baseType, values, length);
        if (pair !== undefined) addProduct(values, pair, scale, row, length);
        yield values;
        // Products of whole matrices would keep the thread from everything else.
        await new Promise((resume) => setImmediate(resume));
      }
    }
    return { ...name, norm, rows: read };
  }

  private unfit(expected: string, got: string, next: string): Error {
    return problem({ code: 'E_MODEL', expected, where: this.path, got, next });
  }
}

/** By GGUF's names without '.weight'. */
function pairsOf({ tensors }: TrainedAdapter): Map<string, Pair> {
  const pairs = new Map<string, Partial<Pair>>();
  for (const { name, data } of tensors) {
    const { gguf, side } = ggufOfLora(name);
    pairs.set(gguf, { ...pairs.get(gguf), [side === 'A' ? 'a' : 'b']: data });
  }
  return pairs as Map<string, Pair>;
}

/** values[row + i] += scale · B[row + i] A, sums in float64. */
function addProduct(values: Float32Array, { a, b }: Pair, scale: number, row: number, length: number): void {
  const rank = a.length / length;
  const sums = new Float64Array(length);
  for (let i = 0; i * length < values.length; i++) {
    sums.fill(0);
    for (let k = 0; k < rank; k++) {
      const factor = scale * (b[(row + i) * rank + k] as number);
      if (factor === 0) continue;
      const from = k * length;
      for (let j = 0; j < length; j++) sums[j] = (sums[j] as number) + factor * (a[from + j] as number);
    }
    const at = i * length;
    for (let j = 0; j < length; j++) values[at + j] = (values[at + j] as number) + (sums[j] as number);
  }
}

/** The policy's own rounding of its matrices (native/core/gemma3.cpp, matrix_type); 'auto' loses nothing. */
function roundTo(type: BaseType, values: Float32Array, length: number): void {
  if (type === 'auto' || type === 'f32') return;
  const stored: PlainType = length % GGUF_TENSOR_TYPES[type].block === 0 ? type : 'f16';
  const bytes = new Uint8Array(tensorBytes(stored, values.length));
  if (!encodeFloats(stored, values, bytes)) throw new RangeError(`weights that ${stored} cannot hold`);
  if (stored === 'q8_0') decodeQ8(bytes, values);
  else decodeFloats(stored === 'f16' ? 'F16' : 'BF16', bytes, values);
}

/** @throws VoiceGrpoError E_MODEL for weights that the type cannot hold */
export function encoded(type: PlainType, values: Float32Array, name: string): Uint8Array {
  const bytes = new Uint8Array(tensorBytes(type, values.length));
  if (!encodeFloats(type, values, bytes)) {
    throw problem({
      code: 'E_MODEL',
      expected: `weights that ${type} can hold`,
      where: name,
      got: 'larger ones',
      next: 'choose --type bf16 or f32',
    });
  }
  return bytes;
}
