/**
 * Folders of transformers → GGUF: the same model, the same tokens, and one sentence for a folder that is broken or hostile.
 *
 * Two models: the golden one, whose folder is made here from golden.gguf, and test/golden/gemma-folder, which transformers
 * saved (tools/golden/gemma_folder.py), with a vision part, RoPE scaling and the vocabulary of tokenizer.gguf.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { presentError, VoiceGrpoError } from '../src/errors.js';
import { convertGemmaFolder, type GemmaConversionOptions, type GemmaWeightType } from '../src/formats/gemma3-gguf.js';
import { decodeFloats, encodeFloats, tensorBytes } from '../src/formats/gguf-types.js';
import type { BaseType, NativePolicy } from '../src/native/addon.js';
import { loadNative } from '../src/native/load.js';
import { floats, type ReadGguf, readGguf } from './golden/gguf.js';
import { GOLDEN_MODEL, maxAbsolute, packedRequest, within } from './golden/golden.js';

const GOLDEN_FOLDER = fileURLToPath(new URL('golden/gemma-folder', import.meta.url));
const TOKENIZER = fileURLToPath(new URL('golden/tokenizer.gguf', import.meta.url));
const golden = readGguf(readFileSync(GOLDEN_MODEL));
const expected = JSON.parse(readFileSync(join(GOLDEN_FOLDER, 'expected.json'), 'utf8')) as {
  tokens: number[];
  log_probs: number[];
  numbers: Record<'f32' | 'f16' | 'bf16' | 'q8_0', string>;
  texts: string[];
  ids: number[][];
};

// ---- folders ----

// biome-ignore lint/suspicious/noExplicitAny: JSON that tests change at will
type Json = any;
type Dtype = 'F32' | 'F16' | 'BF16';
interface Weight {
  shape: number[];
  data: Float32Array;
  dtype?: Dtype;
}
/** What a folder is made of; a test changes what it is about. */
interface Parts {
  config: Json;
  tokenizer: Json;
  settings: Json;
  weights: Map<string, Weight>;
  dtype: Dtype;
  /** Names of the files that the weights are dealt out to; one makes model.safetensors. */
  files: number;
}

const HF_NAMES: Record<string, string> = {
  token_embd: 'embed_tokens',
  output_norm: 'norm',
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  attn_q_norm: 'self_attn.q_norm',
  attn_k_norm: 'self_attn.k_norm',
  post_attention_norm: 'post_attention_layernorm',
  ffn_norm: 'pre_feedforward_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
  post_ffw_norm: 'post_feedforward_layernorm',
};

function hfName(name: string): string {
  const [, layer, stem] = /^(?:blk\.(\d+)\.)?(\w+)\.weight$/.exec(name) as unknown as [string, string?, string?];
  return `model.${layer === undefined ? '' : `layers.${layer}.`}${HF_NAMES[stem as string]}.weight`;
}

/** The golden model's folder in float32, with a tokenizer.json as transformers would write it. */
function goldenParts(): Parts {
  const tokens = golden.values.get('tokenizer.ggml.tokens') as string[];
  const types = golden.values.get('tokenizer.ggml.token_type') as number[];
  const ids = new Map(tokens.map((text, id) => [text, id]));
  // By the piece that they make, then by the length of the parts.
  const merges = tokens.flatMap((text) =>
    Array.from({ length: Math.max(0, text.length - 1) }, (_, i) => [text.slice(0, i + 1), text.slice(i + 1)]).filter(
      (pair) => pair.every((part) => ids.has(part)),
    ),
  );
  const weights = new Map<string, Weight>();
  for (const [name, tensor] of golden.tensors) {
    const norm = name.includes('norm');
    weights.set(hfName(name), {
      shape: [...tensor.dims].reverse(),
      data: floats(tensor).map((value) => (norm ? value - 1 : value)),
    });
  }
  return {
    config: {
      _name_or_path: 'golden',
      architectures: ['Gemma3ForCausalLM'],
      model_type: 'gemma3_text',
      vocab_size: tokens.length,
      hidden_size: 64,
      intermediate_size: 96,
      num_hidden_layers: 7,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 32,
      query_pre_attn_scalar: 32,
      sliding_window: 9,
      sliding_window_pattern: 6,
      max_position_embeddings: 256,
      rms_norm_eps: 3e-3,
      rope_theta: 50000,
      rope_local_base_freq: 700,
      rope_scaling: null,
      bos_token_id: 2,
      eos_token_id: [1, 5],
      pad_token_id: 0,
    },
    tokenizer: {
      added_tokens: tokens.flatMap((content, id) => {
        const special = types[id] === 3 || types[id] === 2;
        return special || types[id] === 4 ? [{ id, content, special, normalized: false }] : [];
      }),
      normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      pre_tokenizer: { type: 'Split', pattern: { String: ' ' }, behavior: 'MergedWithPrevious', invert: false },
      model: { type: 'BPE', byte_fallback: true, unk_token: '<unk>', vocab: Object.fromEntries(ids), merges },
    },
    settings: { bos_token: '<bos>', eos_token: { content: '<eos>' }, pad_token: '<pad>', unk_token: '<unk>' },
    weights,
    dtype: 'F32',
    files: 1,
  };
}

function stored(data: Float32Array, dtype: Dtype): Uint8Array {
  const type = dtype.toLowerCase() as 'f32' | 'f16' | 'bf16';
  const bytes = new Uint8Array(tensorBytes(type, data.length));
  assert.ok(encodeFloats(type, data, bytes));
  return bytes;
}

/** A safetensors file; `change` gets the header before it is written. */
function safetensors(weights: Map<string, Weight>, dtype: Dtype, change: (header: Json) => void = () => {}): Buffer {
  const header: Json = { __metadata__: { format: 'pt' } };
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const [name, weight] of weights) {
    const bytes = stored(weight.data, weight.dtype ?? dtype);
    header[name] = { dtype: weight.dtype ?? dtype, shape: weight.shape, data_offsets: [at, at + bytes.length] };
    parts.push(bytes);
    at += bytes.length;
  }
  change(header);
  return withHeader(JSON.stringify(header), Buffer.concat(parts));
}

function withHeader(header: string | Buffer, body: Uint8Array = new Uint8Array()): Buffer {
  const text = Buffer.from(header as string);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, body]);
}

function writeFolder(folder: string, { config, tokenizer, settings, weights, dtype, files }: Parts): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify(settings));
  if (files === 1) {
    writeFileSync(join(folder, 'model.safetensors'), safetensors(weights, dtype));
    return;
  }
  const map: Record<string, string> = {};
  for (let part = 0; part < files; part++) {
    const file = `model-${part + 1}-of-${files}.safetensors`;
    const mine = new Map([...weights].filter((_, i) => i % files === part));
    for (const name of mine.keys()) map[name] = file;
    writeFileSync(join(folder, file), safetensors(mine, dtype));
  }
  writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify({ metadata: {}, weight_map: map }));
}

async function inFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'voicegrpo-gemma-'));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Converts the golden folder after `change`, and reads the result. */
async function converted(
  change: (parts: Parts) => void = () => {},
  options: GemmaConversionOptions = {},
): Promise<{ file: Buffer; gguf: ReadGguf; leftOut: string[] }> {
  return inFolder(async (folder) => {
    const parts = goldenParts();
    change(parts);
    writeFolder(folder, parts);
    const { leftOut, bytes } = await convertGemmaFolder(folder, join(folder, 'out.gguf'), options);
    const file = readFileSync(join(folder, 'out.gguf'));
    assert.is(file.length, bytes);
    assert.not.ok(readdirSync(folder).some((name) => name.endsWith('.tmp')));
    return { file, gguf: readGguf(file), leftOut };
  });
}

async function opened<T>(file: Buffer | string, type: BaseType, use: (policy: NativePolicy) => Promise<T>): Promise<T> {
  return inFolder(async (folder) => {
    const path = typeof file === 'string' ? file : join(folder, 'model.gguf');
    if (typeof file !== 'string') writeFileSync(path, file);
    const policy = await loadNative().openPolicy(path, { type, threads: 1 });
    try {
      return await use(policy);
    } finally {
      policy.close();
    }
  });
}

/** Log-probabilities of the golden completions. */
const goldenLogProbs = (file: Buffer | string, type: BaseType): Promise<Float32Array> =>
  opened(file, type, async (policy) => (await policy.logProbs(packedRequest(null, 1))).logProbs);

// ---- the same model ----

test('27.1 the golden model by way of a folder computes what golden.gguf computes', async () => {
  const { file, gguf } = await converted();
  const worst = { matrices: 0, norms: 0 };
  for (const [name, tensor] of golden.tensors) {
    const made = gguf.tensors.get(name);
    assert.ok(made, name);
    assert.equal(made.dims, tensor.dims, name);
    const kind = name.includes('norm') ? 'norms' : 'matrices';
    worst[kind] = Math.max(worst[kind], maxAbsolute(floats(made), floats(tensor)));
  }
  within('matrices', worst.matrices, 0);
  within('norms, of which the folder has 1 less', worst.norms, 6e-8);
  assert.is(gguf.tensors.size, golden.tensors.size);
  const same = [...golden.values.keys()].filter((key) =>
    /^gemma3\.|_token_id$|add_bos|add_space|ggml\.(model|pre)$/.test(key),
  );
  assert.ok(same.length > 15);
  for (const key of same) assert.equal(gguf.values.get(key), golden.values.get(key), key);
  assert.is(gguf.values.get('tokenizer.ggml.eot_token_id'), 5);
  assert.is(gguf.values.get('general.file_type'), 0);
  within(
    'log-probabilities',
    maxAbsolute(await goldenLogProbs(file, 'f32'), await goldenLogProbs(GOLDEN_MODEL, 'f32')),
    1e-4,
  );
  await opened(file, 'f32', async (policy) => {
    assert.equal(policy.info.stopTokens, [1, 5]);
    await opened(GOLDEN_MODEL, 'f32', async (other) => {
      for (const text of [
        'what is the time  in the north,\n\nand you?',
        '<start_of_turn>yes<end_of_turn>',
        'é日本\tX',
        '',
      ]) {
        const options = { addBos: true, parseSpecial: true };
        assert.equal(policy.tokenize(text, options), other.tokenize(text, options), text);
      }
    });
  });
});

test("27.1 a model of 62 layers has 27B's attention scale, in the converter as in the addon", async () => {
  // Layers that add nothing make 62 of the golden model's 7. Its own scale then comes from its queries' norms.
  const scalar = 64 / 4;
  const { file } = await converted((parts) => {
    Object.assign(parts.config, { num_hidden_layers: 62, query_pre_attn_scalar: scalar });
    for (let layer = 7; layer < 62; layer++) {
      for (const [name, weight] of [...parts.weights].filter(([name]) => name.startsWith('model.layers.0.'))) {
        const silent = /o_proj|down_proj/.test(name);
        const data = silent ? new Float32Array(weight.data.length) : weight.data;
        parts.weights.set(name.replace('layers.0.', `layers.${layer}.`), { ...weight, data });
      }
    }
    for (const [name, weight] of parts.weights) {
      if (name.endsWith('q_norm.weight'))
        weight.data = weight.data.map((value) => (1 + value) * Math.sqrt(scalar / 32) - 1);
    }
  });
  within(
    'log-probabilities',
    maxAbsolute(await goldenLogProbs(file, 'f32'), await goldenLogProbs(GOLDEN_MODEL, 'f32')),
    2e-4,
  );
});

test('27.2 weights in parts give the bytes that weights in one file give', async () => {
  const { file } = await converted();
  for (const files of [2, 5]) {
    const { file: other } = await converted((parts) => {
      parts.files = files;
    });
    assert.ok(file.equals(other), `${files} files`);
  }
});

test('27.3 tensors of millions of values are converted piece by piece', async () => {
  const rows = 40_000;
  const data = Float32Array.from({ length: rows * 64 }, (_, i) => Math.sin(i) * 2 ** ((i % 11) - 5));
  const large = (parts: Parts) => {
    parts.config.vocab_size = rows;
    parts.weights.set('model.embed_tokens.weight', { shape: [rows, 64], data });
    parts.weights.set('lm_head.weight', { shape: [rows, 64], data: data.slice() });
  };
  for (const type of ['f32', 'bf16', 'q8_0'] as const) {
    const { gguf } = await converted(large, { type });
    const whole = new Uint8Array(tensorBytes(type, data.length));
    encodeFloats(type, data, whole);
    assert.ok(Buffer.from(whole).equals(gguf.tensors.get('token_embd.weight')?.bytes as Uint8Array), type);
    assert.not.ok(gguf.tensors.has('output.weight'));
    const tokens = gguf.values.get('tokenizer.ggml.tokens') as string[];
    assert.equal([tokens.length, tokens.at(-1)], [rows, `[PAD${rows - 1}]`]);
  }
  await inFolder(async (folder) => {
    const parts = goldenParts();
    large(parts);
    const { data: copy } = parts.weights.get('lm_head.weight') as Weight;
    copy[copy.length - 1] = 7;
    writeFolder(folder, parts);
    await refuses('an output that differs in its last number', folder, /'lm_head\.weight' to be the embedding/);
  });
});

test('27.4 stored types: as in the folder, or as asked for, and then as the addon stores them itself', async () => {
  const exact = await goldenLogProbs(GOLDEN_MODEL, 'f32');
  const cases: [Dtype, GemmaWeightType, number, number, BaseType, number][] = [
    ['F32', 'auto', 0, 0, 'f32', 1e-4],
    ['F32', 'f32', 0, 0, 'f32', 1e-4],
    ['F32', 'f16', 1, 1, 'f16', 0.1],
    ['F32', 'bf16', 30, 32, 'bf16', 1],
    ['F32', 'q8_0', 8, 7, 'q8_0', 2],
    ['BF16', 'auto', 30, 32, 'bf16', 1],
    ['F16', 'auto', 1, 1, 'f16', 0.1],
    ['BF16', 'f32', 0, 0, 'f32', 1],
    ['F16', 'bf16', 30, 32, 'bf16', 1],
  ];
  for (const [dtype, type, id, fileType, loaded, bound] of cases) {
    const { file, gguf } = await converted(
      (parts) => {
        parts.dtype = dtype;
      },
      { type },
    );
    assert.is(gguf.values.get('general.file_type'), fileType, type);
    for (const [name, tensor] of gguf.tensors) assert.is(tensor.type, name.includes('norm') ? 0 : id, name);
    const ours = await goldenLogProbs(file, 'auto');
    within(`${dtype} as ${type}, away from float32`, maxAbsolute(ours, exact), bound);
    if (dtype === 'F32') {
      // The addon's own conversion of the same float32 weights.
      within('  away from the addon', maxAbsolute(ours, await goldenLogProbs(GOLDEN_MODEL, loaded)), 1e-4);
    }
  }
});

test('27.5 numbers are stored as gguf-py stores them', () => {
  const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex, 'hex'));
  const values = new Float32Array(bytes(expected.numbers.f32).buffer);
  for (const type of ['f16', 'bf16', 'q8_0'] as const) {
    const made = new Uint8Array(tensorBytes(type, values.length));
    assert.ok(encodeFloats(type, values, made), type);
    assert.is(Buffer.from(made).toString('hex'), expected.numbers[type], type);
    if (type === 'q8_0') continue;
    const back = new Float32Array(values.length);
    assert.ok(decodeFloats(type === 'f16' ? 'F16' : 'BF16', made, back));
    const again = new Uint8Array(made.length);
    encodeFloats(type, back, again);
    assert.equal(again, made, `${type} read and written again`);
  }
  const fits = (type: 'f16' | 'bf16' | 'q8_0', value: number) =>
    encodeFloats(type, new Float32Array(32).fill(value), new Uint8Array(128));
  assert.equal([fits('f16', 65519), fits('f16', 65520), fits('f16', -1e30)], [true, false, false]);
  assert.equal([fits('bf16', 3.38e38), fits('bf16', 3.4e38)], [true, false]);
  assert.equal([fits('q8_0', 127 * 65504), fits('q8_0', 127 * 65520)], [true, false]);
  for (const dtype of ['F32', 'F16', 'BF16'] as const) {
    const infinity = { F32: [0, 0, 128, 127], F16: [0, 252], BF16: [128, 255] }[dtype];
    assert.not.ok(decodeFloats(dtype, Uint8Array.from(infinity), new Float32Array(1)), dtype);
  }
});

test('27.6 a folder of transformers with a vision part and scaled RoPE computes what transformers computes', async () => {
  await inFolder(async (folder) => {
    const output = join(folder, 'out.gguf');
    const { leftOut, tensors, type, parameters, vocabulary } = await convertGemmaFolder(GOLDEN_FOLDER, output);
    assert.equal([tensors, type, vocabulary, leftOut.length], [54, 'bf16', 'tokenizer.model', 34]);
    assert.ok(leftOut.every((name) => /^(vision_tower|multi_modal_projector)\./.test(name)));
    const { values, tensors: made } = readGguf(readFileSync(output));
    assert.is(
      [...made.values()].reduce((sum, { dims }) => sum + dims.reduce((a, b) => a * b, 1), 0),
      parameters,
    );
    assert.is(values.get('gemma3.rope.scaling.type'), 'linear');
    assert.is(values.get('gemma3.rope.scaling.factor'), 8);
    assert.is(values.get('gemma3.attention.sliding_window_pattern'), 2);
    assert.is(values.get('general.name'), 'Gemma Folder');
    assert.match(values.get('tokenizer.chat_template') as string, /bos_token/);
    // Rows of 16 and 24 numbers are no blocks of 32.
    assert.is((await convertGemmaFolder(GOLDEN_FOLDER, join(folder, 'f16.gguf'), { type: 'q8_0' })).type, 'f16');
    const tokens = Int32Array.from(expected.tokens.slice(1));
    for (const base of ['f32', 'auto'] as const) {
      await opened(output, base, async (policy) => {
        const { logProbs } = await policy.logProbs({
          adapter: null,
          promptTokens: Int32Array.of(expected.tokens[0] as number),
          promptLengths: Int32Array.of(1),
          numGenerations: 1,
          tokens,
          lengths: Int32Array.of(tokens.length),
          maxCompletionLength: tokens.length,
          temperature: 1,
        });
        within(`log-probabilities, ${base}`, maxAbsolute(logProbs, expected.log_probs), 2e-5);
      });
    }
  });
});

test('27.7 tokenizer.model and tokenizer.json give the tokens that SentencePiece and transformers give', async () => {
  const sentencePiece = readGguf(readFileSync(TOKENIZER)).values;
  const texts = sentencePiece.get('golden.texts') as string[];
  const special = sentencePiece.get('golden.parse_special') as boolean[];
  const lengths = sentencePiece.get('golden.lengths') as number[];
  const ids = sentencePiece.get('golden.ids') as number[];
  const size = (sentencePiece.get('tokenizer.ggml.tokens') as string[]).length;
  const made: ReadGguf[] = [];
  for (const only of ['tokenizer.model', 'tokenizer.json']) {
    await inFolder(async (folder) => {
      const copy = join(folder, 'model');
      cpSync(GOLDEN_FOLDER, copy, { recursive: true });
      rmSync(join(copy, only === 'tokenizer.json' ? 'tokenizer.model' : 'tokenizer.json'));
      const output = join(folder, 'out.gguf');
      assert.is((await convertGemmaFolder(copy, output)).vocabulary, only);
      made.push(readGguf(readFileSync(output)));
      await opened(output, 'f32', async (policy) => {
        let at = 0;
        for (const [i, text] of texts.entries()) {
          const reference = ids.slice(at, at + (lengths[i] as number));
          at += reference.length;
          const options = { addBos: false, parseSpecial: special[i] as boolean };
          assert.equal([...policy.tokenize(text, options)], reference, `${only}: ${JSON.stringify(text)}`);
        }
        let different = 0;
        for (const [i, text] of expected.texts.entries()) {
          const got = [...policy.tokenize(text, { addBos: false, parseSpecial: true })].join();
          if (got === expected.ids[i]?.join()) continue;
          // transformers merges spaces in pairs, so a run longer than the longest token ends differently, and it finds
          // tokens of several U+2581 in texts that have such, not in spaces.
          assert.match(text, / {6,}|\u2581/, `${only}: ${JSON.stringify(text)}: ${got}`);
          different++;
        }
        console.log(
          `  ${only}: ${texts.length} texts as SentencePiece; ${different} of ${expected.texts.length} unlike transformers`,
        );
        assert.ok(different < 15, `${different}`);
      });
    });
  }
  const [model, json] = made.map(({ values }) => values) as [Map<string, unknown>, Map<string, unknown>];
  const list = <T>(values: Map<string, unknown>, key: string) =>
    (values.get(`tokenizer.ggml.${key}`) as T[]).slice(0, size);
  assert.equal(list(model, 'tokens'), list(sentencePiece, 'tokens'));
  assert.equal(list(json, 'tokens'), list(sentencePiece, 'tokens'));
  // SentencePiece calls <unk> unknown; where it is an added token as well, llama.cpp's converter makes it a control token.
  const types = (list(sentencePiece, 'token_type') as number[]).map((type) => (type === 2 ? 3 : type));
  assert.equal(list(json, 'token_type'), types);
  assert.equal(list(model, 'token_type'), list(sentencePiece, 'token_type'));
  const normal = (values: Map<string, unknown>) =>
    (list(values, 'scores') as number[]).filter((_, id) => types[id] === 1);
  assert.equal(normal(model), normal(sentencePiece));
  assert.equal(normal(json), normal(sentencePiece));
  // Rows past the vocabulary.
  assert.equal((json.get('tokenizer.ggml.tokens') as string[]).slice(size), [
    '<mask>',
    '[PAD721]',
    '[PAD722]',
    '[PAD723]',
  ]);
  assert.equal((json.get('tokenizer.ggml.token_type') as number[]).slice(size), [3, 5, 5, 5]);
});

test('27.8 merges in the order of versions that sort them by score are the same vocabulary', async () => {
  await inFolder(async (folder) => {
    const copy = join(folder, 'model');
    cpSync(GOLDEN_FOLDER, copy, { recursive: true });
    rmSync(join(copy, 'tokenizer.model'));
    const output = join(folder, 'out.gguf');
    await convertGemmaFolder(copy, output);
    const before = readFileSync(output);
    const file = join(copy, 'tokenizer.json');
    const tokenizer = JSON.parse(readFileSync(file, 'utf8'));
    const { vocab, merges } = tokenizer.model;
    const normal = (tokenizer.added_tokens as { id: number }[]).filter(({ id }) => id < 720).length + 256;
    // SentencePiece's score: 0 for all that was added and for the first piece that was found.
    const score = (pair: string[]) => Math.max(0, vocab[pair.join('')] - normal);
    merges.sort(
      (a: [string, string], b: [string, string]) =>
        score(a) - score(b) || b[0].length - a[0].length || b[1].length - a[1].length,
    );
    const runs = merges.map((pair: string[]) => pair.join('')).filter((text: string) => /^▁▁+$/.test(text));
    assert.ok(new Set(runs).size === 4 && runs.join() !== [...runs].sort().join(), 'the spaces are in no other order');
    writeFileSync(file, JSON.stringify(tokenizer));
    await convertGemmaFolder(copy, output);
    assert.ok(readFileSync(output).equals(before));
  });
});

test('27.9 tokens added beside tokenizer.model take the place of its pieces', async () => {
  await inFolder(async (folder) => {
    const copy = join(folder, 'model');
    cpSync(GOLDEN_FOLDER, copy, { recursive: true });
    rmSync(join(copy, 'tokenizer.json'));
    writeFileSync(join(copy, 'added_tokens.json'), '{"<tool>": 721, "<late>": 9000}');
    const decoder = {
      '3': { content: '<unk>', special: true },
      '17': { content: '<bold>', special: false },
      '11': { content: '▁▁', special: false },
      '720': { content: '<mask>', special: false },
      '722': { content: '<|call|>', special: false },
    };
    writeFileSync(
      join(copy, 'tokenizer_config.json'),
      JSON.stringify({ added_tokens_decoder: decoder, add_eos_token: true }),
    );
    const output = join(folder, 'out.gguf');
    await convertGemmaFolder(copy, output);
    const { values } = readGguf(readFileSync(output));
    const [tokens, types, scores] = ['tokens', 'token_type', 'scores'].map((key) =>
      values.get(`tokenizer.ggml.${key}`),
    ) as [string[], number[], number[]];
    const of = (id: number) => [tokens[id], types[id], scores[id]];
    assert.equal([3, 17, 11, 720, 721, 722, 723].map(of), [
      ['<unk>', 3, -1000],
      ['<bold>', 4, -1000],
      ['  ', 4, -1000],
      ['<mask>', 3, -1000],
      ['<tool>', 4, -1000],
      ['<|call|>', 3, -1000],
      ['[PAD723]', 5, -10000],
    ]);
    assert.is(values.get('tokenizer.ggml.add_eos_token'), true);
    assert.is(values.get('tokenizer.ggml.add_bos_token'), true);
    await opened(output, 'f32', async (policy) => {
      assert.equal([...policy.tokenize('<tool>  <bold>', { addBos: false, parseSpecial: true })], [721, 11, 17]);
    });
    writeFileSync(join(copy, 'added_tokens.json'), '{"<tool>": "seven"}');
    await refuses('an id that is a word', copy, /added_tokens\.json: .* the added token '.*' has no proper id/);
    writeFileSync(join(copy, 'added_tokens.json'), '{"</b>": 19}');
    await refuses('a token that is there already', copy, /tokens that differ, got '<\/b>' as 18 and 19/);
  });
});

test('27.10 where merges do not follow the ids, scores follow the merges', async () => {
  const plain = await converted();
  // Two pieces change their ids and rows; the merges stay as they are.
  const tokens = golden.values.get('tokenizer.ggml.tokens') as string[];
  const [a, b] = [tokens.indexOf('he'), tokens.indexOf('▁and')];
  const swapped = await converted(({ tokenizer, weights }) => {
    const { vocab } = tokenizer.model;
    [vocab.he, vocab['▁and']] = [vocab['▁and'], vocab.he];
    const { data } = weights.get('model.embed_tokens.weight') as Weight;
    const row = data.slice(64 * a, 64 * a + 64);
    data.copyWithin(64 * a, 64 * b, 64 * b + 64);
    data.set(row, 64 * b);
  });
  const scores = swapped.gguf.values.get('tokenizer.ggml.scores') as number[];
  assert.ok((scores[b] as number) > (scores[a] as number));
  const exchange = (id: number) => (id === a ? b : id === b ? a : id);
  await opened(plain.file, 'f32', async (policy) =>
    opened(swapped.file, 'f32', async (other) => {
      for (const text of ['the man and the hen', 'and here and there', 'heheand ande']) {
        const options = { addBos: false, parseSpecial: false };
        const ids = [...policy.tokenize(text, options)];
        assert.ok(ids.includes(a) || ids.includes(b), text);
        assert.equal([...other.tokenize(text, options)], ids.map(exchange), text);
      }
    }),
  );
});

test('27.11 templates, special tokens, names and what may be left out', async () => {
  await inFolder(async (folder) => {
    const parts = goldenParts();
    parts.tokenizer.added_tokens.push({ id: 331, content: '<image_soft_token>', special: true });
    parts.tokenizer.model.merges = parts.tokenizer.model.merges.map((pair: string[]) => pair.join(' '));
    parts.tokenizer.post_processor = { type: 'TemplateProcessing', single: [{ Sequence: { id: 'A' } }] };
    parts.config._name_or_path = '/home/somebody/run-7';
    parts.settings = {
      eos_token: '<end_of_turn>',
      chat_template: [{ name: 'other' }, { name: 'default', template: 'D' }],
    };
    parts.weights.set('model.layers.3.self_attn.rotary_emb.inv_freq', { shape: [16], data: new Float32Array(16) });
    const embedding = parts.weights.get('model.embed_tokens.weight') as Weight;
    parts.weights.set('lm_head.weight', { ...embedding, data: embedding.data.slice() });
    // A snapshot in the hub's cache: links to files of other names.
    const blobs = join(folder, 'models--google--gemma-3-0.2b-it', 'blobs');
    const snapshot = join(folder, 'models--google--gemma-3-0.2b-it', 'snapshots', 'a'.repeat(40));
    writeFolder(blobs, parts);
    writeFileSync(
      join(blobs, 'README.md'),
      '---\nlicense: gemma\nlibrary_name: transformers\n---\n# Card\nlicense: no\n',
    );
    writeFileSync(join(blobs, 'generation_config.json'), '{"top_k": 64, "top_p": 0.95, "do_sample": true}');
    mkdirSync(snapshot, { recursive: true });
    for (const name of readdirSync(blobs)) symlinkSync(join('..', '..', 'blobs', name), join(snapshot, name));
    const output = join(folder, 'out.gguf');
    await convertGemmaFolder(snapshot, output);
    const { values, tensors } = readGguf(readFileSync(output));
    assert.is(values.get('general.name'), 'Gemma 3 0.2b It');
    assert.is(values.get('general.size_label'), '0.2B');
    assert.is(values.get('general.license'), 'gemma');
    assert.is(values.get('general.sampling.top_k'), 64);
    within('top_p', Math.abs((values.get('general.sampling.top_p') as number) - 0.95), 1e-7);
    assert.not.ok(values.has('general.sampling.temp'));
    assert.is(values.get('tokenizer.chat_template'), 'D');
    assert.is(values.get('tokenizer.ggml.bos_token_id'), 2);
    assert.is(values.get('tokenizer.ggml.eos_token_id'), 5);
    assert.is(values.get('tokenizer.ggml.add_bos_token'), false);
    assert.is((values.get('tokenizer.ggml.tokens') as string[]).length, 331);
    assert.not.ok(tensors.has('output.weight'), 'a copy of the embedding');

    writeFileSync(join(snapshot, 'chat_template.jinja'), 'J');
    await convertGemmaFolder(snapshot, output);
    assert.is(readGguf(readFileSync(output)).values.get('tokenizer.chat_template'), 'J');
  });

  // Names of other versions, and an output matrix of its own.
  const { file, gguf, leftOut } = await converted(({ config, weights }) => {
    config.tie_word_embeddings = false;
    for (const [name, weight] of [...weights]) {
      weights.delete(name);
      weights.set(name.replace(/^model\./, 'model.language_model.'), weight);
    }
    const { shape, data } = weights.get('model.language_model.embed_tokens.weight') as Weight;
    weights.set('lm_head.weight', { shape, data: data.map((value) => -value) });
    weights.set('model.vision_tower.x.weight', { shape: [1], data: new Float32Array(1) });
  });
  assert.equal(leftOut, ['model.vision_tower.x.weight']);
  assert.equal(gguf.tensors.get('output.weight')?.dims, [64, 331]);
  const away = maxAbsolute(await goldenLogProbs(file, 'f32'), await goldenLogProbs(GOLDEN_MODEL, 'f32'));
  assert.ok(away > 1, `${away}: the output matrix is not the one of the folder`);

  // Tokens of spaces that are not listed as added tokens, and merges without those that never happen.
  const { file: shorter } = await converted(({ tokenizer }) => {
    tokenizer.added_tokens = tokenizer.added_tokens.filter(({ content }: Json) => content !== '▁▁');
    tokenizer.model.merges = tokenizer.model.merges.filter((pair: string[]) => pair.join('') !== '\n\n');
  });
  assert.ok((await converted()).file.equals(shorter));

  // RoPE and layers as newer versions of transformers write them: the same model.
  const { file: newer } = await converted(({ config }) => {
    delete config.rope_theta;
    delete config.rope_local_base_freq;
    delete config.rope_scaling;
    delete config.sliding_window_pattern;
    config.layer_types = [...new Array(5).fill('sliding_attention'), 'full_attention', 'sliding_attention'];
    config.rope_parameters = {
      full_attention: { rope_type: 'default', rope_theta: 50000 },
      sliding_attention: { rope_type: 'default', rope_theta: 700 },
    };
  });
  assert.ok((await converted()).file.equals(newer));
});

test('27.12 progress reaches its end, and a stopped or failed conversion leaves everything as it was', async () => {
  await inFolder(async (folder) => {
    const parts = goldenParts();
    const source = join(folder, 'model');
    writeFolder(source, parts);
    const output = join(folder, 'out.gguf');
    const seen: [number, number][] = [];
    await convertGemmaFolder(source, output, { progress: (written, total) => seen.push([written, total]) });
    const total = [...golden.tensors.values()].reduce((sum, { bytes }) => sum + bytes.length, 0);
    assert.equal(seen.at(-1), [total, total]);
    assert.ok(seen.every(([written], i) => i === 0 || written > (seen[i - 1] as [number, number])[0]));

    writeFileSync(output, 'what was there');
    const control = new AbortController();
    let later = 0;
    const stopped = convertGemmaFolder(source, output, {
      signal: control.signal,
      progress: (written) => {
        if (control.signal.aborted) later++;
        if (written > total / 2) control.abort(new Error('enough'));
      },
    });
    assert.match(await stopped.then(() => 'done', String), /enough/);
    assert.is(later, 0, 'it went on');
    (parts.weights.get('model.norm.weight') as Weight).data[3] = Number.NaN;
    writeFolder(source, parts);
    const failed = convertGemmaFolder(source, output);
    assert.match(await failed.then(() => 'done', String), /NaN or infinity in 'model\.norm\.weight'/);
    assert.equal(readdirSync(folder).sort(), ['model', 'out.gguf']);
    assert.is(readFileSync(output, 'utf8'), 'what was there');
    const aborted = convertGemmaFolder(source, output, { signal: AbortSignal.abort(new Error('before')) });
    assert.match(await aborted.then(() => 'done', String), /before/);
  });
});

// ---- refused ----

/** Converts a folder, which must fail in the form that every model file error has; `words` must be in the message. */
async function refuses(
  what: string,
  folder: string,
  words: RegExp,
  options: GemmaConversionOptions = {},
): Promise<VoiceGrpoError> {
  const output = join(folder, 'out.gguf');
  const before = readdirSync(folder).sort();
  const error: unknown = await convertGemmaFolder(folder, output, options).then(
    () => null,
    (caught: unknown) => caught,
  );
  if (!(error instanceof VoiceGrpoError))
    throw new Error(`${what}: ${error === null ? 'accepted' : (error as Error).stack}`);
  assert.is(error.code, 'E_MODEL', what);
  assert.match(error.message, words, what);
  assert.ok(error.message.startsWith(folder), `${what}: the message does not name the file: ${error.message}`);
  assert.match(error.message, /^[^\n]+: expected [^\n]+, got [^\n]+\.$/, what);
  assert.ok(error.message.length < 700, `${what}: ${error.message.length} characters`);
  assert.ok(error.hint.length > 0, `${what}: no next step`);
  const text = presentError(error);
  assert.is(text.exitCode, 3, what);
  assert.not.match(text.text, /\n\s+at /, `${what}: a stack is shown`);
  assert.equal(readdirSync(folder).sort(), before, `${what}: something was written`);
  assert.not.ok(existsSync(output), what);
  return error;
}

const refusesParts = async (cases: [string, (parts: Parts) => void, RegExp, GemmaWeightType?][]): Promise<void> => {
  for (const [what, change, words, type = 'auto'] of cases) {
    await inFolder(async (folder) => {
      const parts = goldenParts();
      change(parts);
      writeFolder(folder, parts);
      await refuses(what, folder, words, { type });
    });
  }
};

/** Writes or removes one file of a folder that is right. */
const refusesFiles = async (
  cases: [string, string, string | Uint8Array | null, RegExp][],
  files = 1,
): Promise<void> => {
  for (const [what, name, content, words] of cases) {
    await inFolder(async (folder) => {
      writeFolder(folder, { ...goldenParts(), files });
      if (content === null) rmSync(join(folder, name));
      else writeFileSync(join(folder, name), content);
      await refuses(what, folder, words);
    });
  }
};

const set =
  (key: string, value: unknown) =>
  ({ config }: Parts): void => {
    config[key] = value;
  };

test('27.13 configurations that no such model has are refused', async () => {
  await refusesParts([
    ['another model', set('model_type', 'llama'), /a Gemma 3 text model .*, got 'llama'/],
    ['no model type', set('model_type', undefined), /a Gemma 3 text model .*, got nothing/],
    ['a vision model without a text part', set('model_type', 'gemma3'), /text_config\), got nothing/],
    ['another architecture', set('architectures', ['Gemma3TextModel']), /architecture .*, got \["Gemma3TextModel"\]/],
    ['architectures that are no list', set('architectures', 7), /architecture .*, got 7/],
    ['no layers', set('num_hidden_layers', 0), /'num_hidden_layers' from 1 to 1023, got 0/],
    ['a number as text', set('hidden_size', '64'), /'hidden_size' from 1 to 131072, got '64'/],
    ['a missing width', set('hidden_size', undefined), /'hidden_size' .* got nothing/],
    ['half a head', set('num_attention_heads', 4.5), /a whole number as 'num_attention_heads', got 4.5/],
    ['an absurd width', set('intermediate_size', 1e12), /'intermediate_size' from 1 to 1048576, got 1000000000000/],
    ['heads that cannot be shared', set('num_key_value_heads', 3), /heads that 3 key\/value heads share evenly, got 4/],
    [
      'an odd head',
      (p) => Object.assign(p.config, { head_dim: 31, query_pre_attn_scalar: 31 }),
      /an even 'head_dim', got 31/,
    ],
    [
      'another attention scale',
      set('query_pre_attn_scalar', 168),
      /'query_pre_attn_scalar' of 32, got 168, which GGUF has no key for/,
    ],
    ['another activation', set('hidden_activation', 'silu'), /'hidden_activation' to be 'gelu_pytorch_tanh'.*'silu'/],
    ['softcapping', set('final_logit_softcapping', 30), /'final_logit_softcapping' to be 0.*, got 30/],
    ['an embedding model', set('use_bidirectional_attention', true), /'use_bidirectional_attention' to be false/],
    ['quantized weights', set('quantization_config', { bits: 4 }), /weights as they were trained, got quantized ones/],
    ['YaRN', set('rope_scaling', { rope_type: 'yarn', factor: 4 }), /rope_type 'default' or 'linear'.*, got 'yarn'/],
    [
      'linear scaling by nothing',
      set('rope_scaling', { rope_type: 'linear' }),
      /'factor' from 0.001 to 1000000, got nothing/,
    ],
    ['a negative RoPE base', set('rope_theta', -1), /'rope_theta' from 1 to .*, got -1/],
    ['RoPE that is a list', set('rope_parameters', []), /an object as 'rope_parameters', got \[\]/],
    [
      'RoPE of no kind of layer',
      set('rope_parameters', { rope_theta: 5 }),
      /'rope_parameters' of full.*, got 'rope_theta'/,
    ],
    [
      'layers of no pattern',
      set('layer_types', ['full_attention', ...new Array(6).fill('sliding_attention')]),
      /layer 2/,
    ],
    ['sliding layers without a window', set('sliding_window', null), /'sliding_window' from 1 .*, got nothing/],
    ['too few layer types', set('layer_types', ['full_attention']), /'layer_types' for 7 layers, got 1/],
    ['an epsilon of 0', set('rms_norm_eps', 0), /'rms_norm_eps' .*, got 0/],
    [
      'no such bos',
      (p) => Object.assign(p, { settings: {}, config: { ...p.config, bos_token_id: 9999 } }),
      /'bos_token_id' below 331.*, got 9999/,
    ],
  ]);
  await refusesFiles([
    ['no configuration', 'config.json', null, /got no config\.json there/],
    ['a list', 'config.json', '[1]', /config\.json: expected a JSON object, got another value: \[1\]/],
    ['half of it', 'config.json', '{"model_type": "gemma3_text"', /a file that is not JSON/],
    ['a key twice', 'config.json', '{"hidden_size": 64, "hidden_s\\u0069ze": 65}', /has the key 'hidden_size' twice/],
    ['not UTF-8', 'config.json', Buffer.from([0x7b, 0xff, 0x7d]), /a file that is not UTF-8/],
    ['a million brackets', 'config.json', '['.repeat(1e6), /nested deeper than 32/],
    ['a million values', 'config.json', `[${'0,'.repeat(1e6)}0]`, /more than 1000000 values/],
  ]);
});

test('27.14 tensors that do not fit the configuration are named in one sentence', async () => {
  const weight = (name: string) => `model.layers.2.${name}.weight`;
  await refusesParts([
    [
      'a missing projection',
      ({ weights }) => void weights.delete(weight('mlp.up_proj')),
      /93 tensors .*1 missing \('model\.layers\.2\.mlp\.up_proj\.weight'\)/,
    ],
    [
      'no layers at all',
      ({ weights }) => {
        for (const name of [...weights.keys()]) if (name.includes('layers')) weights.delete(name);
      },
      /91 missing \(.* and 87 more\)/,
    ],
    ['one layer too few in the configuration', set('num_hidden_layers', 6), /13 unknown/],
    [
      'an adapter',
      ({ weights }) => void weights.set('base_model.model.lora_A.weight', { shape: [1], data: new Float32Array(1) }),
      /1 unknown \('base_model\.model\.lora_A\.weight'\)/,
    ],
    [
      'a name of control characters',
      ({ weights }) => void weights.set('\u001b[31m\n', { shape: [1], data: new Float32Array(1) }),
      /1 unknown \('\\u\{1b\}\[31m\\u\{a\}'\)/,
    ],
    [
      'a transposed projection',
      ({ weights }) => {
        (weights.get(weight('mlp.up_proj')) as Weight).shape.reverse();
      },
      /1 of another shape \('model\.layers\.2\.mlp\.up_proj\.weight' with \[64, 96\] for \[96, 64\]\)/,
    ],
    ['another vocabulary', set('vocab_size', 330), /'model\.embed_tokens\.weight' with \[331, 64\] for \[330, 64\]/],
    [
      'two names for one tensor',
      ({ weights }) => void weights.set('model.language_model.norm.weight', weights.get('model.norm.weight') as Weight),
      /one tensor 'model\.norm\.weight', got two/,
    ],
    [
      'an output that is tied and another',
      ({ weights }) => void weights.set('lm_head.weight', { shape: [331, 64], data: new Float32Array(331 * 64) }),
      /'lm_head\.weight' to be the embedding/,
    ],
    ['an output that is missing', set('tie_word_embeddings', false), /1 missing \('lm_head\.weight'\)/],
    [
      'weights too large for f16',
      ({ weights }) => {
        (weights.get(weight('mlp.up_proj')) as Weight).data[5] = 1e5;
      },
      /weights that f16 can hold, got larger ones in 'model\.layers\.2\.mlp\.up_proj/,
      'f16',
    ],
    [
      'an infinite weight',
      ({ weights }) => {
        (weights.get(weight('mlp.up_proj')) as Weight).data[5] = Number.NEGATIVE_INFINITY;
      },
      /NaN or infinity in 'model\.layers\.2/,
    ],
  ]);
});

test('27.15 safetensors that lie are refused', async () => {
  const { weights } = goldenParts();
  const entry = (dtype: unknown, shape: unknown, offsets: unknown) =>
    JSON.stringify({ 'model.norm.weight': { dtype, shape, data_offsets: offsets } });
  const changed = (change: (header: Json) => void) => safetensors(weights, 'F32', change);
  const name = 'model.norm.weight';
  const next = 'model.layers.0.input_layernorm.weight';
  const long = Buffer.alloc(16, 0xff);
  const cases: [string, Uint8Array, RegExp][] = [
    ['an empty file', Buffer.alloc(0), /at least 8 bytes, this one 0/],
    ['a header of 2^64 bytes', long, /should have 18446744073709551615 bytes, but only 8 follow/],
    ['a header past the end', withHeader('{}').fill(9, 0, 1), /should have 9 bytes, but only 2 follow/],
    ['no JSON', withHeader('{"a": '), /the header is not JSON/],
    ['a list', withHeader('[]'), /the header is not a JSON object/],
    ['no UTF-8', withHeader(Buffer.from([0x22, 0xff, 0x22])), /the header is not UTF-8/],
    ['deep JSON', withHeader('{"a":'.repeat(50_000)), /the header is nested deeper than 3/],
    [
      'a name twice',
      withHeader(
        `{"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "\\u0061": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`,
        Buffer.alloc(4),
      ),
      /the header has the key 'a' twice/,
    ],
    [
      'a field twice',
      withHeader('{"a": {"dtype":"F32","shape":[1],"shape":[2],"data_offsets":[0,4]}}', Buffer.alloc(4)),
      /the key 'shape' twice/,
    ],
    ['an unknown type', withHeader(entry('F31', [1], [0, 4]), Buffer.alloc(4)), /unknown type 'F31'/],
    [
      'a type that every object has',
      withHeader(entry('constructor', [1], [0, 4]), Buffer.alloc(4)),
      /unknown type 'constructor'/,
    ],
    ['a negative size', withHeader(entry('F32', [-1], [0, 4]), Buffer.alloc(4)), /no proper shape or offsets/],
    [
      'sizes beyond counting',
      withHeader(entry('F32', [2 ** 40, 2 ** 40], [0, 4]), Buffer.alloc(4)),
      /takes 4\.8\d+e\+24/,
    ],
    ['offsets in reverse', withHeader(entry('F32', [1], [4, 0]), Buffer.alloc(4)), /lies at bytes 4 to 0/],
    [
      'a shape that does not fit',
      changed((header) => {
        header[name].shape = [65];
      }),
      /lies at bytes \d+ to \d+, but its shape \[65\] takes 260/,
    ],
    ['offsets past the end', withHeader(entry('F32', [2], [0, 8]), Buffer.alloc(4)), /bytes 0 to 8, but only 4 follow/],
    [
      'bytes that belong to nothing',
      Buffer.concat([changed(() => {}), Buffer.alloc(4)]),
      /the tensors end at byte \d+, but \d+ follow/,
    ],
    ['a hole', withHeader(entry('F32', [1], [4, 8]), Buffer.alloc(8)), /begins at byte 4, expected 0/],
    [
      'two in one place',
      changed((header) => {
        header[next].data_offsets = header[name].data_offsets;
      }),
      /begins at byte \d+, expected \d+/,
    ],
    ['a cut file', changed(() => {}).subarray(0, -1), /but only \d+ follow/],
    [
      'whole numbers',
      changed((header) => {
        header[name].dtype = 'I32';
      }),
      /1 that are not F32, F16 or BF16 \('model\.norm\.weight' of type I32\)/,
    ],
    [
      'a Git LFS pointer',
      Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:0\n'),
      /the file itself, got a Git LFS pointer to it/,
    ],
  ];
  const before = process.memoryUsage().rss;
  await refusesFiles(cases.map(([what, content, words]) => [what, 'model.safetensors', content, words]));
  await inFolder(async (folder) => {
    writeFolder(folder, goldenParts());
    const path = join(folder, 'model.safetensors');
    // Holes in the file system: gigabytes that are nowhere.
    writeFileSync(path, Buffer.from([0, 0, 0, 0, 1, 0, 0, 0]));
    truncateSync(path, 2 ** 33);
    await refuses('a header of 4 GB', folder, /should have 4294967296 bytes, more than the 100000000/);
    rmSync(path);
    mkdirSync(path);
    await refuses('a folder as file', folder, /a safetensors file, got a folder or a device/);
    rmSync(path, { recursive: true });
    await refuses('no weights', folder, /model\.safetensors, or parts and .*, got no file of weights/);
    writeFileSync(join(folder, 'pytorch_model.bin'), '');
    const { hint } = await refuses('older weights', folder, /got 'pytorch_model\.bin'/);
    assert.match(hint, /save_pretrained/);
    rmSync(join(folder, 'pytorch_model.bin'));
    truncateSync(join(folder, 'config.json'), 2 ** 33);
    await refuses('a configuration of 8 GB', folder, /at most 16000000 bytes, got 8589934592/);
  });
  const grown = (process.memoryUsage().rss - before) / 1e6;
  console.log(`  memory grew by ${grown.toFixed(0)} MB`);
  assert.ok(grown < 300, `${grown} MB`);
});

test('27.16 an index that lies is refused', async () => {
  const index = (change: (map: Json) => void) => {
    const map: Json = {};
    for (const [i, name] of [...goldenParts().weights.keys()].entries())
      map[name] = `model-${(i % 2) + 1}-of-2.safetensors`;
    change(map);
    return JSON.stringify({ weight_map: map });
  };
  const name = 'model.norm.weight';
  const names: [string, string][] = [
    ['a path upwards', '../model-1-of-2.safetensors'],
    ['an absolute path', '/etc/passwd'],
    ['a path down', 'a/model.safetensors'],
    ['another kind of file', 'config.json'],
    ['nothing', ''],
  ];
  const file = 'model.safetensors.index.json';
  await refusesFiles(
    [
      ...names.map(([what, part]): [string, string, string, RegExp] => [
        what,
        file,
        index((map) => {
          map[name] = part;
        }),
        /the name of a safetensors file in this folder for 'model\.norm\.weight'/,
      ]),
      [
        'a number',
        file,
        index((map) => {
          map[name] = 1;
        }),
        /in this folder for 'model\.norm\.weight', got 1/,
      ],
      ['no map', file, '{"metadata": {}}', /'weight_map' with a file for each tensor, got nothing/],
      [
        'a tensor that is nowhere',
        file,
        index((map) => {
          map.x = 'model-1-of-2.safetensors';
        }),
        /none of them with 'x'/,
      ],
      [
        'a tensor that it does not name',
        file,
        index((map) => {
          delete map[name];
        }),
        /'model\.norm\.weight' in 'model-.*, where it lies, got no file/,
      ],
      [
        'a tensor in the wrong file',
        file,
        index((map) => {
          map[name] = map[name].replace(/[12]-/, (m: string) => (m === '1-' ? '2-' : '1-'));
        }),
        /where it lies, got 'model-/,
      ],
      [
        'a part that is missing',
        'model-2-of-2.safetensors',
        null,
        /model-2-of-2\.safetensors: expected a safetensors file, got no such file/,
      ],
      [
        'no index',
        file,
        null,
        /model\.safetensors, or parts and .*, got 'model-1-of-2\.safetensors', 'model-2-of-2\.safetensors'/,
      ],
    ],
    2,
  );
});

test('27.17 vocabularies that SentencePiece could not have are refused', async () => {
  const model = (change: (model: Json, tokenizer: Json) => void) => (parts: Parts) =>
    change(parts.tokenizer.model, parts.tokenizer);
  await refusesParts([
    [
      'WordPiece',
      model((m) => {
        m.type = 'WordPiece';
      }),
      /not BPE with byte_fallback/,
    ],
    [
      'bytes as GPT-2 has them',
      model((m) => {
        m.byte_fallback = false;
      }),
      /not BPE with byte_fallback/,
    ],
    [
      'spaces as they are',
      model((_, t) => {
        t.normalizer = null;
      }),
      /its normalizer is not the one that writes a space as '\\u\{2581\}'/,
    ],
    [
      'a word before the text',
      model((_, t) => {
        t.normalizer = { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, t.normalizer] };
      }),
      /its normalizer/,
    ],
    [
      'cuts at punctuation',
      model((_, t) => {
        t.pre_tokenizer = { type: 'Punctuation' };
      }),
      /its pre_tokenizer/,
    ],
    [
      'an id twice',
      model((m) => {
        m.vocab.new = m.vocab.the ?? 300;
      }),
      /have the same id/,
    ],
    [
      'an id of a billion',
      model((m) => {
        m.vocab.new = 1e9;
      }),
      /'new' has id 1000000000, but the embedding only 331 rows/,
    ],
    [
      'an id that is none',
      model((m) => {
        m.vocab.new = -1;
      }),
      /the id of 'new' is '-1'/,
    ],
    [
      'merges left out',
      model((m) => {
        m.merges.splice(12, 3);
      }),
      /it has \d+ of the \d+ merges/,
    ],
    [
      'a merge twice',
      model((m) => {
        m.merges.push(m.merges.at(-1));
      }),
      /stands there twice/,
    ],
    [
      'merges in disorder',
      model((m) => {
        const makes = (pair: string[] | undefined) => pair?.join('');
        const at = m.merges.findIndex((pair: string[], i: number) => i > 9 && makes(pair) === makes(m.merges[i + 1]));
        m.merges.push(...m.merges.splice(at, 1));
      }),
      /the merges that make '.*' are not together/,
    ],
    [
      'a merge of nothing',
      model((m) => {
        m.merges.push(['q', 'q']);
      }),
      /is not of two pieces|makes no piece/,
    ],
    [
      'a merge that is a number',
      model((m) => {
        m.merges.push(7);
      }),
      /the merge '7' is not of two pieces/,
    ],
    [
      'an added token elsewhere',
      model((_, t) => {
        t.added_tokens[4].id = 300;
      }),
      /added token '<start_of_turn>' has id 300/,
    ],
    [
      'an added token without a name',
      model((_, t) => {
        t.added_tokens[4].content = null;
      }),
      /no proper id or content/,
    ],
    [
      'two tokens of one text',
      model((_, t) => {
        t.added_tokens.push({ id: 7, content: '  ', special: false });
      }),
      /added token ' {2}' has id 7/,
    ],
  ]);
  const good = readFileSync(join(GOLDEN_FOLDER, 'tokenizer.model'));
  const piece = (...fields: number[]) => Buffer.from([0x0a, fields.length, ...fields]);
  const cases: [string, Uint8Array | null, RegExp][] = [
    ['empty', Buffer.alloc(0), /it has no pieces/],
    ['cut', good.subarray(0, 5000), /bytes, but only \d+ follow|ends inside of a number|model_type/],
    ['unigram', piece(0x0a, 1, 0x61), /its model_type is 1, only 2 \(BPE\) is read/],
    ['a text that is not UTF-8', piece(0x0a, 1, 0xff), /the text of piece 0 is not UTF-8/],
    ['a score of NaN', piece(0x15, 0, 0, 0xc0, 0x7f), /the score of piece 0 is not a finite number/],
    ['a score of one byte', piece(0x12, 1, 0), /the score of piece 0 is no number of four bytes/],
    ['a type of 9', piece(0x18, 9), /piece 0 has the type 9/],
    ['a number without an end', Buffer.alloc(20, 0xff), /has one that is too long/],
    [
      'a length of exabytes',
      Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
      /bytes, but only 0 follow/,
    ],
    ['a web page', Buffer.from('<!doctype html>'), /tokenizer\.model: expected a tokenizer/],
    ['a model with more pieces than rows', good, /piece \d+ is '.*', but the embedding has only 331 rows/],
  ];
  await refusesFiles(cases.map(([what, content, words]) => [what, 'tokenizer.model', content, words]));
  await refusesFiles([['no tokenizer', 'tokenizer.json', null, /tokenizer\.model or tokenizer\.json, got neither/]]);
});

test('27.18 hundreds of damaged folders: converted or refused, and nothing else', async () => {
  // A generator of fixed numbers (Lehmer), so that a failure comes again.
  let state = 20250601;
  const below = (n: number): number => {
    state = (state * 48271) % 0x7fffffff;
    return state % n;
  };
  const names = [
    'config.json',
    'tokenizer.json',
    'tokenizer.model',
    'tokenizer_config.json',
    'model.safetensors.index.json',
  ];
  const parts = readdirSync(GOLDEN_FOLDER).filter((name) => name.endsWith('.safetensors'));
  await inFolder(async (folder) => {
    cpSync(GOLDEN_FOLDER, folder, { recursive: true });
    let accepted = 0;
    const refused = new Set<string>();
    for (let i = 0; i < 600; i++) {
      const name = [...names, ...parts][below(names.length + parts.length)] as string;
      const content = readFileSync(join(GOLDEN_FOLDER, name));
      // Of weights the header: a changed weight is only another model.
      const end = name.endsWith('.safetensors') ? 8 + Number(content.readBigUInt64LE(0)) : content.length;
      for (let k = below(3); k >= 0; k--) {
        const at = below(end);
        content[at] = below(3) === 0 ? below(256) : (content[at] as number) ^ (1 << below(8));
      }
      writeFileSync(join(folder, name), content);
      // The same folder without tokenizer.model, so that tokenizer.json is the one that counts.
      if (name === 'tokenizer.json') rmSync(join(folder, 'tokenizer.model'), { force: true });
      try {
        await convertGemmaFolder(folder, join(folder, 'out.gguf'));
        accepted++;
      } catch (error) {
        if (!(error instanceof VoiceGrpoError)) throw new Error(`case ${i}, ${name}: ${(error as Error).stack}`);
        assert.is(error.code, 'E_MODEL', error.message);
        assert.not.match(error.message, /\n/);
        refused.add(error.message.slice(folder.length).replace(/\d+/g, '').slice(0, 60));
      }
      for (const restored of [name, 'tokenizer.model']) cpSync(join(GOLDEN_FOLDER, restored), join(folder, restored));
    }
    console.log(`  ${accepted} converted, ${refused.size} kinds of complaint`);
    assert.ok(accepted > 30 && refused.size > 20, `${accepted} accepted, ${refused.size} kinds of complaint`);
    assert.not.ok(readdirSync(folder).some((name) => name.endsWith('.tmp')));
  });
});

test.run();
