/** The tensors of a Gemma 3 text model by their names in transformers and in GGUF (gguf-py, tensor_mapping.py). */

export interface GemmaShape {
  layers: number;
  width: number; // D
  inner: number; // of the feed-forward network
  heads: number;
  kvHeads: number;
  headDim: number;
}

/**
 * transformers' query_pre_attn_scalar, for which GGUF has no key: head_dim, but for 27B, which readers of GGUF know by its layers
 * (llama.cpp, models/gemma3.cpp).
 */
export function attentionScalar({ layers, width, heads, headDim }: Omit<GemmaShape, 'inner' | 'kvHeads'>): number {
  return layers === 62 ? Math.floor(width / heads) : headDim;
}

export interface GemmaTensorName {
  /** In transformers: 'model.layers.0.self_attn.q_proj.weight'. */
  hf: string;
  /** In GGUF: 'blk.0.attn_q.weight'. */
  gguf: string;
  /** As PyTorch writes it: [out, in]. */
  shape: number[];
}

export const EMBEDDING = 'model.embed_tokens.weight';
export const OUTPUT = 'lm_head.weight';

/** PEFT's name of a matrix that LoRA adapts → GGUF's. */
const LINEAR: Readonly<Record<string, string>> = {
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
};

/** Every tensor of the model, the embedding first. @param untied whether the output matrix is one of its own */
export function* gemmaTensors(model: GemmaShape, vocab: number, untied: boolean): Generator<GemmaTensorName> {
  const { layers, width, inner, headDim } = model;
  const queries = model.heads * headDim;
  const keys = model.kvHeads * headDim;
  yield { hf: EMBEDDING, gguf: 'token_embd.weight', shape: [vocab, width] };
  for (let i = 0; i < layers; i++) {
    const of = (hf: string, gguf: string, shape: number[]): GemmaTensorName => ({
      hf: `model.layers.${i}.${hf}.weight`,
      gguf: `blk.${i}.${gguf}.weight`,
      shape,
    });
    yield of('input_layernorm', 'attn_norm', [width]);
    yield of('self_attn.q_proj', 'attn_q', [queries, width]);
    yield of('self_attn.q_norm', 'attn_q_norm', [headDim]);
    yield of('self_attn.k_proj', 'attn_k', [keys, width]);
    yield of('self_attn.k_norm', 'attn_k_norm', [headDim]);
    yield of('self_attn.v_proj', 'attn_v', [keys, width]);
    yield of('self_attn.o_proj', 'attn_output', [width, queries]);
    yield of('post_attention_layernorm', 'post_attention_norm', [width]);
    yield of('pre_feedforward_layernorm', 'ffn_norm', [width]);
    yield of('mlp.gate_proj', 'ffn_gate', [inner, width]);
    yield of('mlp.up_proj', 'ffn_up', [inner, width]);
    yield of('mlp.down_proj', 'ffn_down', [width, inner]);
    yield of('post_feedforward_layernorm', 'post_ffw_norm', [width]);
  }
  yield { hf: 'model.norm.weight', gguf: 'output_norm.weight', shape: [width] };
  if (untied) {
    yield { hf: OUTPUT, gguf: 'output.weight', shape: [vocab, width] };
  }
}

/**
 * A LoRA matrix by PEFT's name, 'model.layers.3.mlp.up_proj.lora_A.weight' → GGUF's name of what it adapts, 'blk.3.ffn_up', and its side.
 *
 * @throws RangeError for any other name
 */
export function ggufOfLora(name: string): { gguf: string; side: 'A' | 'B' } {
  const [, layer, module, side] = /^model\.layers\.(\d+)\.(.+)\.lora_([AB])\.weight$/.exec(name) ?? [];
  if (module === undefined || !Object.hasOwn(LINEAR, module))
    throw new RangeError(`${name} is no LoRA matrix of Gemma 3`);
  return { gguf: `blk.${layer}.${LINEAR[module]}`, side: side as 'A' | 'B' };
}

/** 'blk.3.ffn_up' → 'model.layers.3.mlp.up_proj'; null for what is no adapted matrix. */
export function moduleOfGguf(name: string): string | null {
  const [, layer, short] = /^blk\.(\d+)\.(.+)$/.exec(name) ?? [];
  const module = Object.keys(LINEAR).find((key) => LINEAR[key] === short);
  return module === undefined ? null : `model.layers.${layer}.${module}`;
}
