/** A trained policy as transformers loads it: safetensors with the adapter merged in, configuration and tokenizer. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { problem, VoiceGrpoError } from '../errors.js';
import { convertGemmaFolder } from '../formats/gemma3-gguf.js';
import { attentionScalar } from '../formats/gemma3-names.js';
import type { GgufEntries } from '../formats/gguf-entries.js';
import type { FloatDtype } from '../formats/gguf-types.js';
import { type TensorSource, writeSafetensorsFile } from '../formats/safetensors-file.js';
import type { Piece } from '../formats/sentencepiece.js';
import { tokenizerJson } from '../formats/tokenizer-json.js';
import { json, writeFileSynced } from '../run/files.js';
import { type Format, probeModel } from './format.js';
import { encoded, PolicyWeights, type WeightTensor } from './policy-weights.js';

export type MergedType = 'f32' | 'bf16' | 'f16';

const DTYPES: Readonly<Record<MergedType, { stored: FloatDtype; torch: string }>> = {
  f32: { stored: 'F32', torch: 'float32' },
  bf16: { stored: 'BF16', torch: 'bfloat16' },
  f16: { stored: 'F16', torch: 'float16' },
};

export const merged: Format<MergedType> = {
  types: ['f32', 'bf16', 'f16'],

  async write(folder, { native, policyFile, adapter, baseType }, type, options) {
    using weights = await PolicyWeights.open(native, policyFile, adapter, baseType);
    refuseSpacePrefix(weights);
    const files: [string, unknown][] = [
      ['config.json', modelConfig(weights, type)],
      ['generation_config.json', generationConfig(weights.entries)],
      ...tokenizerFiles(weights.entries),
    ];
    for (const [name, content] of files) {
      writeFileSynced(join(folder, name), typeof content === 'string' ? content : json(content));
    }
    const tensors = weights.tensors.map((tensor) => source(tensor, type, options.signal));
    await writeSafetensorsFile(join(folder, 'model.safetensors'), tensors, { format: 'pt' }, options);
  },

  /** By way of the converter, which checks names, shapes and tokenizer as for any folder. */
  async readBack(folder, source, probe, signal) {
    const path = `${folder}.gguf`;
    try {
      await convertGemmaFolder(folder, path, { signal });
      return await probeModel(source, path, probe, signal);
    } catch (error) {
      // The folder that the sentence names is gone, and its download is no help.
      if (!(error instanceof VoiceGrpoError && error.code === 'E_MODEL')) throw error;
      const hint = 'this is a defect of voicegrpo: please report it with the name of the base model';
      throw new VoiceGrpoError(`The merged model cannot be read back: ${error.message}`, {
        ...{ code: 'E_EXPORT', hint, cause: error },
      });
    } finally {
      rmSync(path, { force: true });
    }
  },
};

function source(tensor: WeightTensor, type: MergedType, signal?: AbortSignal): TensorSource {
  async function* pieces(): AsyncGenerator<Uint8Array> {
    for await (const values of tensor.rows(signal)) {
      // GGUF has 1 + weight, by which Gemma's RMSNorm multiplies.
      if (tensor.norm) for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) - 1;
      yield encoded(type, values, tensor.hf);
    }
  }
  return { name: tensor.hf, dtype: DTYPES[type].stored, shape: tensor.shape, pieces };
}

/** A float32 as the decimal number that was meant: 9.999999974752427e-7 is 1e-6. */
function shortest(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === Math.fround(value)) return short;
  }
  return value;
}

/** Keys of Gemma3TextConfig as Google's own files have them; layer_types for versions from 4.53 on, the pattern for those before. */
function modelConfig(weights: PolicyWeights, type: MergedType): Record<string, unknown> {
  const { layers, width, inner, heads, kvHeads, headDim } = weights.shape();
  const { entries } = weights;
  const pattern = weights.number('gemma3.attention.sliding_window_pattern', 6);
  const window = weights.number('gemma3.attention.sliding_window', 0);
  const factor =
    entries.string('gemma3.rope.scaling.type') === 'linear' ? weights.number('gemma3.rope.scaling.factor', 1) : 1;
  const embedding = weights.tensors[0] as WeightTensor;
  return {
    architectures: ['Gemma3ForCausalLM'],
    model_type: 'gemma3_text',
    attention_bias: false,
    attention_dropout: 0,
    attn_logit_softcapping: null,
    bos_token_id: entries.number('tokenizer.ggml.bos_token_id'),
    eos_token_id: entries.number('tokenizer.ggml.eos_token_id'),
    pad_token_id: entries.number('tokenizer.ggml.padding_token_id') ?? 0,
    final_logit_softcapping: null,
    head_dim: headDim,
    hidden_activation: 'gelu_pytorch_tanh',
    hidden_size: width,
    initializer_range: 0.02,
    intermediate_size: inner,
    layer_types: Array.from({ length: layers }, (_, i) =>
      window === 0 || (i + 1) % pattern === 0 ? 'full_attention' : 'sliding_attention',
    ),
    max_position_embeddings: weights.number('gemma3.context_length'),
    num_attention_heads: heads,
    num_hidden_layers: layers,
    num_key_value_heads: kvHeads,
    query_pre_attn_scalar: attentionScalar(weights.shape()),
    rms_norm_eps: shortest(weights.number('gemma3.attention.layer_norm_rms_epsilon', 1e-6)),
    rope_local_base_freq: shortest(weights.number('gemma3.rope.freq_base_swa', 1e4)),
    rope_scaling: factor === 1 ? null : { rope_type: 'linear', factor },
    rope_theta: shortest(weights.number('gemma3.rope.freq_base', 1e6)),
    // A number even where no layer has a window: transformers asks for one.
    sliding_window: window === 0 ? weights.number('gemma3.context_length') : window,
    sliding_window_pattern: window === 0 ? 1 : pattern,
    tie_word_embeddings: !weights.untied,
    torch_dtype: DTYPES[type].torch,
    use_cache: true,
    vocab_size: embedding.shape[0],
  };
}

/** What ends an answer: the end of the text, and of a turn where the vocabulary has it. */
function generationConfig(entries: GgufEntries): Record<string, unknown> {
  const eos = entries.number('tokenizer.ggml.eos_token_id');
  const eot = entries.number('tokenizer.ggml.eot_token_id');
  const turn = eot ?? (entries.strings('tokenizer.ggml.tokens') ?? []).indexOf('<end_of_turn>');
  const ends = [...new Set([eos, turn].filter((id) => id !== null && id >= 0))];
  return {
    bos_token_id: entries.number('tokenizer.ggml.bos_token_id'),
    eos_token_id: ends.length === 1 ? ends[0] : ends,
    pad_token_id: entries.number('tokenizer.ggml.padding_token_id') ?? 0,
    do_sample: false,
  };
}

function tokenizerFiles(entries: GgufEntries): [string, unknown][] {
  const texts = entries.strings('tokenizer.ggml.tokens') ?? [];
  const scores = entries.numbers('tokenizer.ggml.scores') ?? [];
  const types = entries.numbers('tokenizer.ggml.token_type') ?? [];
  const pieces = texts.map((text, id): Piece => ({ text, score: scores[id] ?? 0, type: types[id] ?? 1 }));
  const id = (name: string): number | null => entries.number(`tokenizer.ggml.${name}_token_id`);
  const text = (name: string): string | undefined => texts[id(name) ?? -1];
  const begins = entries.number('tokenizer.ggml.add_bos_token') !== 0;
  const template = entries.string('tokenizer.chat_template');
  const settings = {
    add_bos_token: begins,
    add_eos_token: entries.number('tokenizer.ggml.add_eos_token') === 1,
    bos_token: text('bos'),
    clean_up_tokenization_spaces: false,
    eos_token: text('eos'),
    model_max_length: 1e30,
    pad_token: text('padding'),
    tokenizer_class: 'GemmaTokenizerFast',
    unk_token: text('unknown'),
  };
  return [
    [
      'tokenizer.json',
      JSON.stringify(tokenizerJson(pieces, { begin: begins ? id('bos') : null, unknown: id('unknown') })),
    ],
    ['tokenizer_config.json', settings],
    ...(template === null ? [] : [['chat_template.jinja', template] as [string, unknown]]),
  ];
}

/** SentencePiece models that put a space before every text are written in another way than Gemma's. @throws VoiceGrpoError E_MODEL */
function refuseSpacePrefix({ entries, path }: PolicyWeights): void {
  if (entries.number('tokenizer.ggml.add_space_prefix') === 0) return;
  throw problem({
    code: 'E_MODEL',
    expected: "Gemma's tokenizer, with tokenizer.ggml.add_space_prefix false",
    where: path,
    got: 'one that puts a space before a text',
    next: 'use --format gguf',
  });
}
