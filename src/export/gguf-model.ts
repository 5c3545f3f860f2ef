/** A trained policy as llama.cpp and Ollama load it: one GGUF file with the adapter merged in. */
import { join } from 'node:path';
import { type GgufTensor, type GgufValue, writeGguf } from '../formats/gguf.js';
import { GGUF_FILE_TYPES, GGUF_TENSOR_TYPES, type GgufTensorType, type PlainType } from '../formats/gguf-types.js';
import { type Format, probeModel } from './format.js';
import { encoded, PolicyWeights, type WeightTensor } from './policy-weights.js';

export type GgufType = 'f16' | 'bf16' | 'f32' | 'q8_0' | 'q4_k_m';

/** What the base file's metadata says of that file: who made it, from what, how it was quantized and laid out. */
const OF_THE_FILE =
  /^(?:quantize\.|split\.|general\.(?:alignment|quantized_by|uuid|url|repo_url|doi|description|version|finetune|source\.|base_model\.|dataset\.))/;

export const GGUF_FILE = 'model.gguf';

export const gguf: Format<GgufType> = {
  types: ['f16', 'bf16', 'f32', 'q8_0', 'q4_k_m'],

  async write(folder, { native, policyFile, adapter, baseType, name, baseModel }, type, options) {
    using weights = await PolicyWeights.open(native, policyFile, adapter, baseType);
    const { layers } = weights.shape();
    const values = new Map<string, GgufValue>(weights.entries.encoded());
    for (const key of values.keys()) if (OF_THE_FILE.test(key)) values.delete(key);
    values.set('general.type', { kind: 'string', value: 'model' });
    values.set('general.name', { kind: 'string', value: name });
    values.set('general.file_type', { kind: 'u32', value: GGUF_FILE_TYPES[type] });
    values.set('general.quantization_version', { kind: 'u32', value: 2 });
    if (baseModel !== null) {
      values.set('general.base_model.count', { kind: 'u32', value: 1 });
      values.set('general.base_model.0.name', { kind: 'string', value: baseModel.split('/').at(-1) as string });
      const url = `https://huggingface.co/${baseModel}`;
      values.set('general.base_model.0.repo_url', { kind: 'string', value: url });
    }
    const tensors = weights.tensors.map((tensor): GgufTensor => {
      const stored = tensor.norm ? 'f32' : storedType(tensor, type, layers, weights.untied);
      async function* pieces(): AsyncGenerator<Uint8Array> {
        for await (const rows of tensor.rows(options.signal)) {
          yield isPlain(stored)
            ? encoded(stored, rows, tensor.gguf)
            : native.quantizeRows(stored, rows, tensor.shape.at(-1) as number);
        }
      }
      return { name: tensor.gguf, shape: tensor.shape, type: stored, pieces };
    });
    await writeGguf(join(folder, GGUF_FILE), values, tensors, options);
  },

  readBack: (folder, source, probe, signal) => probeModel(source, join(folder, GGUF_FILE), probe, signal),
};

function isPlain(type: GgufTensorType): type is PlainType {
  return type === 'f32' || type === 'f16' || type === 'bf16' || type === 'q8_0';
}

/** The type of a matrix, as llama.cpp's quantizer chooses it (llama-quant.cpp, llama_tensor_get_type). */
export function storedType(
  { gguf, shape }: Pick<WeightTensor, 'gguf' | 'shape'>,
  type: GgufType,
  layers: number,
  untied: boolean,
): GgufTensorType {
  const length = shape.at(-1) as number;
  const fitting = (wanted: GgufTensorType, ...others: GgufTensorType[]): GgufTensorType =>
    [wanted, ...others].find((t) => length % GGUF_TENSOR_TYPES[t].block === 0) ?? 'f16';
  if (type !== 'q4_k_m') return fitting(type);
  const isOutput = gguf === (untied ? 'output.weight' : 'token_embd.weight');
  const [, layer, name] = /^blk\.(\d+)\.(\w+)\.weight$/.exec(gguf) ?? [];
  const precise = isOutput || ((name === 'attn_v' || name === 'ffn_down') && usesMoreBits(Number(layer), layers));
  return precise ? fitting('q6_K', 'q8_0') : fitting('q4_K', 'q5_0');
}

/** The first and the last eighth of the layers, and every third between. */
function usesMoreBits(layer: number, layers: number): boolean {
  const eighth = Math.floor(layers / 8);
  return layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2;
}
