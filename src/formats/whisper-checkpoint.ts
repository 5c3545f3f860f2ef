/**
 * Whisper weights as others keep them: checkpoints of openai-whisper and of training programs (torch.save), and Hugging Face
 * folders or files (safetensors, pytorch_model.bin). All come out under openai-whisper's names (whisper/model.py), which are
 * those of whisper.cpp, with dimensions and shapes checked. What cannot be read is refused by its name.
 */
import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { problem, type VoiceGrpoError } from '../errors.js';
import { listed, readFolderTensors, readJsonObject } from './hf-folder.js';
import { PickleDict, type PickleValue } from './pickle.js';
import { quoted, readSafetensorsHeader, type TensorEntry } from './safetensors.js';
import {
  CHUNK_ELEMENTS,
  ELEMENT_BYTES,
  type ElementType,
  newName,
  pythonName,
  type StoredTensor,
  TorchCheckpoint,
  TorchTensor,
} from './torch-checkpoint.js';
import { FileBytes } from './zip-directory.js';

/** openai-whisper's ModelDimensions, with the bounds within which whisper.cpp is asked to load a model. */
const DIMENSIONS = {
  n_mels: [80, 128],
  n_vocab: [51864, 51866],
  n_audio_ctx: [50, 1500],
  n_audio_state: [32, 4096],
  n_audio_head: [1, 128],
  n_audio_layer: [1, 64],
  n_text_ctx: [8, 448],
  n_text_state: [32, 4096],
  n_text_head: [1, 128],
  n_text_layer: [1, 64],
} as const;

type WhisperDimension = keyof typeof DIMENSIONS;
export type WhisperDimensions = Record<WhisperDimension, number>;
const DIMENSION_NAMES = Object.keys(DIMENSIONS) as WhisperDimension[];

/** Every published Whisper has heads of 64. */
const HEAD_WIDTH = 64;
const AGAIN = 'Copy or download it again, or save it again with torch.save.';
const SAVE_ALL =
  "Save all weights of the model: torch.save({'dims': vars(model.dims), 'model_state_dict': model.state_dict()}, …), or save_pretrained of transformers.";

export interface WhisperCheckpoint {
  dims: WhisperDimensions;
  /** Whether the file says no dimensions: then they are taken from shapes, and heads from config.json or the width. */
  inferred: boolean;
  /** By openai-whisper's names, all that the model has and no others, in the order of the file. */
  tensors: Map<string, StoredTensor>;
  /** Paths of the files that the tensors lie in. */
  files: string[];
  close(): void;
}

/**
 * Opens a checkpoint: a file of torch.save or safetensors, or a folder that transformers saved.
 *
 * Accepted are {dims, model_state_dict}, a bare state dict, one under 'state_dict' or 'model', names with 'module.' or 'model.'
 * before them, and Hugging Face's names. Only descriptions are read here; the tensors come by StoredTensor.chunks. Nothing in the
 * file is executed.
 *
 * @throws VoiceGrpoError E_MODEL, one sentence and the next step, for everything else
 */
export async function openWhisperCheckpoint(path: string): Promise<WhisperCheckpoint> {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found?.isFile() && !found?.isDirectory()) {
    throw refused(path, found ? 'a device' : 'no such file', 'Give the path of the checkpoint.');
  }
  const opened: FileBytes[] = [];
  const close = () => {
    for (const file of opened.splice(0)) file.close();
  };
  const open = (file: string) => {
    // Before it is opened: a pipe would wait for its other end.
    if (!statSync(file).isFile())
      throw refused(file, 'a folder or a device', 'Give the path of the checkpoint.', 'a file');
    const bytes = new FileBytes(file);
    opened.push(bytes);
    return bytes;
  };
  try {
    const stored = found.isDirectory() ? await readFolder(path, open) : await readFile(path, open);
    const size = opened.reduce((all, file) => all + file.size, 0);
    return { ...(await whisperOf(path, stored, size)), files: opened.map((file) => file.path), close };
  } catch (error) {
    close();
    throw error;
  }
}

/** What a file holds, before anything is known of its model. */
interface Stored {
  tensors: Map<string, StoredTensor>;
  dims: PickleValue | undefined;
  /** Where Hugging Face's config.json would lie. */
  folder: string;
}

type Open = (file: string) => FileBytes;

function refused(where: string, got: string, next: string, expected = 'a Whisper checkpoint'): VoiceGrpoError {
  return problem({ code: 'E_MODEL', expected, where, got, next });
}

async function readFolder(path: string, open: Open): Promise<Stored> {
  const names = readdirSync(path);
  const has = (pattern: RegExp) => names.some((name) => pattern.test(name));
  if (has(/^model\.safetensors(\.index\.json)?$/)) {
    return { tensors: storedIn(path, await readFolderTensors(path), open), dims: undefined, folder: path };
  }
  const binary = ['pytorch_model.bin', 'model.bin'].find((name) => names.includes(name));
  if (binary) return readFile(join(path, binary), open);
  const other = FOLDERS.find(([pattern]) => has(pattern));
  if (other) throw refused(path, other[1], other[2](path));
  const files = names.filter((name) => /\.(pt|pth|ckpt|bin|safetensors)$/.test(name)).sort();
  throw refused(
    path,
    `a folder with ${files.length > 0 ? listed(files) : 'no model in it'}`,
    files.length > 0
      ? 'Give the path of the file.'
      : 'Give a checkpoint, or a folder with model.safetensors or pytorch_model.bin.',
  );
}

async function readFile(path: string, open: Open): Promise<Stored> {
  const file = open(path);
  const head = file.read(0, Math.min(file.size, 512));
  const folder = dirname(path);
  if (head.subarray(0, 4).equals(Buffer.from('PK\x03\x04'))) {
    return { ...stateOf(path, new TorchCheckpoint(file).value), folder };
  }
  if (head[8] === 0x7b && head.readBigUInt64LE() <= file.size - 8) {
    return { tensors: storedIn(path, await safetensorsHeader(path), () => file), dims: undefined, folder };
  }
  const [, got, next] = FILES.find(([is]) => is(head, path)) as (typeof FILES)[number];
  throw refused(path, got, next(path));
}

async function safetensorsHeader(path: string): Promise<Map<string, TensorEntry>> {
  try {
    return await readSafetensorsHeader(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall !== undefined) throw error;
    throw refused(path, `a damaged safetensors file: ${(error as Error).message}`, 'Copy or download it again.');
  }
}

const SAFETENSORS_TYPES: Readonly<Record<string, ElementType>> = { F16: 'f16', BF16: 'bf16', F32: 'f32', F64: 'f64' };

/** Tensors of safetensors, each in `file` of its entry or else in the file at `path`. */
function storedIn(path: string, entries: Map<string, TensorEntry & { file?: string }>, open: Open): Stored['tensors'] {
  const files = new Map<string, FileBytes>();
  const stored: Stored['tensors'] = new Map();
  for (const [name, { dtype, shape, start, end, file: part = path }] of entries) {
    const file = files.get(part) ?? open(part);
    files.set(part, file);
    const type = SAFETENSORS_TYPES[dtype];
    if (!type) throw refused(path, `${quoted(name)} of type ${dtype}`, SAVE_ALL, 'weights of F16, BF16, F32 or F64');
    const chunks = () => fileChunks(file, start, end, CHUNK_ELEMENTS * ELEMENT_BYTES[type]);
    stored.set(name, { type, shape, bytes: end - start, chunks });
  }
  return stored;
}

function* fileChunks(file: FileBytes, start: number, end: number, size: number): Generator<Buffer> {
  const chunk = Buffer.alloc(Math.min(size, end - start));
  for (let at = start; at < end; at += size) yield file.read(at, Math.min(size, end - at), chunk);
}

/** The state dict among what was saved, and the dimensions beside it. */
function stateOf(path: string, value: PickleValue): Omit<Stored, 'folder'> {
  if (!(value instanceof PickleDict)) {
    throw refused(path, value instanceof TorchTensor ? 'one tensor' : 'a value that is no dict', SAVE_ALL);
  }
  const dims = value.entries.get('dims') ?? undefined;
  const inner = ['model_state_dict', 'state_dict', 'model'].map((key) => value.entries.get(key));
  const state = inner.find((item) => item instanceof PickleDict) ?? value;
  const tensors: Stored['tensors'] = new Map();
  for (const [name, item] of state.entries) if (item instanceof TorchTensor) tensors.set(String(name), item);
  if (tensors.size === 0) {
    const keys = [...value.entries.keys()].map(String);
    throw refused(path, keys.length > 0 ? `a dict without weights (${listed(keys)})` : 'an empty dict', SAVE_ALL);
  }
  return { tensors, dims };
}

async function whisperOf(
  path: string,
  stored: Stored,
  size: number,
): Promise<Pick<WhisperCheckpoint, 'dims' | 'inferred' | 'tensors'>> {
  const lora = [...stored.tensors.keys()].filter((name) => /lora_|\.base_layer\./.test(name));
  if (lora.length > 0) {
    throw refused(path, `tensors of a LoRA adapter (${listed(lora, 1)})`, mergeLora(path));
  }
  const { tensors, proj, huggingFace } = renamed(path, stored.tensors);
  const known = dimsOf(path, stored.dims);
  const dims = known ?? (await inferDims(path, tensors, huggingFace ? stored.folder : null));
  checkDims(path, dims);
  checkShapes(path, dims, tensors);
  const embedding = tensors.get('decoder.token_embedding.weight') as StoredTensor;
  if (proj && !isSame(proj, embedding)) {
    throw refused(
      path,
      'an output layer (proj_out.weight) of other numbers than the embedding',
      'whisper.cpp uses the embedding for both; train the model with tied weights, as Whisper is.',
      'tied weights',
    );
  }
  // What shares its storage can be written again and again: a file of megabytes that becomes one of terabytes.
  const bytes = [...tensors.values()].reduce((all, tensor) => all + tensor.bytes, 0);
  if (bytes > size) throw refused(path, `a file of ${size} bytes for tensors of ${bytes}, which share storage`, AGAIN);
  return { dims, inferred: known === null, tensors };
}

/** openai-whisper's name for Hugging Face's, part by part. */
const HUGGING_FACE: readonly (readonly [RegExp, string])[] = [
  [/\.layers\.(\d+)\.self_attn\.(q|k|v|out)_proj\./, '.blocks.$1.attn.$2.'],
  [/\.layers\.(\d+)\.encoder_attn\.(q|k|v|out)_proj\./, '.blocks.$1.cross_attn.$2.'],
  [/\.layers\.(\d+)\.self_attn_layer_norm\./, '.blocks.$1.attn_ln.'],
  [/\.layers\.(\d+)\.encoder_attn_layer_norm\./, '.blocks.$1.cross_attn_ln.'],
  [/\.layers\.(\d+)\.fc1\./, '.blocks.$1.mlp.0.'],
  [/\.layers\.(\d+)\.fc2\./, '.blocks.$1.mlp.2.'],
  [/\.layers\.(\d+)\.final_layer_norm\./, '.blocks.$1.mlp_ln.'],
  [/attn\.q\./, 'attn.query.'],
  [/attn\.k\./, 'attn.key.'],
  [/attn\.v\./, 'attn.value.'],
  [/^encoder\.layer_norm\./, 'encoder.ln_post.'],
  [/^decoder\.layer_norm\./, 'decoder.ln.'],
  [/\.embed_positions\.weight$/, '.positional_embedding'],
  [/^decoder\.embed_tokens\.weight$/, 'decoder.token_embedding.weight'],
];

/** Under openai-whisper's names, without what programs put before them. The output layer of Hugging Face comes apart. */
function renamed(path: string, stored: Stored['tensors']) {
  const tensors: Stored['tensors'] = new Map();
  let proj: StoredTensor | undefined;
  let huggingFace = false;
  for (const [full, tensor] of stored) {
    const bare = full.replace(/^(?:(?:module|model|_orig_mod)\.)+/, '');
    if (bare === 'proj_out.weight') {
      proj = tensor;
      continue;
    }
    huggingFace ||= /^(en|de)coder\.(layers|embed_)/.test(bare);
    const name = HUGGING_FACE.reduce((text, [from, to]) => text.replace(from, to), bare);
    if (tensors.has(name)) throw refused(path, `two tensors named ${quoted(name)}`, SAVE_ALL);
    tensors.set(name, tensor);
  }
  return { tensors, proj, huggingFace };
}

function dimsOf(path: string, stored: PickleValue | undefined): WhisperDimensions | null {
  if (stored === undefined || stored === null) return null;
  const wrong = (got: string) =>
    refused(path, got, SAVE_ALL, `whole numbers under 'dims' for ${DIMENSION_NAMES.join(', ')}`);
  if (!(stored instanceof PickleDict)) throw wrong("'dims' that is no dict");
  const dims = DIMENSION_NAMES.map((name) => {
    const value = stored.entries.get(name);
    if (!Number.isSafeInteger(value)) throw wrong(`${name} ${value === undefined ? 'missing' : 'of another kind'}`);
    return [name, value];
  });
  return Object.fromEntries(dims) as WhisperDimensions;
}

/** From the shapes. Heads leave no trace in them: they come from config.json beside Hugging Face's weights, else they are 64 wide. */
async function inferDims(path: string, tensors: Stored['tensors'], folder: string | null): Promise<WhisperDimensions> {
  const shape = (name: string, dimensions: number): readonly number[] => {
    const found = tensors.get(name)?.shape;
    if (found?.length === dimensions) return found;
    const got = found ? `${name} of shape ${shapeText(found)}` : `no ${name}, but ${listed([...tensors.keys()], 3)}`;
    throw refused(path, got, SAVE_ALL, 'the weights of a Whisper model');
  };
  const [audioContext, audioState] = shape('encoder.positional_embedding', 2) as [number, number];
  const [textContext, textState] = shape('decoder.positional_embedding', 2) as [number, number];
  const layers = (part: string) =>
    new Set([...tensors.keys()].map((name) => name.match(`^${part}\\.blocks\\.(\\d+)\\.`)?.[1]).filter(Boolean)).size;
  const config = folder === null ? null : await readJsonObject(join(folder, 'config.json'));
  const heads = (key: string, state: number) => {
    const said = config?.d_model === state ? config[key] : undefined;
    if (Number.isSafeInteger(said)) return said as number;
    if (state % HEAD_WIDTH === 0) return state / HEAD_WIDTH;
    throw refused(
      path,
      `weights of width ${state} without 'dims'`,
      SAVE_ALL,
      `a width that is a multiple of ${HEAD_WIDTH}, or 'dims'`,
    );
  };
  return {
    n_mels: shape('encoder.conv1.weight', 3)[1] as number,
    n_vocab: shape('decoder.token_embedding.weight', 2)[0] as number,
    n_audio_ctx: audioContext,
    n_audio_state: audioState,
    n_audio_head: heads('encoder_attention_heads', audioState),
    n_audio_layer: layers('encoder'),
    n_text_ctx: textContext,
    n_text_state: textState,
    n_text_head: heads('decoder_attention_heads', textState),
    n_text_layer: layers('decoder'),
  };
}

function checkDims(path: string, dims: WhisperDimensions): void {
  const wrong = (expected: string, got: string) =>
    refused(
      path,
      got,
      'Give a checkpoint of a Whisper model as OpenAI published it, or one that was trained from it.',
      expected,
    );
  for (const name of DIMENSION_NAMES) {
    const [low, high] = DIMENSIONS[name];
    if (dims[name] < low || dims[name] > high) throw wrong(`${name} from ${low} to ${high}`, `${dims[name]}`);
  }
  if (dims.n_mels !== 80 && dims.n_mels !== 128) throw wrong('80 or 128 mel bins', `${dims.n_mels}`);
  if (dims.n_audio_state !== dims.n_text_state) {
    throw wrong('encoder and decoder of one width', `${dims.n_audio_state} and ${dims.n_text_state}`);
  }
  for (const heads of [dims.n_audio_head, dims.n_text_head]) {
    if (dims.n_audio_state % heads !== 0)
      throw wrong('heads that share the width', `${heads} for ${dims.n_audio_state}`);
  }
}

/** Every tensor of the model and its shape, as whisper/model.py names them. */
export function whisperShapes(dims: WhisperDimensions): Map<string, number[]> {
  const state = dims.n_audio_state;
  const shapes = new Map<string, number[]>();
  const weights = (name: string, ...shape: [number, ...number[]]) => shapes.set(`${name}.weight`, shape);
  const both = (name: string, ...shape: [number, ...number[]]) => {
    weights(name, ...shape);
    shapes.set(`${name}.bias`, shape.slice(0, 1));
  };
  const attention = (name: string) => {
    both(`${name}.query`, state, state);
    weights(`${name}.key`, state, state);
    both(`${name}.value`, state, state);
    both(`${name}.out`, state, state);
    both(`${name}_ln`, state);
  };
  const block = (name: string, parts: string[]) => {
    for (const part of parts) attention(`${name}.${part}`);
    both(`${name}.mlp.0`, 4 * state, state);
    both(`${name}.mlp.2`, state, 4 * state);
    both(`${name}.mlp_ln`, state);
  };
  shapes.set('encoder.positional_embedding', [dims.n_audio_ctx, state]);
  both('encoder.conv1', state, dims.n_mels, 3);
  both('encoder.conv2', state, state, 3);
  for (let i = 0; i < dims.n_audio_layer; i++) block(`encoder.blocks.${i}`, ['attn']);
  both('encoder.ln_post', state);
  shapes.set('decoder.positional_embedding', [dims.n_text_ctx, state]);
  weights('decoder.token_embedding', dims.n_vocab, state);
  for (let i = 0; i < dims.n_text_layer; i++) block(`decoder.blocks.${i}`, ['attn', 'cross_attn']);
  both('decoder.ln', state);
  return shapes;
}

function checkShapes(path: string, dims: WhisperDimensions, tensors: Stored['tensors']): void {
  const shapes = whisperShapes(dims);
  const missing = [...shapes.keys()].filter((name) => !tensors.has(name));
  const extra = [...tensors.keys()].filter((name) => !shapes.has(name));
  const other: string[] = [];
  for (const [name, { shape, type }] of tensors) {
    const expected = shapes.get(name);
    if (expected && expected.join() !== shape.join()) {
      other.push(`${name} ${shapeText(shape)} instead of ${shapeText(expected)}`);
    }
    if (expected && !['f16', 'bf16', 'f32', 'f64'].includes(type)) {
      throw refused(path, `${quoted(name)} of type ${type}`, SAVE_ALL, 'weights of f16, bf16, f32 or f64');
    }
  }
  const faults = [
    missing.length > 0 && `${missing.length} missing (${listed(missing, 3)})`,
    extra.length > 0 && `${extra.length} too many (${listed(extra, 3)})`,
    other.length > 0 &&
      `${other.length} of another shape (${other.slice(0, 3).join('; ')}${other.length > 3 ? '; …' : ''})`,
  ].filter(Boolean);
  if (faults.length === 0) return;
  throw refused(
    path,
    faults.join(', '),
    SAVE_ALL,
    `the ${shapes.size} tensors of a Whisper with ${dims.n_audio_layer} + ${dims.n_text_layer} layers of width ${dims.n_audio_state}`,
  );
}

/** For a sentence: a file can give a shape of any length. */
function shapeText(shape: readonly number[]): string {
  return `[${shape.slice(0, 8).join(', ')}${shape.length > 8 ? ', …' : ''}]`;
}

/** Whether two tensors are the same numbers in the same form. */
function isSame(a: StoredTensor, b: StoredTensor): boolean {
  if (a.type !== b.type || a.shape.join() !== b.shape.join()) return false;
  if (a instanceof TorchTensor && a.is(b)) return true;
  const others = b.chunks()[Symbol.iterator]();
  for (const chunk of a.chunks()) {
    const { value } = others.next();
    if (!value?.equals(chunk)) return false;
  }
  return true;
}

const transformers = (path: string, from: string, version = '') =>
  `In Python${version}: from transformers import WhisperForConditionalGeneration as W; W.from_pretrained(${pythonName(path)}${from}).save_pretrained('whisper-new')`;
const mergeLora = (path: string) =>
  `Merge it into its base model, in Python: from peft import PeftModel; from transformers import WhisperForConditionalGeneration as W; PeftModel.from_pretrained(W.from_pretrained('openai/whisper-base'), ${pythonName(path)}).merge_and_unload().save_pretrained('whisper-new')`;
const noWayBack = (what: string) => () =>
  `${what} cannot be turned back; take the model that it was made from, for instance in Python: from transformers import WhisperForConditionalGeneration as W; W.from_pretrained('openai/whisper-base').save_pretrained('whisper-base')`;
const again = (path: string) =>
  `In Python: import torch; torch.save(torch.load(${pythonName(path)}, map_location='cpu', weights_only=True), ${newName(path)})`;
const againTrusting = (load: string) => (path: string) =>
  `In Python, if you trust the file, for this runs what is in it: import pickle, torch; torch.save(${load.replace('FILE', () => pythonName(path))}, ${newName(path)})`;
const tensorFlow = (path: string) =>
  transformers(dirname(path), ', from_tf=True', ' with transformers 4 and TensorFlow');

const CTRANSLATE2 = 'a CTranslate2 model (of faster-whisper)';
const ONNX = 'an ONNX model';
const TENSORFLOW = 'a TensorFlow model';

/** Folders without weights that can be read: a name in them, what they are, and the next step. */
const FOLDERS: readonly (readonly [RegExp, string, (path: string) => string])[] = [
  [/^adapter_(config\.json|model\.)/, 'a LoRA adapter without its base model', mergeLora],
  [/^pytorch_model.*\.bin(\.index\.json)?$/, 'pytorch_model.bin in parts', (path) => transformers(path, '')],
  [
    /^(saved_model\.pb|tf_model\.h5|checkpoint|.*\.index)$/,
    TENSORFLOW,
    (path) => transformers(path, ', from_tf=True', ' with transformers 4 and TensorFlow'),
  ],
  [
    /^flax_model\.msgpack$/,
    'a Flax model',
    (path) => transformers(path, ', from_flax=True', ' with transformers 4 and Flax'),
  ],
  [/(^onnx$|\.onnx$)/, ONNX, noWayBack('ONNX')],
];

const begins = (text: string) => (head: Buffer) => head.subarray(0, text.length).equals(Buffer.from(text, 'latin1'));
const named = (pattern: RegExp) => (_: Buffer, path: string) => pattern.test(basename(path));

/** torch.save before PyTorch 1.6 began with this number, as a pickled integer. */
const LEGACY = Buffer.from('8a0a6cfc9c46f9206aa85019', 'hex');

/** Files that are no weights in a zip archive or safetensors; the last entry holds for every file. */
const FILES: readonly (readonly [(head: Buffer, path: string) => boolean, string, (path: string) => string])[] = [
  [(head) => head.length === 0, 'an empty file', () => AGAIN],
  [begins('lmgg'), "a model in ggml's format already", () => 'Use the file as it is.'],
  [begins('GGUF'), 'a GGUF file', () => 'Give a checkpoint of PyTorch or safetensors.'],
  [(head) => head.subarray(2, 14).equals(LEGACY), "a checkpoint in torch.save's format before PyTorch 1.6", again],
  [
    (head) => head.subarray(257, 262).toString('latin1') === 'ustar',
    "a tar archive, torch.save's first format",
    againTrusting("torch.load(FILE, map_location='cpu', weights_only=False)"),
  ],
  [
    (head) => head[0] === 0x80 && (head[1] as number) <= 5,
    'a bare pickle',
    againTrusting("pickle.load(open(FILE, 'rb'))"),
  ],
  [
    (head) => head.toString('latin1', 4, 64).includes('WhisperSpec\0') && head[3] === 0,
    CTRANSLATE2,
    noWayBack('CTranslate2'),
  ],
  [begins('\x89HDF\r\n\x1a\n'), `${TENSORFLOW} (HDF5)`, tensorFlow],
  [(head) => head.toString('latin1', 4, 8) === 'TFL3', `${TENSORFLOW} (TFLite)`, noWayBack('TFLite')],
  [named(/(\.h5|^saved_model\.pb|\.index|\.data-\d+-of-\d+)$/), TENSORFLOW, tensorFlow],
  [begins('\x08\x01\x12'), TENSORFLOW, tensorFlow],
  [named(/\.onnx$/), ONNX, noWayBack('ONNX')],
  [
    (head) => head[0] === 8 && (head[1] as number) < 32 && (head[2] === 0x12 || head[2] === 0x3a),
    ONNX,
    noWayBack('ONNX'),
  ],
  [
    named(/\.msgpack$/),
    'a Flax model',
    (path) => transformers(dirname(path), ', from_flax=True', ' with transformers 4 and Flax'),
  ],
  [
    begins('version https://git-lfs'),
    'a Git LFS pointer instead of the model',
    () => 'Fetch the file itself with `git lfs pull`.',
  ],
  [
    (head) => /^\s*<(!doctype|html|\?xml)/i.test(head.toString('latin1')),
    'a web page instead of the model',
    () => 'Download the file itself.',
  ],
  [begins('\x1f\x8b'), 'a gzip archive', () => 'Unpack it first.'],
  [
    (head) => head.every((byte) => byte === 0),
    'zero bytes, as a download that was not finished leaves them',
    () => AGAIN,
  ],
  [() => true, 'a file of another kind', () => 'Give a checkpoint that torch.save wrote (.pt, .bin), or safetensors.'],
];
