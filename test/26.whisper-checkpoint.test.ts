/**
 * Whisper checkpoints of others, turned into ggml files: every form that is read, loaded by the addon; and files that are hostile,
 * broken or something else: each gives one sentence with a next step, runs nothing and writes nothing.
 *
 * The archives are made by golden/torch.ts, byte by byte, as torch.save makes them; golden/torch.pt is one that it did make.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { deflateRawSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { presentError, type VoiceGrpoError } from '../src/errors.js';
import { melFilters } from '../src/formats/mel-filters.js';
import { PickleDict, PickleList, PickleTuple } from '../src/formats/pickle.js';
import { TorchCheckpoint, TorchTensor } from '../src/formats/torch-checkpoint.js';
import { type WhisperDimensions, whisperShapes } from '../src/formats/whisper-checkpoint.js';
import { convertWhisper, type WhisperType } from '../src/formats/whisper-ggml.js';
import { whisperVocabulary } from '../src/formats/whisper-vocabulary.js';
import { FileBytes } from '../src/formats/zip-directory.js';
import { loadNative } from '../src/native/load.js';
import { randomInteger } from '../src/random.js';
import { runCli } from './cli.js';
import { bytes, type Entry, py, torchZip, u32, u64, type ZipOptions, zip } from './golden/torch.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const GOLDEN_TORCH = join(root, 'test', 'golden', 'torch.pt');
const golden = JSON.parse(readFileSync(join(root, 'test', 'golden', 'whisper.json'), 'utf8')) as {
  mel_filters: Record<string, string>;
  tokens: Record<string, string>;
  row: number[];
  q8_0: string;
  q5_1: string;
};

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/* ---- A Whisper of random weights, as small as its vocabulary allows ---- */

const DIMS: WhisperDimensions = {
  ...{ n_mels: 80, n_vocab: 51864, n_audio_ctx: 50, n_audio_state: 64, n_audio_head: 1, n_audio_layer: 4 },
  ...{ n_text_ctx: 32, n_text_state: 64, n_text_head: 1, n_text_layer: 2 },
};

/** Float16 values below 1/4, from a table that is drawn once. */
const table = Uint16Array.from({ length: 4096 }, (_, i) => {
  const bits = randomInteger(26, 'whisper-weights', 0, 0, i, 2 ** 16);
  return (bits & 0x83ff) | ((8 + ((bits >>> 10) & 3)) << 10);
});

interface Weight {
  shape: number[];
  /** float16 */
  data: Uint16Array;
}

/** Under openai-whisper's names. The first row of a query holds the golden numbers. */
function randomWhisper(dims = DIMS): Map<string, Weight> {
  let offset = 0;
  const weights = new Map<string, Weight>();
  for (const [name, shape] of whisperShapes(dims)) {
    const data = new Uint16Array(shape.reduce((all, n) => all * n, 1));
    for (let i = 0; i < data.length; i++) data[i] = table[(i + offset) % 4096] as number;
    offset += 1237;
    weights.set(name, { shape, data });
  }
  weights.get('encoder.blocks.0.attn.query.weight')?.data.set(golden.row.map(halfOf));
  return weights;
}

/** Bits of a number that float16 holds. */
function halfOf(value: number): number {
  const magnitude = Math.abs(value);
  if (magnitude === 0) return Object.is(value, -0) ? 0x8000 : 0;
  const exponent = Math.max(-14, Math.floor(Math.log2(magnitude)));
  const mantissa = magnitude / 2 ** (exponent - 10);
  return (value < 0 ? 0x8000 : 0) | (mantissa < 1024 ? mantissa : ((exponent + 15) << 10) | (mantissa - 1024));
}

function numberOf(half: number): number {
  const exponent = (half >>> 10) & 31;
  const mantissa = half & 1023;
  const magnitude = exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

const buffer = (view: ArrayBufferView) => Buffer.from(view.buffer, view.byteOffset, view.byteLength);

type Storage = [kind: string, bytes: (data: Uint16Array) => Buffer];
const HALF: Storage = ['HalfStorage', buffer];
const FLOAT: Storage = ['FloatStorage', (data) => buffer(Float32Array.from(data, numberOf))];
const DOUBLE: Storage = ['DoubleStorage', (data) => buffer(Float64Array.from(data, numberOf))];

/** A state dict in pickled form, and its storages. */
function pickled(weights: Map<string, Weight>, [kind, store]: Storage = HALF) {
  const storages: Buffer[] = [];
  const state: Record<string, Buffer> = {};
  for (const [name, { shape, data }] of weights) {
    state[name] = py.tensor(py.storage(kind, String(storages.length), data.length), 0, shape);
    storages.push(store(data));
  }
  return { state, storages };
}

const pickledDims = (dims: Partial<WhisperDimensions> = DIMS) =>
  py.dict(Object.fromEntries(Object.entries(dims).map(([name, value]) => [name, py.int(value)])));

function openAi(
  weights = randomWhisper(),
  dims: Partial<WhisperDimensions> = DIMS,
  storage = HALF,
  options: ZipOptions = {},
): Buffer {
  const { state, storages } = pickled(weights, storage);
  const value = py.dict({ dims: pickledDims(dims), model_state_dict: py.dict(state) });
  return torchZip(py.file(value), storages, options);
}

const renamed = (weights: Map<string, Weight>, name: (name: string) => string) =>
  new Map([...weights].map(([key, weight]) => [name(key), weight]));

function huggingFaceName(name: string): string {
  const parts: [RegExp, string][] = [
    [/\.blocks\./, '.layers.'],
    [/\.cross_attn_ln\./, '.encoder_attn_layer_norm.'],
    [/\.cross_attn\./, '.encoder_attn.'],
    [/\.attn_ln\./, '.self_attn_layer_norm.'],
    [/\.attn\./, '.self_attn.'],
    [/attn\.(query|key|value)\./, 'attn.$1_proj.'],
    [/\.(q|k|v)(uery|ey|alue)_proj\./, '.$1_proj.'],
    [/attn\.out\./, 'attn.out_proj.'],
    [/\.mlp\.0\./, '.fc1.'],
    [/\.mlp\.2\./, '.fc2.'],
    [/\.mlp_ln\./, '.final_layer_norm.'],
    [/^encoder\.ln_post\./, 'encoder.layer_norm.'],
    [/^decoder\.ln\./, 'decoder.layer_norm.'],
    [/\.positional_embedding$/, '.embed_positions.weight'],
    [/\.token_embedding\./, '.embed_tokens.'],
  ];
  return `model.${parts.reduce((text, [from, to]) => text.replace(from, to), name)}`;
}

/** A file in safetensors' layout. */
function safetensors(weights: Map<string, Weight>, dtype = 'F16', store = HALF[1]): Buffer {
  const stored = [...weights].map(([name, { shape, data }]) => ({ name, shape, content: store(data) }));
  let at = 0;
  const header = Object.fromEntries(
    stored.map(({ name, shape, content }) => {
      at += content.length;
      return [name, { dtype, shape, data_offsets: [at - content.length, at] }];
    }),
  );
  const text = JSON.stringify(header);
  const padded = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  return Buffer.concat([u64(BigInt(padded.length)), padded, ...stored.map(({ content }) => content)]);
}

/* ---- ggml files ---- */

interface Ggml {
  integers: number[];
  filters: Buffer;
  words: Buffer[];
  tensors: Map<string, { shape: number[]; type: number; data: Buffer }>;
}

function readGgml(file: Buffer): Ggml {
  let at = 0;
  const take = (count: number) => {
    at += count;
    assert.ok(at <= file.length, 'the file ends too early');
    return file.subarray(at - count, at);
  };
  const int = () => take(4).readInt32LE();
  const integers = Array.from({ length: 12 }, int);
  const filters = take(int() * int() * 4);
  const words = Array.from({ length: int() }, () => take(int()));
  const tensors: Ggml['tensors'] = new Map();
  const sizes: Record<number, [number, number]> = { 0: [1, 4], 1: [1, 2], 7: [32, 24], 8: [32, 34] };
  while (at < file.length) {
    const [dimensions, length, type] = [int(), int(), int()];
    const shape = Array.from({ length: dimensions }, int);
    const name = take(length).toString();
    const [block, size] = sizes[type] as [number, number];
    tensors.set(name, { shape, type, data: take((shape.reduce((all, n) => all * n, 1) / block) * size) });
  }
  return { integers, filters, words, tensors };
}

async function inFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'voicegrpo-whisper-'));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Converts the file (or what `place` puts into the folder), has the addon load the result, and reads it. */
function converted(content: Buffer | ((folder: string) => string), type: WhisperType = 'f16'): Promise<Ggml> {
  return inFolder(async (folder) => {
    const path = typeof content === 'function' ? content(folder) : join(folder, 'wpt.pt');
    if (typeof content !== 'function') writeFileSync(path, content);
    const output = join(folder, 'ggml.bin');
    const result = await convertWhisper(path, output, { type });
    const file = readFileSync(output);
    assert.is(result.bytes, file.length);
    const whisper = await loadNative().openWhisper(output);
    const { vocab, mels, audioContext, textContext } = whisper.info;
    whisper.close();
    const { dims } = result;
    assert.equal(
      [vocab, mels, audioContext, textContext],
      [dims.n_vocab, dims.n_mels, dims.n_audio_ctx, dims.n_text_ctx],
    );
    return readGgml(file);
  });
}

/** The same header, tokens and tensors; in any order. */
function same(found: Ggml, expected: Ggml, what: string): void {
  assert.equal(found.integers, expected.integers, what);
  assert.ok(found.filters.equals(expected.filters), what);
  assert.equal([...found.tensors.keys()].sort(), [...expected.tensors.keys()].sort(), what);
  for (const [name, { shape, type, data }] of expected.tensors) {
    const tensor = found.tensors.get(name);
    assert.equal([tensor?.shape, tensor?.type], [shape, type], `${what}: ${name}`);
    assert.ok(tensor?.data.equals(data), `${what}: ${name} has other numbers`);
  }
}

/** The conversion must fail in the form that every model file error has, and leave nothing behind. */
async function refuses(
  what: string,
  place: Buffer | ((folder: string) => string),
  words: RegExp,
  hint = /./,
): Promise<void> {
  await inFolder(async (folder) => {
    const path = typeof place === 'function' ? place(folder) : join(folder, 'wpt.pt');
    if (typeof place !== 'function') writeFileSync(path, place);
    const before = readdirSync(folder);
    const error = await failure(what, () => convertWhisper(path, join(folder, 'ggml.bin')));
    assert.is(error.code, 'E_MODEL', `${what}: ${error.stack}`);
    assert.match(error.message, words, what);
    assert.match(error.hint, hint, what);
    assert.ok(error.message.startsWith(path), `${what}: the message does not name the file: ${error.message}`);
    assert.not.match(error.message + error.hint, /[\p{C}]/u, what);
    assert.ok(error.message.length < 1200, `${what}: ${error.message.length} characters`);
    assert.is(presentError(error).exitCode, 3, what);
    assert.equal(readdirSync(folder), before, `${what}: something was written`);
  });
}

async function failure(what: string, run: () => Promise<unknown>): Promise<VoiceGrpoError> {
  try {
    await run();
  } catch (error) {
    return error as VoiceGrpoError;
  }
  throw new Error(`${what}: the file was accepted`);
}

const named = (name: string, content: Buffer | string) => (folder: string) => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};

const folderOf = (files: Record<string, Buffer | string>) => (folder: string) => {
  const path = join(folder, 'model');
  mkdirSync(path);
  for (const [name, content] of Object.entries(files)) writeFileSync(join(path, name), content);
  return path;
};

/* ---- The parts ---- */

test('26.1 mel filters are the bytes of mel_filters.npz, the tokens those of the tiktoken files', () => {
  for (const bins of [80, 128]) assert.is(sha256(buffer(melFilters(bins))), golden.mel_filters[bins]);
  for (const [name, ids] of [
    ['gpt2', 51864],
    ['multilingual', 51865],
    ['multilingual', 51866],
  ] as const) {
    const tokens = whisperVocabulary(ids);
    assert.is(sha256(Buffer.concat(tokens.flatMap((token) => [u32(token.length), token]))), golden.tokens[name]);
  }
  const bundled = readGgml(readFileSync(join(root, 'assets', 'models', 'whisper-tiny.bin')));
  assert.ok(bundled.filters.equals(buffer(melFilters(80))));
  assert.ok(Buffer.concat(bundled.words).equals(Buffer.concat(whisperVocabulary(51864))));
});

test('26.2 what torch.save wrote is read, view by view', () => {
  const file = new FileBytes(GOLDEN_TORCH);
  const { value } = new TorchCheckpoint(file);
  assert.ok(value instanceof PickleDict);
  const state = value.entries.get('model_state_dict');
  assert.ok(state instanceof PickleDict);
  const expected = Array.from({ length: 12 }, (_, i) => (i - 5) / 4);
  const readers: Record<string, (bytes: Buffer) => number[]> = {
    f16: (data) => Array.from({ length: 12 }, (_, i) => numberOf(data.readUInt16LE(2 * i))),
    bf16: (data) =>
      Array.from({ length: 12 }, (_, i) => Buffer.concat([bytes(0, 0), data.subarray(2 * i, 2 * i + 2)]).readFloatLE()),
    f32: (data) => Array.from({ length: 12 }, (_, i) => data.readFloatLE(4 * i)),
    f64: (data) => Array.from({ length: 12 }, (_, i) => data.readDoubleLE(8 * i)),
  };
  for (const [name, tensor] of state.entries) {
    assert.ok(tensor instanceof TorchTensor, String(name));
    assert.equal(tensor.shape, [3, 4], String(name));
    const data = Buffer.concat([...tensor.chunks()].map((chunk) => Buffer.from(chunk)));
    assert.equal(readers[tensor.type]?.(data), expected, String(name));
  }
  assert.is(state.entries.size, 8);
  const shared = value.entries.get('shared');
  assert.ok(shared instanceof TorchTensor && shared.is(state.entries.get('view') as TorchTensor));
  const history = value.entries.get('history');
  assert.ok(history instanceof PickleList);
  const [tuple] = history.items.splice(6, 1);
  assert.ok(tuple instanceof PickleTuple);
  assert.equal(tuple.items, [1, 2, 3, 4]);
  assert.equal(history.items, [1, -2, 3.5, null, true, 'é', 2 ** 40, -(2 ** 40), 2n ** 80n]);
  file.close();
});

/* ---- What is accepted ---- */

test('26.3 an openai-whisper checkpoint becomes the file that whisper.cpp reads', async () => {
  const weights = randomWhisper();
  const found = await converted(openAi(weights));
  assert.equal(found.integers, [0x67676d6c, 51864, 50, 64, 1, 4, 32, 64, 1, 2, 80, 1]);
  assert.is(found.words.length, 50256);
  assert.equal([...found.tensors.keys()], [...weights.keys()]);
  for (const [name, { shape, data }] of weights) {
    const tensor = found.tensors.get(name);
    const full = shape.length === 1 || name.endsWith('positional_embedding');
    const bias = /conv\d\.bias/.test(name) ? [1] : [];
    assert.equal(tensor?.shape, [...bias, ...[...shape].reverse()], name);
    assert.is(tensor?.type, full ? 0 : 1, name);
    assert.ok(tensor?.data.equals(full ? FLOAT[1](data) : buffer(data)), name);
  }
});

test('26.4 every form of the same weights gives the same file', async () => {
  const weights = randomWhisper();
  const expected = await converted(openAi(weights));
  const plain = pickled(weights);
  const file = (value: Buffer, storages = plain.storages) => torchZip(py.file(value), storages);
  const hf = renamed(weights, huggingFaceName);
  const tied = pickled(hf);
  tied.state['proj_out.weight'] = tied.state['model.decoder.embed_tokens.weight'] as Buffer;
  const embedding = weights.get('decoder.token_embedding.weight') as Weight;
  const untied = new Map([...hf, ['proj_out.weight', embedding]]);
  const prefixed = pickled(renamed(weights, (name) => `module.${name}`)).state;
  const twice = pickled(renamed(weights, (name) => `module.model.${name}`)).state;
  const ordered = Buffer.concat([
    py.call(py.global('collections', 'OrderedDict')),
    py.dict(plain.state).subarray(1),
    ...[py.dict({ _metadata: py.call(py.global('collections', 'OrderedDict')) }), Buffer.from('b')],
  ]);
  const parameters = Object.fromEntries(
    Object.entries(plain.state).map(([name, tensor]) => [
      name,
      py.call(
        py.global('torch._utils', '_rebuild_parameter'),
        tensor,
        bytes(0x88),
        py.call(py.global('collections', 'OrderedDict')),
      ),
    ]),
  );
  // Counters of whole numbers lie beside the weights: over a storage of as many bytes, for none is read.
  const counter = py.tensor(py.storage('LongStorage', '0', (plain.storages[0] as Buffer).length / 8), 0, [2]);
  const training = { state_dict: py.dict(plain.state), epoch: py.int(3), optimizer: py.dict({ step: counter }) };
  const big = plain.storages.map((storage) => Buffer.from(storage).swap16());
  const config = JSON.stringify({
    model_type: 'whisper',
    d_model: 64,
    encoder_attention_heads: 1,
    decoder_attention_heads: 1,
  });
  const forms: [string, Buffer | ((folder: string) => string)][] = [
    ['float32', openAi(weights, DIMS, FLOAT)],
    ['float64', openAi(weights, DIMS, DOUBLE)],
    ['zip64', openAi(weights, DIMS, HALF, { zip64: true })],
    ['a bare state dict', file(py.dict(plain.state))],
    ['an OrderedDict with metadata', file(ordered)],
    ['parameters', file(py.dict(parameters))],
    ['a training checkpoint', file(py.dict(training))],
    ['module.', file(py.dict({ model_state_dict: py.dict(prefixed) }))],
    ["'model' with module.model.", file(py.dict({ model: py.dict(twice) }))],
    ['dims null', file(py.dict({ dims: py.none, model: py.dict(plain.state) }))],
    ["Hugging Face's names", file(py.dict(tied.state))],
    [
      'pytorch_model.bin in a folder',
      folderOf({ 'pytorch_model.bin': torchZip(py.file(py.dict(tied.state)), tied.storages), 'config.json': config }),
    ],
    ['safetensors', named('model.safetensors', safetensors(hf))],
    [
      'safetensors with the output layer, float32, in a folder',
      folderOf({ 'model.safetensors': safetensors(untied, 'F32', FLOAT[1]), 'config.json': config }),
    ],
    [
      'big-endian',
      zip([
        { name: 'a/data.pkl', content: py.file(py.dict(plain.state)) },
        { name: 'a/byteorder', content: Buffer.from('big') },
        ...big.map((content, i) => ({ name: `a/data/${i}`, content, lie: { crc32: 0 } })),
      ]),
    ],
  ];
  for (const [what, content] of forms) same(await converted(content), expected, what);
});

test('26.5 views of one storage, and tensors whose elements do not follow one another', async () => {
  const weights = randomWhisper();
  const expected = await converted(openAi(weights));
  const flat = Buffer.concat([...weights.values()].map(({ data }) => buffer(data)));
  const state: Record<string, Buffer> = {};
  let at = 0;
  for (const [name, { shape, data }] of weights) {
    state[name] = py.tensor(py.storage('HalfStorage', '0', flat.length / 2), at, shape);
    at += data.length;
  }
  same(await converted(torchZip(py.file(py.dict(state)), [flat])), expected, 'one storage');

  const turned = pickled(weights);
  for (const [i, [name, { shape, data }]] of [...weights].entries()) {
    if (shape.length !== 2) continue;
    const [rows, columns] = shape as [number, number];
    const columnwise = new Uint16Array(data.length);
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++) columnwise[c * rows + r] = data[r * columns + c] as number;
    turned.storages[i] = buffer(columnwise);
    turned.state[name] = py.tensor(py.storage('HalfStorage', String(i), data.length), 0, shape, [1, rows]);
  }
  same(await converted(torchZip(py.file(py.dict(turned.state)), turned.storages)), expected, 'transposed');
});

test('26.6 multilingual, 128 mel bins, heads from the width', async () => {
  for (const [n_vocab, n_mels] of [
    [51865, 80],
    [51866, 128],
  ] as const) {
    const dims = {
      ...DIMS,
      n_vocab,
      n_mels,
      n_audio_state: 128,
      n_text_state: 128,
      n_audio_head: 2,
      n_text_head: 2,
      n_audio_layer: 4,
    };
    const { state, storages } = pickled(randomWhisper(dims));
    const found = await converted(torchZip(py.file(py.dict(state)), storages));
    assert.equal(found.integers.slice(1, 11), [n_vocab, 50, 128, 2, 4, 32, 128, 2, 2, n_mels]);
    assert.is(sha256(found.filters), golden.mel_filters[n_mels]);
    assert.is(found.words.length, 50257);
  }
});

test("26.7 the types f32, q8_0 and q5_1, with ggml's own bytes for a row", async () => {
  const content = openAi();
  const expected: [WhisperType, number, number, number, string | null][] = [
    ['f32', 0, 0, 0, null],
    ['q8_0', 2007, 8, 1, golden.q8_0],
    ['q5_1', 2009, 7, 1, golden.q5_1],
  ];
  for (const [type, fileType, matrix, convolution, row] of expected) {
    const { integers, tensors } = await converted(content, type);
    assert.is(integers[11], fileType);
    const query = tensors.get('encoder.blocks.0.attn.query.weight');
    assert.is(query?.type, matrix);
    assert.is(tensors.get('encoder.conv1.weight')?.type, convolution);
    assert.is(tensors.get('decoder.positional_embedding')?.type, 0);
    const start = query?.data.toString('hex') ?? '';
    assert.ok(
      start.startsWith(row ?? buffer(Float32Array.from(golden.row)).toString('hex')),
      `${type}: ${start.slice(0, 140)}`,
    );
  }
});

test('26.8 float64 and float32 are rounded once, to the nearest, ties to even', async () => {
  const weights = randomWhisper();
  const ulp = 2 ** -10;
  // Beside 1 and at the border of the subnormal: a tie down, a tie up, just above a tie by less than float32 can say, just below.
  const values = [
    1 + ulp / 2,
    1 + 1.5 * ulp,
    1 + ulp / 2 + 2 ** -40,
    1 + 1.5 * ulp - 2 ** -40,
    2 ** -25,
    2 ** -25 * (1 + 2 ** -45),
    -65519.99,
    3 * 2 ** -26,
  ];
  const bits = [0x3c00, 0x3c02, 0x3c01, 0x3c01, 0, 1, 0xfbff, 1];
  const { state, storages } = pickled(weights, DOUBLE);
  const index = [...weights.keys()].indexOf('encoder.blocks.0.attn.key.weight');
  for (const [i, value] of values.entries()) storages[index]?.writeDoubleLE(value, 8 * i);
  const { tensors } = await converted(torchZip(py.file(py.dict(state)), storages));
  const data = tensors.get('encoder.blocks.0.attn.key.weight')?.data as Buffer;
  assert.equal(
    values.map((_, i) => data.readUInt16LE(2 * i)),
    bits,
  );
});

test('26.9 progress, an abort, and what stands at the place of the output', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'wpt.pt');
    const output = join(folder, 'ggml.bin');
    writeFileSync(path, openAi());
    const seen: number[] = [];
    let total = 0;
    const { bytes: size } = await convertWhisper(path, output, {
      progress: (done, of) => {
        seen.push(done);
        total = of;
      },
    });
    assert.is(total, size);
    assert.is(seen.at(-1), size);
    assert.ok(seen.length > 50 && seen.every((done, i) => i === 0 || done > (seen[i - 1] as number)));

    const before = readFileSync(output);
    const abort = new AbortController();
    const progress = (done: number, of: number) => done > of / 2 && abort.abort(new Error('enough'));
    const error = await failure('an abort', () => convertWhisper(path, output, { progress, signal: abort.signal }));
    assert.is(error.message, 'enough');
    assert.ok(readFileSync(output).equals(before), 'the old file stays');
    assert.equal(readdirSync(folder).sort(), ['ggml.bin', 'wpt.pt']);

    const parts = join(folder, 'parts');
    mkdirSync(parts);
    const part = join(parts, 'pytorch_model.bin');
    writeFileSync(part, openAi());
    for (const [from, place] of [
      [path, path],
      [path, folder],
      [parts, part],
    ] as const) {
      const { code, message } = await failure('a bad output', () => convertWhisper(from, place));
      assert.is(code, 'E_USAGE');
      assert.match(message, /expected a file to write, got (the checkpoint itself|a folder)/);
    }
  }));

/* ---- What is refused ---- */

const program = (open: string) => py.file(Buffer.from(open, 'latin1'));
const small = (value: Buffer, storages: Buffer[] = [Buffer.alloc(64)]) => torchZip(py.file(value), storages);
const oneTensor = (storage: Buffer, offset: number, shape: number[], strides?: number[]) =>
  small(py.dict({ w: py.tensor(storage, offset, shape, strides) }));

test('26.10 pickles that would run something, or take much memory', async () => {
  const mark = join(tmpdir(), `voicegrpo-executed-${process.pid}`);
  const command = `touch ${mark}`;
  const text = (value: string) => py.text(value).toString('latin1');
  const cases: [string, Buffer, RegExp, RegExp?][] = [
    ['os.system by GLOBAL', program(`cos\nsystem\n(${text(command)}tR`), /names 'os\.system'/, /Do not load/],
    [
      'exec by STACK_GLOBAL',
      program(`${text('builtins')}${text('exec')}\x93(${text('1')}tR`),
      /names 'builtins\.exec'/,
      /Do not load/,
    ],
    [
      'posix.system in a state',
      program(`ccollections\nOrderedDict\n)Rcposix\nsystem\n(${text(command)}tRb`),
      /names 'posix\.system'/,
    ],
    ['INST', program(`(${text(command)}ios\nsystem\n`), /opcode 0x69 \(i\)/],
    ['OBJ', program(`(ccollections\nOrderedDict\no`), /opcode 0x6f \(o\)/],
    ['NEWOBJ', program('ccollections\nOrderedDict\n)\x81'), /opcode 0x81/],
    ['NEWOBJ_EX', program('ccollections\nOrderedDict\n)}\x92'), /opcode 0x92/],
    ['EXT1', program('\x82\x01'), /opcode 0x82/],
    ['a text persistent id', program('P0\n'), /opcode 0x50 \(P\)/],
    ['a dotted name', program(`${text('torch')}${text('HalfStorage.__reduce__')}\x93`), /HalfStorage\.__reduce__/],
    ['a global with control characters', program('c\x1b[31mos\nsystem\n'), /u\{1b\}/],
    ['a call of a text', program(`${text('os.system')})R`), /a call of what is no listed function/],
    ['OrderedDict with arguments', program('ccollections\nOrderedDict\n(NtR'), /an OrderedDict with arguments/],
    ['a rebuilt text', program(`ctorch._utils\n_rebuild_tensor_v2\n(${text('a')}tR`), /a tensor in another form/],
    ['a parameter of nothing', program('ctorch._utils\n_rebuild_parameter\n(NtR'), /a call of _rebuild_parameter/],
    ['a persistent text', program(`${text('storage')}Q`), /a storage in another form/],
    ['state for a list', program(']}b'), /state for what is no OrderedDict/],
    ['a memo index of four billion', program('Nr\xff\xff\xff\xff'), /memo entry 4294967295/],
    ['a memo entry that was never made', program('h\x07'), /memo entry 7, which was never made/],
    ['a hundred thousand marks', program('('.repeat(100_000)), /nested more than 64 deep/],
    ['tuples in tuples', program(`N${'\x85'.repeat(100_000)}`), /nested more than 64 deep/],
    ['lists in lists', program(`]${'q\x00]h\x00a'.repeat(1000)}`), /nested more than 64 deep/],
    ['a million open values', program('N'.repeat(1_000_000)), /more than 200000 open values/],
    ['a million dicts', program(`]${'}a'.repeat(1_000_000)}`), /more than 500000 objects/],
    ['a pickle of 17 MB', program('N'.repeat(17 * 2 ** 20)), /a pickle of 17825795 bytes/],
    ['a text of four gigabytes', program('X\xff\xff\xff\xff'), /ends inside a value of 4294967295 bytes/],
    ['a text of 2^63 bytes', program('\x8d\xff\xff\xff\xff\xff\xff\xff\x7f'), /ends inside a value/],
    ['LONG4', program('\x8b\xff\xff\xff\x7f'), /opcode 0x8b/],
    ['no end', program('}(').subarray(0, -1), /ends inside a value of 1 bytes/],
    ['something behind the end', Buffer.concat([program('}'), program('}')]), /bytes behind the end/],
    ['two values', program('NN'), /a pickle that is not one value/],
    ['a value too few', program('R'), /takes more values than it has/],
    ['an item for nothing', program('(NNu'), /takes more values than it has/],
    ['a key twice', program(`}(${text('a')}N${text('a')}Nu`), /the key 'a' twice/],
    ['a dict as key', program('}(}Nu'), /a key that is no text or number/],
    ['protocol 9', Buffer.from('\x80\x09N.', 'latin1'), /pickle protocol 9/],
    ['protocol 0', Buffer.from('cos\nsystem\n(tR.'), /no pickle of protocol 2/],
    ['not UTF-8', program('X\x02\0\0\0\xff\xfe'), /a text that is not UTF-8/],
  ];
  for (const [what, pickle, words, hint] of cases)
    await refuses(what, torchZip(pickle, [Buffer.alloc(64)]), words, hint);
  assert.not.ok(existsSync(mark), 'a command of a pickle was executed');
});

test('26.11 memory: bombs take little, and a conversion a part of its file', () =>
  inFolder(async (folder) => {
    const path = (name: string) => join(folder, name);
    const bomb = (name: string, pickle: string) =>
      writeFileSync(path(name), torchZip(program(pickle), [Buffer.alloc(64)]));
    bomb('values.pt', 'N'.repeat(16_000_000));
    bomb('dicts.pt', `](${'}'.repeat(150_000)}e`.repeat(20));
    bomb('numbers.pt', `]${'K\x01a'.repeat(5_000_000)}`);
    bomb('doubling.pt', `]q\x00${'](h\x00h\x00eq\x00'.repeat(60)}`);
    const id = py.storage('FloatStorage', '0', 16).subarray(0, -1).toString('latin1');
    bomb('storages.pt', `]${id}q\x00Qa${'h\x00Qa'.repeat(3_000_000)}`);
    const dims = { ...DIMS, n_audio_state: 256, n_text_state: 256, n_audio_head: 4, n_text_head: 4 };
    const zeros: Storage = ['DoubleStorage', (data) => Buffer.alloc(8 * data.length)];
    const large = openAi(randomWhisper(dims), dims, zeros);
    writeFileSync(path('large.pt'), large);
    // In a process of its own: the peak of this one is that of the tests before.
    const script = `
      import { convertWhisper } from './src/formats/whisper-ggml.js';
      import { readFileSync } from 'node:fs';
      // Not getrusage's peak, which begins with that of the process that started this one.
      const status = () => { try { return readFileSync('/proc/self/status', 'utf8'); } catch { return ''; } };
      const peak = () => Number(/VmHWM:\\s*(\\d+)/.exec(status())?.[1] ?? process.memoryUsage().rss / 1024) / 1024;
      for (const name of ['values', 'dicts', 'numbers', 'doubling', 'storages', 'large']) {
        const before = peak();
        const path = ${JSON.stringify(folder)} + '/' + name + '.pt';
        const outcome = await convertWhisper(path, path + '.bin').then(() => 'converted', (error) => error.code);
        console.log(name, outcome, Math.round(peak() - before));
      }`;
    const child = ['--import', 'tsx', '--input-type=module', '-e', script];
    const { stdout, stderr } = spawnSync(process.execPath, child, { cwd: root, encoding: 'utf8', timeout: 120_000 });
    console.log(
      stdout.trim().replaceAll('\n', ' MB, '),
      `MB; the last file has ${(large.length / 2 ** 20).toFixed(0)} MB`,
    );
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => line.split(' '));
    assert.equal(
      lines.map(([, outcome]) => outcome),
      [...Array(5).fill('E_MODEL'), 'converted'],
      stderr,
    );
    const grown = lines.map(([, , megabytes]) => Number(megabytes));
    assert.ok(
      grown.slice(0, 5).every((megabytes) => megabytes < 200),
      stdout,
    );
    assert.ok((grown[5] as number) < large.length / 2 ** 20 / 2, stdout);
  }));

test('26.12 tensors that are not in the file', async () => {
  const storage = py.storage('FloatStorage', '0', 16);
  const cases: [string, Buffer, RegExp][] = [
    [
      'a storage that is not there',
      oneTensor(py.storage('FloatStorage', '9', 16), 0, [4]),
      /a storage without its entry, '9'/,
    ],
    [
      'a key that climbs',
      oneTensor(py.storage('FloatStorage', '../data.pkl', 16), 0, [4]),
      /a storage without its entry/,
    ],
    [
      'a storage past its entry',
      oneTensor(py.storage('FloatStorage', '0', 17), 0, [4]),
      /17 f32 in an entry of 64 bytes/,
    ],
    [
      'a storage of another size of element',
      oneTensor(py.storage('HalfStorage', '0', 16), 0, [4]),
      /16 f16 in an entry of 64/,
    ],
    [
      'a storage of unknown numbers',
      oneTensor(py.storage('QInt8Storage', '0', 64), 0, [4]),
      /names 'torch\.QInt8Storage'/,
    ],
    ['an offset past the end', oneTensor(storage, 14, [4]), /past the end of its storage of 16/],
    ['a negative offset', oneTensor(storage, -1, [4]), /a tensor in another form/],
    ['a stride past the end', oneTensor(storage, 0, [4], [6]), /past the end of its storage of 16/],
    ['a negative stride', oneTensor(storage, 15, [4], [-1]), /a tensor in another form/],
    ['a negative size', oneTensor(storage, 0, [-4]), /a tensor in another form/],
    ['sizes whose product overflows', oneTensor(storage, 0, [2 ** 40, 2 ** 40], [0, 0]), /past the end/],
    ['a size of 2^62', oneTensor(storage, 0, [2 ** 62], [0]), /a tensor in another form/],
    ['more strides than sizes', oneTensor(storage, 0, [4], [4, 1]), /1 dimensions with 2 strides/],
    ['nine dimensions', oneTensor(storage, 0, Array(9).fill(1)), /9 dimensions/],
    ['one tensor', small(py.tensor(storage, 0, [4])), /got one tensor/],
    ['a list', small(Buffer.from(']')), /a value that is no dict/],
    ['no tensor', small(py.dict({ epoch: py.int(1), loss: py.none })), /a dict without weights \('epoch', 'loss'\)/],
    ['an empty dict', small(py.dict({})), /an empty dict/],
    ['weights of another model', oneTensor(storage, 0, [4]), /no encoder\.positional_embedding, but 'w'/],
  ];
  for (const [what, content, words] of cases) await refuses(what, content, words);
});

test('26.13 archives that torch.save does not write', async () => {
  const pickle = py.file(py.dict({ w: py.tensor(py.storage('FloatStorage', '0', 16), 0, [4]) }));
  const entries = (change: (entries: Entry[]) => void = () => {}) => {
    const list: Entry[] = [
      { name: 'a/data.pkl', content: pickle },
      { name: 'a/data/0', content: Buffer.alloc(64) },
      { name: 'a/version', content: Buffer.from('3\n') },
    ];
    change(list);
    return list;
  };
  const lying = (index: number, lie: Entry['lie']) =>
    zip(
      entries((list) => {
        Object.assign(list[index] as Entry, { lie });
      }),
    );
  const good = zip(entries());
  const bomb = deflateRawSync(Buffer.alloc(2 ** 24));
  const cases: [string, Buffer, RegExp][] = [
    ['overlapping entries', lying(1, { at: 0, localName: 'a/data/0' }), /two different headers|overlap/],
    [
      'an entry that runs into the next',
      lying(1, { size: 100 }),
      /entries that overlap, 'a\/data\/0' and 'a\/version'/,
    ],
    ['an entry past the end', lying(2, { size: 1 << 20 }), /an entry past the end, 'a\/version'/],
    ['an entry outside', lying(1, { at: 1 << 20 }), /an entry outside the file/],
    ['an entry where none begins', lying(1, { at: 7 }), /no header where 'a\/data\/0' should be/],
    ['two sizes', lying(1, { packed: 32 }), /two sizes for the stored entry/],
    ['another name before the content', lying(1, { localName: 'a/data/7' }), /two different headers/],
    ['an encrypted entry', lying(1, { flags: 0x809 }), /an encrypted entry/],
    [
      'a compression bomb',
      zip(
        entries((list) =>
          list.splice(1, 1, {
            name: 'a/data/0',
            content: bomb,
            lie: { method: 8, size: 2 ** 24, packed: bomb.length },
          }),
        ),
      ),
      /a compressed entry, 'a\/data\/0' \(method 8\)/,
    ],
    ['a name twice', zip(entries((list) => list.push(list[0] as Entry))), /two entries named 'a\/data\.pkl'/],
    [
      'a name that is not UTF-8',
      zip(entries((list) => list.push({ name: 'a/x', content: Buffer.alloc(0), lie: { rawName: bytes(0xff) } }))),
      /a name that is not UTF-8/,
    ],
    [
      'a name of control characters',
      zip(entries((list) => list.push({ name: 'a/\x1b[2J', content: Buffer.alloc(9), lie: { method: 99 } }))),
      /u\{1b\}/,
    ],
    [
      'two folders',
      zip(entries((list) => list.push({ name: 'b/x', content: Buffer.alloc(1) }))),
      /a zip archive without data\.pkl in one folder/,
    ],
    ['no pickle', zip(entries((list) => list.shift())), /a zip archive without data\.pkl/],
    ['no entries', Buffer.concat([Buffer.from('PK\x03\x04'), zip([])]), /not where the file says|an empty archive/],
    ['more entries than there are', zip(entries(), { entries: 4 }), /a directory that ends after 3 of 4 entries/],
    ['fewer entries than there are', zip(entries(), { entries: 2 }), /in the directory behind its last entry/],
    ['a wrong checksum of the pickle', lying(0, { crc32: 1 }), /a checksum that is not that of data\.pkl/],
    [
      'an unknown byte order',
      zip(entries((list) => list.push({ name: 'a/byteorder', content: Buffer.from('pdp') }))),
      /the byte order 'pdp'/,
    ],
    [
      'zip64: a locator that points elsewhere',
      zip(entries(), { zip64: true, lie64: { locator: 0 } }),
      /not where its locator says/,
    ],
    [
      'zip64: another number of entries',
      zip(entries(), { zip64: true, lie64: { entries: 2 ** 40 } }),
      /zip64 records that contradict/,
    ],
    [
      'zip64: a directory of exabytes',
      zip(entries(), { zip64: true, lie64: { bytes: 2 ** 60 } }),
      /zip64 records that contradict/,
    ],
    [
      'zip64: a directory elsewhere',
      zip(entries(), { zip64: true, lie64: { start: 2 ** 50 } }),
      /zip64 records that contradict/,
    ],
    ['something behind the end', Buffer.concat([good, Buffer.from('more')]), /does not end with a zip directory/],
    ['something before the beginning', Buffer.concat([Buffer.from('PK\x03\x04'), good]), /not where the file says/],
    ['only the first bytes', good.subarray(0, 10), /only 10 bytes/],
    ...[100, good.length / 2, good.length - 1].map((length): [string, Buffer, RegExp] => [
      `cut after ${length}`,
      good.subarray(0, length),
      /does not end with a zip directory/,
    ]),
  ];
  for (const [what, content, words] of cases) await refuses(what, content, words);
  // All fields of the short record are full, and the long one claims the impossible.
  const wild = zip(entries(), { zip64: true, lie64: { entries: 2 ** 40, bytes: 2 ** 60, start: 2 ** 60 } });
  wild.fill(0xff, wild.length - 14, wild.length - 2);
  await refuses(
    'zip64: all of it wild',
    wild,
    /a directory of 1099511627776 entries|zip64 record|contradict|one part of several/,
  );
});

test('26.14 weights that are not those of a Whisper', async () => {
  const weights = randomWhisper();
  const base = openAi(weights);
  const without = (...names: string[]) => new Map([...weights].filter(([name]) => !names.includes(name)));
  const value = (name: string, index: number, half: number) => {
    const changed = new Map(weights);
    const { shape, data } = weights.get(name) as Weight;
    const copy = data.slice();
    copy[index] = half;
    return changed.set(name, { shape, data: copy });
  };
  const key = 'encoder.blocks.1.attn.key.weight';
  const plain = pickled(weights);
  const expanded = {
    ...plain.state,
    [key]: py.tensor(py.storage('HalfStorage', '0', (plain.storages[0] as Buffer).length / 2), 0, [64, 64], [0, 1]),
  };
  const integers = {
    ...plain.state,
    [key]: py.tensor(py.storage('ShortStorage', '0', (plain.storages[0] as Buffer).length / 2), 0, [64, 64], [0, 1]),
  };
  const one = plain.storages[[...weights.keys()].indexOf('decoder.token_embedding.weight')] as Buffer;
  const bomb: Record<string, Buffer> = {};
  const bombDims = {
    ...DIMS,
    n_audio_layer: 64,
    n_text_layer: 64,
    n_audio_state: 512,
    n_text_state: 512,
    n_audio_head: 8,
    n_text_head: 8,
    n_vocab: 51864,
  };
  for (const [name, shape] of whisperShapes(bombDims))
    bomb[name] = py.tensor(py.storage('HalfStorage', '0', 512 * 51864), 0, shape);
  const flipped = Buffer.from(base);
  flipped[flipped.length >> 1] = (flipped[flipped.length >> 1] as number) ^ 1;
  const extra = new Map([...weights, ['encoder.extra', { shape: [2], data: new Uint16Array(2) }]]);
  const several = new Map([...extra].filter(([name]) => name !== 'decoder.ln.bias'));
  several.set(key, { shape: [32, 128], data: (weights.get(key) as Weight).data });
  const hf = renamed(weights, huggingFaceName);
  const projection = { shape: [51864, 64], data: new Uint16Array(51864 * 64) };
  const wide = { ...DIMS, n_audio_state: 96, n_text_state: 96, n_audio_head: 2, n_text_head: 2 };
  const noDims = (map: Map<string, Weight>) => {
    const { state, storages } = pickled(map);
    return torchZip(py.file(py.dict(state)), storages);
  };
  const cases: [string, Buffer | ((folder: string) => string), RegExp][] = [
    ['a missing tensor', openAi(without('decoder.ln.bias')), /1 missing \('decoder\.ln\.bias'\)/],
    [
      'missing, too many and misshaped in one sentence',
      openAi(several),
      /1 missing \('decoder\.ln\.bias'\), 1 too many \('encoder\.extra'\), 1 of another shape \(encoder\.blocks\.1\.attn\.key\.weight \[32, 128\] instead of \[64, 64\]\)/,
    ],
    ['a missing embedding', noDims(without('decoder.token_embedding.weight')), /no decoder\.token_embedding\.weight/],
    [
      'a missing layer',
      noDims(new Map([...weights].filter(([name]) => !name.startsWith('encoder.blocks.2.')))),
      /15 missing .*15 too many/,
    ],
    ['no decoder', openAi(new Map([...weights].filter(([name]) => !name.startsWith('decoder.')))), /missing/],
    [
      'dims of another model',
      openAi(weights, { ...DIMS, n_text_ctx: 33 }),
      /decoder\.positional_embedding \[32, 64\] instead of \[33, 64\]/,
    ],
    [
      'dims without a number',
      openAi(weights, Object.fromEntries(Object.entries(DIMS).filter(([name]) => name !== 'n_mels'))),
      /n_mels missing/,
    ],
    [
      'dims that are text',
      torchZip(py.file(py.dict({ dims: py.text('tiny'), model: py.dict(plain.state) })), plain.storages),
      /'dims' that is no dict/,
    ],
    [
      'a billion layers',
      openAi(weights, { ...DIMS, n_audio_layer: 1e9 }),
      /n_audio_layer from 1 to 64, got 1000000000/,
    ],
    ['another vocabulary', openAi(weights, { ...DIMS, n_vocab: 51900 }), /n_vocab from 51864 to 51866, got 51900/],
    ['96 mel bins', openAi(weights, { ...DIMS, n_mels: 96 }), /80 or 128 mel bins, got 96/],
    ['no heads', openAi(weights, { ...DIMS, n_audio_head: 0 }), /n_audio_head from 1 to 128, got 0/],
    [
      'heads that cannot share',
      openAi(weights, { ...DIMS, n_text_head: 3 }),
      /heads that share the width, got 3 for 64/,
    ],
    ['two widths', openAi(weights, { ...DIMS, n_text_state: 128 }), /encoder and decoder of one width/],
    ['a width that says no heads', noDims(randomWhisper(wide)), /weights of width 96 without 'dims'/],
    ['NaN', openAi(value(key, 5, 0x7e00)), /NaN or infinity in 'encoder\.blocks\.1\.attn\.key\.weight'/],
    ['infinity', openAi(value('decoder.ln.bias', 63, 0xfc00)), /NaN or infinity in 'decoder\.ln\.bias'/],
    [
      'whole numbers',
      torchZip(py.file(py.dict(integers)), plain.storages),
      /'encoder\.blocks\.1\.attn\.key\.weight' of type i16/,
    ],
    [
      'one row for all',
      torchZip(py.file(py.dict(expanded)), plain.storages),
      /a tensor \[64, 64\] with strides \[0, 1\]/,
    ],
    [
      '64 layers in one storage',
      torchZip(py.file(py.dict({ dims: pickledDims(bombDims), model: py.dict(bomb) })), [
        Buffer.concat(Array(8).fill(one)),
      ]),
      /for tensors of \d+, which share storage/,
    ],
    ['a flipped bit', flipped, /a checksum that is not that of 'wpt\/data\/\d+'/],
    [
      'an output layer of its own',
      noDims(new Map([...hf, ['proj_out.weight', projection]])),
      /of other numbers than the embedding/,
    ],
    [
      'two names for one tensor',
      noDims(new Map([...weights, ['module.decoder.ln.bias', weights.get('decoder.ln.bias') as Weight]])),
      /two tensors named 'decoder\.ln\.bias'/,
    ],
    [
      'LoRA alone',
      noDims(new Map([['base_model.model.q_proj.lora_A.weight', { shape: [4, 64], data: new Uint16Array(256) }]])),
      /tensors of a LoRA adapter/,
    ],
    [
      'safetensors of bytes',
      named('model.safetensors', safetensors(new Map([['w', { shape: [8], data: new Uint16Array(4) }]]), 'U8')),
      /'w' of type U8/,
    ],
    [
      'a cut safetensors file',
      named('model.safetensors', safetensors(hf).subarray(0, -9)),
      /a damaged safetensors file/,
    ],
  ];
  for (const [what, content, words] of cases) await refuses(what, content, words);
  const large = pickled(weights, FLOAT);
  large.storages[[...weights.keys()].indexOf(key)]?.writeFloatLE(65520, 40);
  const file = torchZip(py.file(py.dict(large.state)), large.storages);
  await refuses(
    'too large for float16',
    file,
    /f16 can hold, got larger ones in 'encoder\.blocks\.1\.attn\.key\.weight'/,
    /as f32/,
  );
  assert.is((await converted(file, 'f32')).tensors.get(key)?.data.readFloatLE(40), 65520);
});

test('26.15 other formats are refused by their names, with the line of Python that saves the weights', async () => {
  const model = py.file(Buffer.from('cwhisper.model\nWhisper\n)\x81}b', 'latin1'));
  const dims = py.file(py.dict({ dims: Buffer.from('cwhisper.model\nModelDimensions\n)\x81}b', 'latin1') }));
  const linear = py.file(Buffer.from('ctorch.nn.modules.linear\nLinear\n)\x81}b', 'latin1'));
  const numpy = py.file(py.dict({ loss: Buffer.from('cnumpy.core.multiarray\nscalar\n') }));
  const legacy = Buffer.from('80028a0a6cfc9c46f9206aa850192e80024de9032e', 'hex');
  const tar = Buffer.alloc(1024);
  tar.write('ustar', 257);
  const code = (name: string) =>
    torchZip(py.file(py.dict({})), [], {}, [{ name, content: Buffer.from('def forward') }]);
  const ctranslate = Buffer.concat([bytes(6, 0, 0, 0, 12, 0), Buffer.from('WhisperSpec\0'), bytes(3, 0, 0, 0)]);
  const npz = zip([{ name: 'mel_80.npy', content: Buffer.alloc(8) }]);
  const cases: [string, Buffer | ((folder: string) => string), RegExp, RegExp][] = [
    [
      'a pickled Whisper',
      torchZip(model),
      /names 'whisper\.model\.Whisper'/,
      /pickled model.*torch\.save\(\{'dims': vars\(c\.dims\), 'model_state_dict': c\.state_dict\(\)\}, 'wpt-new\.pt'\)/,
    ],
    [
      'a pickled module',
      torchZip(linear),
      /names 'torch\.nn\.modules\.linear\.Linear'/,
      /torch\.save\(c\.state_dict\(\), 'wpt-new\.pt'\)/,
    ],
    [
      'a dims object',
      torchZip(dims),
      /names 'whisper\.model\.ModelDimensions'/,
      /c\['dims'\] = vars\(c\['dims'\]\); torch\.save\(c, 'wpt-new\.pt'\)/,
    ],
    ['an object of numpy', torchZip(numpy), /names 'numpy\.core\.multiarray\.scalar'/, /torch\.save\(\{k: c\[k\]/],
    [
      'before PyTorch 1.6',
      legacy,
      /torch\.save's format before PyTorch 1\.6/,
      /torch\.save\(torch\.load\('wpt\.pt', map_location='cpu', weights_only=True\), 'wpt-new\.pt'\)/,
    ],
    ['tar', tar, /a tar archive/, /torch\.save\(torch\.load/],
    ['a bare pickle', program('}'), /a bare pickle/, /pickle\.load/],
    ['TorchScript by its code', code('wpt/code/__torch__.py'), /a TorchScript archive/, /torch\.jit\.load\('wpt\.pt'/],
    ['TorchScript by its constants', code('wpt/constants.pkl'), /a TorchScript archive/, /torch\.jit\.load/],
    [
      'TensorFlow in HDF5',
      named('tf_model.h5', Buffer.from('\x89HDF\r\n\x1a\n', 'latin1')),
      /a TensorFlow model \(HDF5\)/,
      /from_tf=True/,
    ],
    [
      'TFLite',
      named('whisper.tflite', Buffer.from('\x1c\0\0\0TFL3', 'latin1')),
      /a TensorFlow model \(TFLite\)/,
      /from_pretrained/,
    ],
    [
      'a saved model of TensorFlow',
      named('saved_model.pb', Buffer.from('\x08\x01\x12\x80', 'latin1')),
      /a TensorFlow model/,
      /from_tf=True/,
    ],
    ['a folder of TensorFlow', folderOf({ 'saved_model.pb': 'x' }), /a TensorFlow model/, /from_tf=True/],
    ['ONNX by its name', named('encoder.onnx', 'x'), /an ONNX model/, /cannot be turned back/],
    ['ONNX by its content', Buffer.from('\x08\x07\x12\x07pytorch', 'latin1'), /an ONNX model/, /cannot be turned back/],
    ['a folder of ONNX', folderOf({ 'encoder_model.onnx': 'x' }), /an ONNX model/, /cannot be turned back/],
    [
      'CTranslate2',
      named('model.bin', ctranslate),
      /a CTranslate2 model \(of faster-whisper\)/,
      /cannot be turned back/,
    ],
    [
      'a folder of CTranslate2',
      folderOf({ 'model.bin': ctranslate, 'vocabulary.txt': '' }),
      /a CTranslate2 model/,
      /openai\/whisper-base/,
    ],
    [
      'a folder of LoRA',
      folderOf({ 'adapter_config.json': '{}', 'adapter_model.safetensors': '' }),
      /a LoRA adapter without its base/,
      /merge_and_unload\(\)\.save_pretrained/,
    ],
    ['pytorch_model.bin in parts', folderOf({ 'pytorch_model.bin.index.json': '{}' }), /in parts/, /save_pretrained/],
    ['Flax', folderOf({ 'flax_model.msgpack': '' }), /a Flax model/, /from_flax=True/],
    ['a NumPy archive', npz, /a NumPy archive/, /torch\.save/],
    [
      'ggml already',
      named('a.bin', readFileSync(join(root, 'assets', 'models', 'whisper-tiny.bin')).subarray(0, 4096)),
      /in ggml's format already/,
      /as it is/,
    ],
    ['GGUF', Buffer.from('GGUF\x03\0\0\0'), /a GGUF file/, /PyTorch or safetensors/],
    [
      'a Git LFS pointer',
      Buffer.from('version https://git-lfs.github.com/spec/v1\n'),
      /a Git LFS pointer/,
      /git lfs pull/,
    ],
    ['a web page', Buffer.from('<!doctype html><title>Sign in</title>'), /a web page/, /Download/],
    ['gzip', Buffer.from('\x1f\x8b\x08', 'latin1'), /a gzip archive/, /Unpack/],
    ['zeros', Buffer.alloc(1000), /zero bytes/, /again/],
    ['an empty file', Buffer.alloc(0), /an empty file/, /again/],
    ['text', Buffer.from('hello'), /a file of another kind/, /torch\.save/],
    ['no file', (folder) => join(folder, 'none.pt'), /no such file/, /path/],
    ['an empty folder', folderOf({}), /a folder with no model in it/, /folder with model\.safetensors/],
    ['a folder around the file', folderOf({ 'wpt.pt': 'x' }), /a folder with 'wpt\.pt'/, /path of the file/],
  ];
  for (const [what, content, words, hint] of cases) await refuses(what, content, words, hint);
  await inFolder(async (folder) => {
    const path = named("a'\n.pt", legacy)(folder);
    const { hint } = await failure('a hostile name', () => convertWhisper(path, join(folder, 'o.bin')));
    assert.match(hint, /'a\\x27\\x0a\.pt'/);
  });
});

test('26.16 damaged files: converted whole or refused, and the process goes on', () =>
  inFolder(async (folder) => {
    const below = (i: number, what: number, bound: number) => randomInteger(26, 'whisper-damage', what, 0, i, bound);
    // Of the archive that torch.save wrote, where the damage may be anywhere and every tensor is read.
    const good = readFileSync(GOLDEN_TORCH);
    // Without checksums more of the damage reaches the pickle.
    for (let at = good.indexOf('PK\x01\x02'); at >= 0; at = good.indexOf('PK\x01\x02', at + 1))
      good.fill(0, at + 16, at + 20);
    const path = join(folder, 'torch.pt');
    const kinds = new Set<string>();
    let read = 0;
    for (let i = 0; i < 2000; i++) {
      const content = Buffer.from(good);
      for (let k = below(i, 0, 3); k >= 0; k--) {
        const at = below(i, 1 + 4 * k, content.length);
        const old = content[at] as number;
        content[at] = below(i, 2 + 4 * k, 4) === 0 ? below(i, 3 + 4 * k, 256) : old ^ (1 << below(i, 4 + 4 * k, 8));
      }
      writeFileSync(path, below(i, 20, 10) === 0 ? content.subarray(0, below(i, 21, content.length)) : content);
      const file = new FileBytes(path);
      try {
        const { value } = new TorchCheckpoint(file);
        const state = value instanceof PickleDict ? value.entries.get('model_state_dict') : null;
        if (state instanceof PickleDict) {
          for (const item of state.entries.values())
            if (item instanceof TorchTensor) for (const chunk of item.chunks()) assert.ok(chunk.length <= 2 ** 23);
        }
        read++;
      } catch (error) {
        const { code, message } = error as VoiceGrpoError;
        assert.is(code, 'E_MODEL', `case ${i}: ${(error as Error).stack}`);
        kinds.add(message.slice(path.length).replace(/\d+/g, '').slice(0, 90));
      } finally {
        file.close();
      }
    }
    console.log(`${read} of 2000 read, ${kinds.size} kinds of complaint`);
    assert.ok(read > 100 && kinds.size > 20, `${read} read, ${kinds.size} kinds of complaint`);

    // Of a whole checkpoint, without checksums: in the pickle and the directory, where a change is more than another weight.
    const { state, storages } = pickled(randomWhisper());
    const entries = [py.file(py.dict({ dims: pickledDims(), model_state_dict: py.dict(state) })), ...storages];
    const whole = zip(
      entries.map((content, i) => ({ name: i === 0 ? 'a/data.pkl' : `a/data/${i - 1}`, content, lie: { crc32: 0 } })),
    );
    const model = join(folder, 'wpt.pt');
    const output = join(folder, 'ggml.bin');
    writeFileSync(model, whole);
    const directory = whole.readUInt32LE(whole.length - 6);
    const pickleEnd = 64 + (entries[0] as Buffer).length;
    const file = openSync(model, 'r+');
    let accepted = 0;
    for (let i = 0; i < 300; i++) {
      const place = below(i, 40, pickleEnd + whole.length - directory);
      const at = place < pickleEnd ? place : directory + place - pickleEnd;
      const old = whole[at] as number;
      writeSync(file, bytes(old ^ (1 << below(i, 41, 8))), 0, 1, at);
      try {
        await convertWhisper(model, output);
        const whisper = await loadNative().openWhisper(output);
        whisper.close();
        rmSync(output);
        accepted++;
      } catch (error) {
        assert.is((error as VoiceGrpoError).code, 'E_MODEL', `case ${i}: ${(error as Error).stack}`);
      }
      writeSync(file, bytes(old), 0, 1, at);
      assert.equal(readdirSync(folder).sort(), ['torch.pt', 'wpt.pt'], `case ${i}`);
    }
    closeSync(file);
    console.log(`${accepted} of 300 damaged checkpoints still converted`);
    assert.ok(accepted < 300);
  }));

test('26.17 by the command line: converted to a file, and once into the cache where it is named', () =>
  inFolder(async (folder) => {
    const model = join(folder, 'wpt.pt');
    writeFileSync(model, openAi(randomWhisper()));
    const env = { VOICEGRPO_CACHE: join(folder, 'cache') };
    const written = await runCli(['convert', model, '-o', join(folder, 'ggml.bin'), '--type', 'f16', '--json'], env);
    assert.is(written.code, 0, written.stderr);
    assert.is(JSON.parse(written.stdout).type, 'f16');
    const clip = join(root, 'assets', 'clips', 'ifeval', '000.ogg');
    for (const once of [true, false]) {
      const { stderr } = await runCli(['transcribe', '--model', model, clip], env);
      assert.is(/Converting .*wpt\.pt to whisper\.cpp's format, once\./.test(stderr), once, stderr);
    }
    const [cached, ...others] = readdirSync(join(folder, 'cache', 'converted'));
    assert.is(others.length, 0);
    const bytesOf = (path: string) => readFileSync(join(folder, path));
    assert.ok(bytesOf(join('cache', 'converted', cached as string)).equals(bytesOf('ggml.bin')));
    const refused = await runCli(['convert', join(folder, 'ggml.bin'), '-o', join(folder, 'x.bin')], env);
    assert.is(refused.code, 3, refused.stderr);
    assert.not(existsSync(join(folder, 'x.bin')));
  }));

test.run();
