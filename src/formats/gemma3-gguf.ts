/**
 * Gemma 3 as transformers saves it → GGUF as the addon and llama.cpp load it.
 *
 * Names, keys and conventions are those of llama.cpp's convert_hf_to_gguf.py (Gemma3Model) and gguf-py: norms are stored as
 * 1 + weight in float32, the output matrix is left out where it is the embedding, a vocabulary goes in as SentencePiece.
 */
import { join } from 'node:path';
import { attentionScalar, EMBEDDING, type GemmaShape, gemmaTensors, OUTPUT } from './gemma3-names.js';
import { type GgufOptions, type GgufTensor, type GgufValue, writeGguf } from './gguf.js';
import { encodeFloats, GGUF_FILE_TYPES, GGUF_TENSOR_TYPES, type PlainType, tensorBytes } from './gguf-types.js';
import {
  type FolderTensor,
  folderName,
  folderProblem,
  isFloat,
  isObject,
  listed,
  readFolderTensors,
  readJsonObject,
  readSmallFile,
  readValues,
  shown,
} from './hf-folder.js';
import { quoted } from './safetensors.js';
import {
  type AddedToken,
  addedPiece,
  addedTokens,
  PIECE,
  type Piece,
  piecesOfTokenizer,
  readSentencePiece,
} from './sentencepiece.js';

/** How matrices are stored; 'auto': as they are in the folder. Norms are float32 in each. */
export type GemmaWeightType = 'auto' | PlainType;

export interface GemmaConversionOptions extends GgufOptions {
  type?: GemmaWeightType;
  /** The model's name, where the folder's says nothing: a snapshot of the hub is named after its commit. */
  name?: string | undefined;
}

export interface GemmaConversion {
  /** Bytes of the GGUF file. */
  bytes: number;
  tensors: number;
  parameters: number;
  /** What most weights are stored as. */
  type: PlainType;
  /** The file that the vocabulary comes from. */
  vocabulary: 'tokenizer.model' | 'tokenizer.json';
  /** Tensors of the vision part, which a text model has no use for. */
  leftOut: string[];
}

const MB = 1_000_000;
/** Gemma's tokenizer.json has 33 MB, 260,000 pieces and 510,000 merges. */
const TOKENIZER_LIMITS = { bytes: 256 * MB, depth: 32, values: 16 * MB };

/**
 * Writes the GGUF of a Gemma 3 text model. Also of a folder with a vision part (4B and larger), of which the text part is taken.
 *
 * Tensors are read, converted and written about a million values at a time. The file stands at its place whole or not at all.
 *
 * @param folder config.json, model.safetensors or its parts, tokenizer.model or tokenizer.json; beside them, where there are
 *   such, tokenizer_config.json, chat_template.jinja, generation_config.json, README.md
 * @param output path of the GGUF file, replaced if it is there
 * @throws VoiceGrpoError E_MODEL for a folder that cannot be converted; the signal's reason; an error of the file system
 */
export async function convertGemmaFolder(
  folder: string,
  output: string,
  { type = 'auto', name, progress, signal }: GemmaConversionOptions = {},
): Promise<GemmaConversion> {
  const { root, config, where } = await readConfig(folder);
  const { found, leftOut } = textTensors(folder, await readFolderTensors(folder));
  signal?.throwIfAborted();
  const untied = await hasOutput(folder, config, found, signal);
  const pairs = match(folder, config, found, untied);
  const rows = (pairs[0] as Pair).source.shape[0] as number;
  const vocabulary = await readVocabulary(folder, rows);
  const parameters = pairs.reduce((sum, { source }) => sum + source.shape.reduce((a, b) => a * b, 1), 0);
  const stored = pairs.map((pair) => ({ ...pair, type: storedType(pair, type) }));
  const most = mostlyType(stored);

  const values = new Map<string, GgufValue>([
    ...(await generalValues(folder, name ?? modelName(folder, root), parameters, most)),
    ...architectureValues(config),
    ...(await tokenizerValues(folder, { root, where, vocabulary })),
  ]);
  const tensors = stored.map(ggufTensor);
  const bytes = await writeGguf(output, values, tensors, { progress, signal });
  return { bytes, tensors: tensors.length, parameters, type: most, vocabulary: vocabulary.file, leftOut };
}

// ---- config.json ----

interface GemmaConfig extends GemmaShape {
  /** Null: as many as the embedding has rows. */
  vocab: number | null;
  contextLength: number; // tokens
  /** Layer i sees the whole text if i + 1 is a multiple of `pattern`, else `window` tokens. */
  pattern: number;
  window: number | null; // tokens; null: no layer has one
  epsilon: number;
  ropeBase: number;
  ropeBaseLocal: number;
  /** Positions of whole-text layers are divided by it. */
  ropeFactor: number;
  tied: boolean;
}

type Json = Record<string, unknown>;

/** Bounds are the addon's, which are far from any model. Fallbacks are transformers' (Gemma3TextConfig). */
async function readConfig(folder: string): Promise<{ root: Json; config: GemmaConfig; where: string }> {
  const where = join(folder, 'config.json');
  const root = await readJsonObject(where);
  if (root === null) throw folderProblem(folder, 'the folder of a Gemma 3 model', 'no config.json there', NEXT_MODEL);
  const text = root.model_type === 'gemma3' ? root.text_config : root;
  const models = root.architectures ?? ARCHITECTURES;
  if (!isObject(text) || (text.model_type ?? 'gemma3_text') !== 'gemma3_text' || (text === root && !root.model_type)) {
    const expected = "a Gemma 3 text model (model_type 'gemma3_text', or 'gemma3' with text_config)";
    throw folderProblem(where, expected, shown(isObject(text) ? text.model_type : text), NEXT_MODEL);
  }
  if (!Array.isArray(models) || !models.some((name) => ARCHITECTURES.includes(name))) {
    throw folderProblem(where, `the architecture ${ARCHITECTURES.join(' or ')}`, shown(models), NEXT_MODEL);
  }
  const number = (key: string, low: number, high: number, fallback?: number, of: Json = text): number => {
    const value = of[key] ?? fallback;
    if (typeof value !== 'number' || !(value >= low && value <= high)) {
      throw folderProblem(where, `'${key}' from ${low} to ${high}`, shown(value));
    }
    return value;
  };
  const integer: typeof number = (key, low, high, fallback) => {
    const value = number(key, low, high, fallback);
    if (!Number.isInteger(value)) throw folderProblem(where, `a whole number as '${key}'`, shown(value));
    return value;
  };
  refuseVariants(where, root, text);

  const layers = integer('num_hidden_layers', 1, 1023);
  const heads = integer('num_attention_heads', 1, 1024, 8);
  const kvHeads = integer('num_key_value_heads', 1, 1024, 4);
  const headDim = integer('head_dim', 2, 4096, 256);
  const width = integer('hidden_size', 1, 2 ** 17);
  const scale = number('query_pre_attn_scalar', 1, 1e6, 256);
  if (heads % kvHeads !== 0) {
    throw folderProblem(where, `heads that ${kvHeads} key/value heads share evenly`, `${heads}`);
  }
  if (headDim % 2 !== 0) throw folderProblem(where, "an even 'head_dim'", `${headDim}`);
  const known = attentionScalar({ layers, heads, headDim, width });
  if (scale !== known) {
    const expected = `'query_pre_attn_scalar' of ${known}`;
    throw folderProblem(where, expected, `${scale}, which GGUF has no key for`, NEXT_MODEL);
  }
  const pattern = layerPattern(where, text, layers, integer);
  const rope = ropeParameters(where, text, number);
  const config = {
    ...{ layers, width, heads, kvHeads, headDim, pattern, ...rope },
    inner: integer('intermediate_size', 1, 2 ** 20),
    vocab: text.vocab_size === undefined ? null : integer('vocab_size', 1, 2 ** 24),
    contextLength: integer('max_position_embeddings', 1, 2 ** 24, 131_072),
    window:
      pattern === 1 ? null : integer('sliding_window', 1, 2 ** 24, text.sliding_window === null ? undefined : 4096),
    epsilon: number('rms_norm_eps', 1e-12, 0.1, 1e-6),
    tied: (text.tie_word_embeddings ?? root.tie_word_embeddings ?? true) !== false,
  };
  return { root, config, where };
}

const ARCHITECTURES = ['Gemma3ForCausalLM', 'Gemma3ForConditionalGeneration'];
const NEXT_MODEL = 'choose a Gemma 3 text model, for example google/gemma-3-270m-it';

/** What transformers can compute and GGUF or the addon cannot. */
function refuseVariants(where: string, root: Json, text: Json): void {
  if (root.quantization_config || text.quantization_config) {
    const next = 'choose the model that it was made from; a smaller GGUF comes from the type q8_0';
    throw folderProblem(where, 'weights as they were trained', "quantized ones ('quantization_config')", next);
  }
  const expected: [string, unknown[]][] = [
    ['hidden_activation', ['gelu_pytorch_tanh']],
    ['attention_bias', [false]],
    ['use_bidirectional_attention', [false]],
    ['attn_logit_softcapping', [0]],
    ['final_logit_softcapping', [0]],
  ];
  for (const [key, allowed] of expected) {
    const value = text[key] ?? allowed[0];
    if (!allowed.includes(value)) {
      throw folderProblem(where, `'${key}' to be ${shown(allowed[0])} as in Gemma 3`, shown(value), NEXT_MODEL);
    }
  }
}

type ReadInteger = (key: string, low: number, high: number, fallback?: number) => number;

/** Every how many layers one sees the whole text: from 'layer_types', or 'sliding_window_pattern' of older versions. */
function layerPattern(where: string, text: Json, layers: number, integer: ReadInteger): number {
  const types = text.layer_types ?? null;
  if (types === null) return integer('sliding_window_pattern', 1, 1024, 6);
  if (!Array.isArray(types) || types.length !== layers) {
    throw folderProblem(
      where,
      `'layer_types' for ${layers} layers`,
      Array.isArray(types) ? `${types.length}` : shown(types),
    );
  }
  const first = types.indexOf('full_attention');
  const pattern = first < 0 ? layers + 1 : first + 1;
  const wrong = types.findIndex(
    (type, i) => type !== ((i + 1) % pattern === 0 ? 'full_attention' : 'sliding_attention'),
  );
  if (wrong >= 0) {
    const expected = `'layer_types' with full_attention once every ${pattern} layers, sliding_attention else`;
    throw folderProblem(where, expected, `${shown(types[wrong])} at layer ${wrong + 1}`);
  }
  return pattern;
}

/** RoPE of both kinds of layers, from 'rope_parameters' or the keys of older versions. */
function ropeParameters(
  where: string,
  text: Json,
  number: (key: string, low: number, high: number, fallback: number | undefined, of: Json) => number,
): { ropeBase: number; ropeBaseLocal: number; ropeFactor: number } {
  const part = (of: Json, key: string): Json => {
    const value = of[key] ?? {};
    if (!isObject(value)) throw folderProblem(where, `an object as '${key}'`, shown(value));
    return value;
  };
  const both = part(text, 'rope_parameters');
  const unknown = Object.keys(both).find((key) => key !== 'full_attention' && key !== 'sliding_attention');
  if (unknown !== undefined) {
    throw folderProblem(where, "'rope_parameters' of full_attention and sliding_attention", quoted(unknown));
  }
  const full = { ...part(both, 'full_attention'), ...part(text, 'rope_scaling') };
  const local = part(both, 'sliding_attention');
  const factor = (of: Json): number => {
    const type = of.rope_type ?? of.type ?? 'default';
    if (type === 'default') return 1;
    if (type === 'linear') return number('factor', 1e-3, 1e6, undefined, of);
    throw folderProblem(where, "a rope_type 'default' or 'linear' as Gemma 3 has it", shown(type), NEXT_MODEL);
  };
  const localFactor = factor(local);
  if (localFactor !== 1)
    throw folderProblem(where, 'sliding layers without RoPE scaling', `a factor of ${localFactor}`);
  return {
    ropeBase: number('rope_theta', 1, 1e12, number('rope_theta', 1, 1e12, 1e6, text), full),
    ropeBaseLocal: number('rope_theta', 1, 1e12, number('rope_local_base_freq', 1, 1e12, 1e4, text), local),
    ropeFactor: factor(full),
  };
}

// ---- tensors ----

/** A tensor of the folder and what it is in GGUF. */
interface Pair {
  source: FolderTensor;
  name: string;
  norm: boolean;
}

const VISION = /^(?:model\.)?(?:vision_tower|vision_model|multi_modal_projector|multimodal_projector)\./;

/** The tensors by the names that a text model gives them, without those of the vision part. */
function textTensors(
  folder: string,
  tensors: ReadonlyMap<string, FolderTensor>,
): { found: Map<string, FolderTensor>; leftOut: string[] } {
  const found = new Map<string, FolderTensor>();
  const leftOut: string[] = [];
  for (const [stored, tensor] of tensors) {
    if (VISION.test(stored)) {
      leftOut.push(stored);
      continue;
    }
    // Older versions of transformers have the text model at language_model, newer at model.language_model.
    const name = stored
      .replace(/^language_model\.(?=model\.|lm_head\.)/, '')
      .replace(/^model\.language_model\.(?=lm_head\.)/, '')
      .replace(/^model\.language_model\./, 'model.');
    const other = found.get(name);
    if (other !== undefined) {
      throw folderProblem(folder, `one tensor ${quoted(name)}`, `two, ${quoted(other.name)} and ${quoted(stored)}`);
    }
    found.set(name, tensor);
  }
  return { found, leftOut };
}

/** Finds each tensor of the plan. @throws VoiceGrpoError E_MODEL with all that is missing, too much or of another shape */
function match(folder: string, config: GemmaConfig, found: ReadonlyMap<string, FolderTensor>, untied: boolean): Pair[] {
  const vocab = config.vocab ?? found.get(EMBEDDING)?.shape[0] ?? 1;
  const pairs: Pair[] = [];
  const missing: string[] = [];
  const misshaped: string[] = [];
  const numberless: string[] = [];
  const known = new Set([OUTPUT]);
  let planned = 0;
  for (const { hf: from, gguf: name, shape } of gemmaTensors(config, vocab, untied)) {
    known.add(from);
    planned++;
    const source = found.get(from);
    if (source === undefined) missing.push(from);
    else if (source.shape.join() !== shape.join()) {
      misshaped.push(`${quoted(from)} with [${source.shape.slice(0, 4).join(', ')}] for [${shape.join(', ')}]`);
    } else if (!isFloat(source.dtype)) numberless.push(`${quoted(from)} of type ${source.dtype}`);
    else pairs.push({ source, name, norm: shape.length === 1 });
  }
  // Buffers of early versions: positions, which follow from the configuration.
  const extra = [...found.keys()].filter((name) => !known.has(name) && !name.endsWith('.rotary_emb.inv_freq'));
  const several = (names: string[]): string =>
    names.length > 3 ? `${names.slice(0, 3).join(', ')} and ${names.length - 3} more` : names.join(', ');
  const complaints = [
    missing.length > 0 && `${missing.length} missing (${listed(missing)})`,
    extra.length > 0 && `${extra.length} unknown (${listed(extra)})`,
    misshaped.length > 0 && `${misshaped.length} of another shape (${several(misshaped)})`,
    numberless.length > 0 && `${numberless.length} that are not F32, F16 or BF16 (${several(numberless)})`,
  ].filter((complaint) => complaint !== false);
  if (complaints.length > 0) {
    const next = extra.some((name) => name.includes('lora_'))
      ? 'merge the adapter into the model first (merge_and_unload), or convert the base model'
      : 'the weights do not fit config.json: download the model again';
    throw folderProblem(
      folder,
      `the ${planned} tensors that config.json describes`,
      `weights with ${complaints.join('; ')}`,
      next,
    );
  }
  return pairs;
}

/**
 * Whether the output matrix is one of its own. A model that ties it to the embedding may have a copy in its files.
 *
 * @throws VoiceGrpoError E_MODEL where config.json says it is tied and the file has another: transformers would ignore it
 */
async function hasOutput(
  folder: string,
  { tied }: GemmaConfig,
  found: ReadonlyMap<string, FolderTensor>,
  signal?: AbortSignal,
): Promise<boolean> {
  const [output, embedding] = [found.get(OUTPUT), found.get(EMBEDDING)];
  if (output === undefined || embedding === undefined) return !tied;
  if (output.shape.join() === embedding.shape.join() && isFloat(output.dtype) && isFloat(embedding.dtype)) {
    if (await equal(output, embedding, signal)) return false;
  }
  if (tied) {
    const next = `if the output was trained apart, write "tie_word_embeddings": false into config.json, else remove '${OUTPUT}'`;
    throw folderProblem(folder, `'${OUTPUT}' to be the embedding, as config.json ties them`, 'another matrix', next);
  }
  return true;
}

async function equal(a: FolderTensor, b: FolderTensor, signal?: AbortSignal): Promise<boolean> {
  const others = readValues(b, signal);
  try {
    for await (const values of readValues(a, signal)) {
      const { value: other } = await others.next();
      if (!values.every((value, i) => value === (other as Float32Array)[i])) return false;
    }
    return true;
  } finally {
    await others.return(undefined);
  }
}

/** Norms are float32. Q8_0 needs rows of whole blocks and is float16 where they are not, as in llama.cpp and the addon. */
function storedType({ source, norm }: Pair, type: GemmaWeightType): PlainType {
  if (norm) return 'f32';
  if (type === 'auto') return source.dtype.toLowerCase() as PlainType;
  return (source.shape.at(-1) as number) % GGUF_TENSOR_TYPES[type].block === 0 ? type : 'f16';
}

function mostlyType(pairs: readonly (Pair & { type: PlainType })[]): PlainType {
  const counts = new Map<PlainType, number>();
  for (const { type, source } of pairs) {
    counts.set(type, (counts.get(type) ?? 0) + source.shape.reduce((a, b) => a * b, 1));
  }
  return [...counts].reduce((a, b) => (b[1] > a[1] ? b : a))[0];
}

function ggufTensor({ source, name, norm, type }: Pair & { type: PlainType }): GgufTensor {
  async function* pieces(): AsyncGenerator<Uint8Array> {
    let bytes = new Uint8Array();
    for await (const values of readValues(source)) {
      // Gemma's RMSNorm multiplies by 1 + weight.
      if (norm) for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) + 1;
      const size = tensorBytes(type, values.length);
      if (bytes.length < size) bytes = new Uint8Array(size);
      if (!encodeFloats(type, values, bytes.subarray(0, size))) {
        throw folderProblem(
          source.file,
          `weights that ${type} can hold`,
          `larger ones in ${quoted(source.name)}`,
          'choose the type auto, bf16 or f32',
        );
      }
      yield bytes.subarray(0, size);
    }
  }
  return { name, shape: source.shape, type, pieces };
}

// ---- general.*, gemma3.* ----

const string = (value: string): GgufValue => ({ kind: 'string', value });
const u32 = (value: number): GgufValue => ({ kind: 'u32', value });
const f32 = (value: number): GgufValue => ({ kind: 'f32', value });
const bool = (value: boolean): GgufValue => ({ kind: 'bool', value });

async function generalValues(
  folder: string,
  name: string,
  parameters: number,
  type: PlainType,
): Promise<[string, GgufValue][]> {
  const label = /(?:^|[-_ ])(\d+(?:\.\d+)?[kmbt])(?=$|[-_ ])/i.exec(name)?.[1];
  const license = await readLicense(folder);
  const sampling = (await readJsonObject(join(folder, 'generation_config.json'))) ?? {};
  const number = (key: string): number | null => (typeof sampling[key] === 'number' ? (sampling[key] as number) : null);
  const [topK, topP, temperature] = [number('top_k'), number('top_p'), number('temperature')];
  const values: [string, GgufValue | null][] = [
    ['general.architecture', string('gemma3')],
    ['general.type', string('model')],
    ['general.sampling.top_k', topK !== null && Number.isInteger(topK) ? { kind: 'i32', value: topK } : null],
    ['general.sampling.top_p', topP === null ? null : f32(topP)],
    ['general.sampling.temp', temperature === null ? null : f32(temperature)],
    ['general.name', string(title(name))],
    ['general.size_label', string(label?.toUpperCase() ?? sizeLabel(parameters))],
    ['general.license', license === null ? null : string(license)],
    ['general.quantization_version', u32(2)],
    ['general.file_type', u32(GGUF_FILE_TYPES[type])],
  ];
  return values.filter((entry): entry is [string, GgufValue] => entry[1] !== null);
}

/** The name that the model was saved under, unless that is a path; else the folder's. */
function modelName(folder: string, { _name_or_path: saved }: Json): string {
  const name =
    typeof saved === 'string' && saved.length < 200 ? /^(?:\w[\w.-]*\/)?(\w[\w. -]*)$/.exec(saved)?.[1] : undefined;
  return name ?? folderName(folder);
}

/** 'gemma-3-270m-it' → 'Gemma 3 270m It', as gguf-py writes it. */
function title(name: string): string {
  const words = name.replaceAll('-', ' ').split(/\s+/).filter(Boolean);
  return words
    .map((word) => (/^(?:v?\d|.*[A-Z])/.test(word) ? word : word.charAt(0).toUpperCase() + word.slice(1)))
    .join(' ');
}

/** 268,098,176 → '268M', with two digits at least, as gguf-py writes it. */
function sizeLabel(parameters: number): string {
  const [unit, suffix] = (
    [
      [1e12, 'T'],
      [1e9, 'B'],
      [1e6, 'M'],
    ] as const
  ).find(([u]) => parameters > u) ?? [1e3, 'K'];
  return `${(parameters / unit).toFixed(Math.round(parameters / unit) < 10 ? 1 : 0)}${suffix}`;
}

/** The license that the model card names at its beginning, as the hub reads it. */
async function readLicense(folder: string): Promise<string | null> {
  const card = (await readSmallFile(join(folder, 'README.md'), 16 * MB))?.toString('utf8') ?? '';
  const top = /^---\r?\n([\s\S]*?)\r?\n---/.exec(card)?.[1] ?? '';
  return /^license:[ \t]*([\w.-]+)[ \t]*\r?$/m.exec(top)?.[1] ?? null;
}

function architectureValues(config: GemmaConfig): [string, GgufValue][] {
  const values: [string, GgufValue | null][] = [
    ['context_length', u32(config.contextLength)],
    ['embedding_length', u32(config.width)],
    ['block_count', u32(config.layers)],
    ['feed_forward_length', u32(config.inner)],
    ['attention.head_count', u32(config.heads)],
    ['attention.head_count_kv', u32(config.kvHeads)],
    ['attention.key_length', u32(config.headDim)],
    ['attention.value_length', u32(config.headDim)],
    ['attention.layer_norm_rms_epsilon', f32(config.epsilon)],
    ['attention.sliding_window', config.window === null ? null : u32(config.window)],
    // Readers take 6 where the key is not there; llama.cpp's converter does not write it.
    ['attention.sliding_window_pattern', config.pattern === 6 || config.window === null ? null : u32(config.pattern)],
    ['rope.freq_base', f32(config.ropeBase)],
    ['rope.freq_base_swa', f32(config.ropeBaseLocal)],
    ['rope.scaling.type', config.ropeFactor === 1 ? null : string('linear')],
    ['rope.scaling.factor', config.ropeFactor === 1 ? null : f32(config.ropeFactor)],
  ];
  return values.flatMap(([key, value]) => (value === null ? [] : [[`gemma3.${key}`, value]]));
}

// ---- tokenizer.ggml.* ----

interface Vocabulary {
  file: 'tokenizer.model' | 'tokenizer.json';
  pieces: Piece[];
  /** Whether tokenizer.json puts the token with this text first; null where it does not say. */
  begins: ((text: string) => boolean) | null;
}

const NEXT_TOKENIZER = 'use the tokenizer files of the Gemma 3 model that this one was made from';

/** What `read` returns; its plain errors are about the file. */
function fits<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const got = `one that cannot be converted: ${(error as Error).message}`;
    throw folderProblem(path, "a tokenizer of Gemma's kind", got, NEXT_TOKENIZER);
  }
}

/** The pieces of the folder, one for each row of the embedding. */
async function readVocabulary(folder: string, rows: number): Promise<Vocabulary> {
  const modelFile = join(folder, 'tokenizer.model');
  const jsonFile = join(folder, 'tokenizer.json');
  const model = await readSmallFile(modelFile, TOKENIZER_LIMITS.bytes);
  const tokenizer = await readJsonObject(jsonFile, TOKENIZER_LIMITS);
  if (model === null && tokenizer === null) {
    const next = 'download tokenizer.json of the model into the folder';
    throw folderProblem(folder, 'tokenizer.model or tokenizer.json', 'neither', next);
  }
  const file = model === null ? 'tokenizer.json' : 'tokenizer.model';
  const path = join(folder, file);
  const added = model === null ? [] : await addedOf(folder, tokenizer);
  const pieces = fits(path, () =>
    model === null ? piecesOfTokenizer(tokenizer as Json, rows) : withAdded(readSentencePiece(model), added, rows),
  );
  const filled = Array.from(pieces, (piece, id) => piece ?? { text: `[PAD${id}]`, score: -10000, type: PIECE.unused });
  const ids = new Map<string, number>();
  for (const [id, { text }] of filled.entries()) {
    const other = ids.get(text);
    if (other !== undefined)
      throw folderProblem(path, 'tokens that differ', `${quoted(text)} as ${other} and ${id}`, NEXT_TOKENIZER);
    if (/\p{Surrogate}/u.test(text))
      throw folderProblem(path, 'tokens of whole characters', quoted(text), NEXT_TOKENIZER);
    ids.set(text, id);
  }
  return { file, pieces: filled, begins: beginning(tokenizer?.post_processor) };
}

/** Added tokens in the place of pieces, as llama.cpp's converter has it; those past the embedding are left out. */
function withAdded(pieces: readonly Piece[], added: readonly AddedToken[], rows: number): (Piece | undefined)[] {
  const all = new Array<Piece | undefined>(rows).fill(undefined);
  for (const [id, piece] of pieces.entries()) {
    if (id < rows) all[id] = piece.type === PIECE.userDefined ? userDefined(piece) : piece;
    else if (piece.type === PIECE.normal || piece.type === PIECE.byte) {
      throw new Error(`piece ${id} is ${quoted(piece.text)}, but the embedding has only ${rows} rows`);
    }
  }
  for (const token of added) if (token.id < rows) all[token.id] = addedPiece(token);
  return all;
}

const userDefined = ({ text, score, type }: Piece): Piece => ({ text: text.replaceAll('\u2581', ' '), score, type });

/** What stands beside tokenizer.model: added_tokens.json, and tokenizer_config.json or else tokenizer.json. */
async function addedOf(folder: string, tokenizer: Json | null): Promise<AddedToken[]> {
  const ownFile = join(folder, 'added_tokens.json');
  const own = Object.entries((await readJsonObject(ownFile)) ?? {}).map(([content, id]) => ({ content, id }));
  const file = join(folder, 'tokenizer_config.json');
  const { added_tokens_decoder: decoder } = (await readJsonObject(file)) ?? {};
  if (decoder !== undefined && !isObject(decoder)) {
    throw folderProblem(file, "an object as 'added_tokens_decoder'", shown(decoder));
  }
  const listedIn = decoder === undefined ? join(folder, 'tokenizer.json') : file;
  const list =
    decoder === undefined
      ? tokenizer?.added_tokens
      : Object.entries(decoder).map(([id, token]) => ({ ...(isObject(token) ? token : {}), id: Number(id) }));
  return [...fits(ownFile, () => addedTokens(own)), ...fits(listedIn, () => addedTokens(list))];
}

/** Which token tokenizer.json puts before a text, by its TemplateProcessing. */
function beginning(processor: unknown): Vocabulary['begins'] {
  if (!isObject(processor)) return null;
  const steps = Array.isArray(processor.processors) ? processor.processors : [processor];
  const template = steps.find((step) => isObject(step) && step.type === 'TemplateProcessing') as Json | undefined;
  if (template === undefined) return null;
  const first: unknown = Array.isArray(template.single) ? template.single[0] : null;
  const token = isObject(first) && isObject(first.SpecialToken) ? first.SpecialToken.id : null;
  return (text) => token === text;
}

async function tokenizerValues(
  folder: string,
  { root, where, vocabulary }: { root: Json; where: string; vocabulary: Vocabulary },
): Promise<[string, GgufValue][]> {
  const { pieces } = vocabulary;
  const ids = new Map(pieces.map(({ text }, id) => [text, id]));
  const settings = (await readJsonObject(join(folder, 'tokenizer_config.json'))) ?? {};
  const special = (name: string): number | undefined => {
    const entry = settings[`${name}_token`];
    const text = isObject(entry) ? entry.content : entry;
    const byText = typeof text === 'string' ? ids.get(text) : undefined;
    if (byText !== undefined) return byText;
    const key = `${name}_token_id`;
    const inText = isObject(root.text_config) ? root.text_config[key] : undefined;
    const value: unknown = root[key] ?? inText ?? ids.get(`<${name}>`);
    // A list has the token that ends the text before those that end a turn.
    const id: unknown = Array.isArray(value) ? value[0] : value;
    if (id === undefined) return undefined;
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= pieces.length) {
      throw folderProblem(where, `'${key}' below ${pieces.length}, the rows of the embedding`, shown(id));
    }
    return id as number;
  };
  const [bos, eos, unk, pad] = [special('bos'), special('eos'), special('unk'), special('pad')];
  if (bos === undefined || eos === undefined) {
    const missing = bos === undefined ? 'bos_token' : 'eos_token';
    throw folderProblem(folder, `'${missing}' in tokenizer_config.json or '${missing}_id' in config.json`, 'neither');
  }
  const setting = (key: string): boolean | null =>
    typeof settings[key] === 'boolean' ? (settings[key] as boolean) : null;
  const first = vocabulary.begins?.((pieces[bos] as Piece).text) ?? true;
  const eot = ids.get('<end_of_turn>');
  const template = await chatTemplate(folder, settings);
  const values: [string, GgufValue | null][] = [
    ['model', string('llama')],
    ['pre', string('default')],
    ['tokens', { kind: 'strings', value: pieces.map(({ text }) => text) }],
    ['scores', { kind: 'f32s', value: Float32Array.from(pieces, ({ score }) => score) }],
    ['token_type', { kind: 'i32s', value: Int32Array.from(pieces, ({ type }) => type) }],
    ['bos_token_id', u32(bos)],
    ['eos_token_id', u32(eos)],
    ['eot_token_id', eot === undefined ? null : u32(eot)],
    ['unknown_token_id', unk === undefined ? null : u32(unk)],
    ['padding_token_id', pad === undefined ? null : u32(pad)],
    ['add_bos_token', bool(setting('add_bos_token') ?? first)],
    ['add_eos_token', bool(setting('add_eos_token') ?? false)],
    ['add_space_prefix', bool(false)],
  ];
  const entries = values.flatMap(([key, value]): [string, GgufValue][] =>
    value === null ? [] : [[`tokenizer.ggml.${key}`, value]],
  );
  return template === null ? entries : [...entries, ['tokenizer.chat_template', string(template)]];
}

/** chat_template.jinja, else the one in tokenizer_config.json (of several, the default), else in chat_template.json. */
async function chatTemplate(folder: string, settings: Json): Promise<string | null> {
  const jinja = await readSmallFile(join(folder, 'chat_template.jinja'), 4 * MB);
  if (jinja !== null) return jinja.toString('utf8');
  const { chat_template: own } = settings;
  const other = own ?? (await readJsonObject(join(folder, 'chat_template.json')))?.chat_template;
  const chosen = Array.isArray(other)
    ? other.find((entry) => isObject(entry) && entry.name === 'default')?.template
    : other;
  return typeof chosen === 'string' && chosen !== '' ? chosen : null;
}
