/** The parts of an export: GGUF files read as they are, quantized rows, tokenizer.json from a vocabulary. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type GgufValue, writeGguf } from '../src/formats/gguf.js';
import { GgufEntries } from '../src/formats/gguf-entries.js';
import { decodeFloats, decodeQ8, encodeFloats, GGUF_TENSOR_TYPES, tensorBytes } from '../src/formats/gguf-types.js';
import { readSafetensors } from '../src/formats/safetensors.js';
import { writeSafetensorsFile } from '../src/formats/safetensors-file.js';
import { PIECE, type Piece, piecesOfTokenizer } from '../src/formats/sentencepiece.js';
import { tokenizerJson } from '../src/formats/tokenizer-json.js';
import type { NativeError } from '../src/native/addon.js';
import { loadNative } from '../src/native/load.js';
import { BUNDLED_POLICY } from '../src/run/inputs.js';
import { floats, readGguf } from './golden/gguf.js';
import { GOLDEN_MODEL } from './golden/golden.js';

const native = loadNative();
const scratch = mkdtempSync(join(tmpdir(), 'voicegrpo-gguf-'));

/** Values of different sizes, the same in every run. */
const numbers = (count: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(i * 12.9898) * (1 + (i % 11)));

test('every tensor of a file comes as another reader reads it, in any rows', async () => {
  const golden = readGguf(readFileSync(GOLDEN_MODEL));
  using file = await native.openGguf(GOLDEN_MODEL);
  assert.equal(
    file.tensors.map(({ name }) => name),
    [...golden.tensors.keys()],
  );
  for (const { name, shape } of file.tensors) {
    const expected = golden.tensors.get(name);
    assert.ok(expected);
    assert.equal([...shape].reverse(), expected.dims, name);
    const length = shape.at(-1) as number;
    const rows = shape.reduce((a, b) => a * b, 1) / length;
    const all = floats(expected);
    assert.equal(file.readRows(name, 0, rows), all, name);
    assert.equal(file.readRows(name, rows - 1, 1), all.slice(-length), name);
    assert.is(file.readRows(name, rows, 0).length, 0);
  }
});

test('metadata of every kind is read, and goes into another file as it is', async () => {
  const golden = readGguf(readFileSync(GOLDEN_MODEL));
  using file = await native.openGguf(GOLDEN_MODEL);
  const entries = new GgufEntries(file.entries);
  const copy = join(scratch, 'copy.gguf');
  const values = new Map<string, GgufValue>(entries.encoded());
  values.set('test.i32s', { kind: 'i32s', value: Int32Array.of(-3, 7) });
  values.set('test.f32', { kind: 'f32', value: 0.5 });
  values.set('test.bool', { kind: 'bool', value: true });
  await writeGguf(copy, values, []);
  using again = await native.openGguf(copy);
  for (const read of [entries, new GgufEntries(again.entries)]) {
    for (const [key, value] of golden.values) {
      if (typeof value === 'string') assert.is(read.string(key), value, key);
      else if (typeof value === 'number' || typeof value === 'boolean') assert.is(read.number(key), Number(value), key);
      else if (typeof (value as unknown[])[0] === 'string') assert.equal(read.strings(key), value, key);
      else assert.equal(read.numbers(key), [...(value as number[])].map(Number), key);
    }
  }
  const own = new GgufEntries(again.entries);
  assert.equal(own.numbers('test.i32s'), [-3, 7]);
  assert.is(own.number('test.f32'), 0.5);
  assert.is(own.number('test.bool'), 1);
  assert.is(own.number('no.such.key'), null);
  assert.is(own.string('test.f32'), null);
  assert.is(own.strings('test.i32s'), null);
  assert.is(own.numbers('tokenizer.ggml.tokens'), null);
});

test('quantized rows: q8_0 as it is written elsewhere, the others close to what went in', async () => {
  const values = numbers(4 * 512);
  const bytes = new Uint8Array(tensorBytes('q8_0', values.length));
  encodeFloats('q8_0', values, bytes);
  assert.equal(native.quantizeRows('q8_0', values, 512), bytes);
  const decoded = new Float32Array(values.length);
  decodeQ8(bytes, decoded);
  for (const [type, bound] of [
    ['q8_0', 5e-3],
    ['q6_K', 3e-2],
    ['q5_0', 6e-2],
    ['q4_K', 9e-2],
  ] as const) {
    const path = join(scratch, `${type}.gguf`);
    const rows = native.quantizeRows(type, values, 512);
    assert.is(rows.length, (values.length / GGUF_TENSOR_TYPES[type].block) * GGUF_TENSOR_TYPES[type].bytes, type);
    const tensor = {
      name: 'x',
      shape: [4, 512],
      type,
      pieces: async function* () {
        yield rows;
      },
    };
    await writeGguf(path, new Map(), [tensor]);
    using file = await native.openGguf(path);
    assert.is(file.tensors[0]?.type, type);
    const back = file.readRows('x', 0, 4);
    if (type === 'q8_0') assert.equal(back, decoded);
    const worst = Math.max(...back.map((value, i) => Math.abs(value - (values[i] as number)))) / 11;
    console.log(`  ${type}: ${worst.toExponential(1)} of ${bound}`);
    assert.ok(worst > 0 && worst < bound, `${type} ${worst}`);
  }
});

test('what cannot be read or quantized is told', async () => {
  const told = async (f: () => unknown): Promise<string> => {
    try {
      await f();
      return 'nothing';
    } catch (error) {
      return `${(error as NativeError).code} ${(error as Error).message}`;
    }
  };
  assert.match(await told(() => native.openGguf(join(scratch, 'none.gguf'))), /^E_MODEL .*none\.gguf/);
  const text = join(scratch, 'text.gguf');
  writeFileSync(text, 'not a model');
  assert.match(await told(() => native.openGguf(text)), /^E_MODEL .*expected a GGUF model/);
  const file = await native.openGguf(BUNDLED_POLICY);
  assert.match(await told(() => file.readRows('nothing', 0, 1)), /has no tensor "nothing"/);
  assert.match(await told(() => file.readRows('output_norm.weight', 0, 2)), /which has 1/);
  assert.match(await told(() => file.readRows('output_norm.weight', -1, 1)), /`row` must be a whole number/);
  assert.match(await told(() => file.readRows('output_norm.weight', 0, 0.5)), /`rows` must be a whole number/);
  assert.match(await told(() => file.readRows('token_embd.weight', 2 ** 52, 2 ** 52)), /E_ARGUMENT/);
  file.close();
  file.close();
  assert.match(await told(() => file.readRows('output_norm.weight', 0, 1)), /^E_CLOSED/);
  assert.match(await told(() => file.tensors), /^E_CLOSED/);
  for (const type of ['q3_k_xl', 'f16', 'iq2_xxs', 'q8_1', 'q8_K', 'q1_0', 'tq1_0']) {
    assert.match(await told(() => native.quantizeRows(type, numbers(256), 256)), /^E_ARGUMENT .*expected q8_0/, type);
  }
  assert.match(await told(() => native.quantizeRows('q4_K', numbers(320), 32)), /multiple of 256/);
  assert.match(await told(() => native.quantizeRows('q8_0', numbers(65), 32)), /whole rows/);
  assert.match(
    await told(() => native.quantizeRows('q8_0', Float32Array.of(...numbers(31), Number.NaN), 32)),
    /^E_NUMERIC/,
  );
});

for (const [name, path] of [
  ['the bundled policy', BUNDLED_POLICY],
  ['the golden model', GOLDEN_MODEL],
  ['the golden tokenizer', fileURLToPath(new URL('golden/tokenizer.gguf', import.meta.url))],
] as const) {
  test(`${name}: its vocabulary as tokenizer.json is read as the same vocabulary`, async () => {
    using file = await native.openGguf(path);
    const entries = new GgufEntries(file.entries);
    const texts = entries.strings('tokenizer.ggml.tokens') as string[];
    const scores = entries.numbers('tokenizer.ggml.scores') as number[];
    const types = entries.numbers('tokenizer.ggml.token_type') as number[];
    const pieces = texts.map((text, id): Piece => ({ text, score: scores[id] as number, type: types[id] as number }));
    const made = JSON.parse(JSON.stringify(tokenizerJson(pieces, { begin: 2, unknown: 3 })));
    assert.is(made.post_processor.single[0].SpecialToken.id, texts[2]);
    assert.is(tokenizerJson(pieces, { begin: null, unknown: null }).post_processor, null);
    const back = piecesOfTokenizer(made, texts.length) as Piece[];
    const normal = (list: readonly Piece[]) =>
      list.map(({ text, score, type }, id) => ({ id, text, score, type })).filter(({ type }) => type === PIECE.normal);
    for (const [id, piece] of back.entries()) {
      // A run of spaces is written either way.
      const text = texts[id] as string;
      assert.is(piece.text, types[id] === PIECE.userDefined ? text.replaceAll('\u2581', ' ') : text, `${id}`);
      // What is never made by merging is one kind in tokenizer.json.
      const kind = (type: number) => (type === PIECE.unused || type === PIECE.unknown ? PIECE.control : type);
      assert.is(kind(piece.type), kind(types[id] as number), `${id} ${piece.text}`);
    }
    // Of two merges the same one comes first. Pieces that nothing is merged to have no place in that order.
    const merged = new Set((made.model.merges as [string, string][]).map(([left, right]) => left + right));
    const order = (list: readonly Piece[]) =>
      normal(list)
        .filter(({ text }) => merged.has(text))
        .sort((a, b) => b.score - a.score || a.id - b.id)
        .map(({ id }) => id);
    assert.ok(order(pieces).length > 10);
    assert.equal(order(back), order(pieces));
  });
}

test('safetensors written tensor by tensor are read as they were; a tensor of another length is refused', async () => {
  const path = join(scratch, 'x.safetensors');
  const data = numbers(6);
  async function* pieces() {
    yield new Uint8Array(data.buffer, 0, 8);
    yield new Uint8Array(data.buffer, 8);
  }
  const seen: number[] = [];
  const tensor = { name: 'a', dtype: 'F32' as const, shape: [2, 3], pieces };
  await writeSafetensorsFile(path, [tensor], { format: 'pt' }, { progress: (written) => seen.push(written) });
  const { tensors, metadata } = readSafetensors(readFileSync(path));
  assert.equal(tensors.get('a'), { shape: [2, 3], data });
  assert.equal(metadata, { format: 'pt' });
  assert.equal(seen, [8, 24]);
  try {
    await writeSafetensorsFile(join(scratch, 'y'), [{ ...tensor, shape: [2, 4] }], {});
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /tensor a has 32 bytes, 24 came/);
  }
});

test('f16 and bf16 are decoded as they were encoded', () => {
  const values = numbers(100);
  for (const type of ['f16', 'bf16'] as const) {
    const bytes = new Uint8Array(200);
    const back = new Float32Array(100);
    const again = new Uint8Array(200);
    encodeFloats(type, values, bytes);
    decodeFloats(type === 'f16' ? 'F16' : 'BF16', bytes, back);
    encodeFloats(type, back, again);
    assert.equal(again, bytes);
  }
});

test.run();
