/** A LoRA adapter as llama.cpp loads it beside a base model (convert_lora_to_gguf.py, llama-adapter.cpp). */
import { join } from 'node:path';
import { ggufOfLora, moduleOfGguf } from '../formats/gemma3-names.js';
import { type GgufTensor, type GgufValue, writeGguf } from '../formats/gguf.js';
import { GgufEntries } from '../formats/gguf-entries.js';
import type { Tensor } from '../formats/safetensors.js';
import type { NativeAdapter } from '../native/addon.js';
import { PEFT_PREFIX, restoreAdapter } from '../pipeline/checkpoint.js';
import { type Format, probeAdapter } from './format.js';

const FILE = 'adapter.gguf';

export const ggufLora: Format<'f32'> = {
  types: ['f32'],

  async write(folder, { adapter, name }, _type, options) {
    const values = new Map<string, GgufValue>([
      ['general.type', { kind: 'string', value: 'adapter' }],
      ['general.architecture', { kind: 'string', value: 'gemma3' }],
      ['general.name', { kind: 'string', value: name }],
      ['general.file_type', { kind: 'u32', value: 0 }],
      ['adapter.type', { kind: 'string', value: 'lora' }],
      // llama.cpp divides it by the rank, which it takes from the shapes.
      ['adapter.lora.alpha', { kind: 'f32', value: adapter.alpha }],
    ]);
    const tensors = adapter.tensors.map(({ name: matrix, shape, data }): GgufTensor => {
      async function* pieces(): AsyncGenerator<Uint8Array> {
        yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      }
      return { name: ggufName(matrix), shape, type: 'f32', pieces };
    });
    await writeGguf(join(folder, FILE), values, tensors, options);
  },

  async readBack(folder, source, probe, signal) {
    using file = await source.native.openGguf(join(folder, FILE));
    const alpha = new GgufEntries(file.entries).number('adapter.lora.alpha') ?? Number.NaN;
    const matrices = new Map<string, Tensor>();
    for (const { name, shape } of file.tensors) {
      matrices.set(`${PEFT_PREFIX}${peftName(name)}`, { shape, data: file.readRows(name, 0, shape[0] as number) });
    }
    const names = [...matrices.keys()];
    const rank = matrices.get(names.find((name) => name.endsWith('.lora_A.weight')) ?? '')?.shape[0] ?? 0;
    const targetModules = [...new Set(names.map((name) => name.split('.').at(-3) as string))];
    const fill = (adapter: NativeAdapter) => restoreAdapter(adapter, matrices, join(folder, FILE));
    return probeAdapter(source, { rank, alpha, targetModules }, fill, probe, signal);
  },
};

/** 'model.layers.0.mlp.up_proj.lora_A.weight' → 'blk.0.ffn_up.weight.lora_a' */
function ggufName(name: string): string {
  const { gguf, side } = ggufOfLora(name);
  return `${gguf}.weight.lora_${side.toLowerCase()}`;
}

function peftName(name: string): string {
  const [, gguf, side] = /^(.*)\.weight\.lora_([ab])$/.exec(name) ?? [];
  const path = gguf === undefined ? null : moduleOfGguf(gguf);
  if (path === null) throw new Error(`${name} is no LoRA matrix of Gemma 3`);
  return `${path}.lora_${(side as string).toUpperCase()}.weight`;
}
