/**
 * Policy files that are damaged, hostile or something else: each gives one sentence with a next step, code E_MODEL and exit code 3.
 * The bytes themselves (counts, lengths, offsets) are tested in native/tests; here it is the model in them, through the addon.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { presentError } from '../src/errors.js';
import type { BaseType, NativeError } from '../src/native/addon.js';
import { loadNative } from '../src/native/load.js';
import { GOLDEN_MODEL, meta } from './golden/golden.js';

const good = readFileSync(GOLDEN_MODEL);
const root = fileURLToPath(new URL('..', import.meta.url));
const KEY_U32 = 4;
const KEY_F32 = 6;

/** Where the bytes after a name begin. In GGUF a name stands behind its length, so this finds no part of a longer one. */
function after(model: Buffer, name: string): number {
  const stored = Buffer.alloc(8 + name.length);
  stored.writeBigUInt64LE(BigInt(name.length));
  stored.write(name, 8);
  const at = model.indexOf(stored);
  assert.ok(at >= 0, `the golden model has no ${name}`);
  return at + stored.length;
}

type Change = (model: Buffer) => Buffer;

const setInteger =
  (key: string, value: number): Change =>
  (model) => {
    const at = after(model, key);
    assert.is(model.readUInt32LE(at), KEY_U32, key);
    model.writeUInt32LE(value, at + 4);
    return model;
  };

const setReal =
  (key: string, value: number): Change =>
  (model) => {
    const at = after(model, key);
    assert.is(model.readUInt32LE(at), KEY_F32, key);
    model.writeFloatLE(value, at + 4);
    return model;
  };

/** Another name of the same length, so that nothing else moves: what had the old name is missing then. */
const rename =
  (from: string, to: string): Change =>
  (model) => {
    assert.is(from.length, to.length);
    model.write(to, after(model, from) - from.length);
    return model;
  };

/** Dimensions of a tensor of two. */
const reshape =
  (tensor: string, first: number, second: number): Change =>
  (model) => {
    const at = after(model, tensor);
    assert.is(model.readUInt32LE(at), 2, tensor);
    model.writeBigUInt64LE(BigInt(first), at + 4);
    model.writeBigUInt64LE(BigInt(second), at + 12);
    return model;
  };

const retype =
  (tensor: string, type: number): Change =>
  (model) => {
    const at = after(model, tensor);
    model.writeUInt32LE(type, at + 4 + 8 * model.readUInt32LE(at));
    return model;
  };

/** First byte of the tensor data: behind the last description, at a multiple of 32. */
function dataStart(model: Buffer): number {
  const ends = ['token_embd.weight', 'output_norm.weight'].concat(
    ...Array.from({ length: 7 }, (_, layer) =>
      [
        ...['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down'],
        ...['attn_norm', 'attn_q_norm', 'attn_k_norm', 'post_attention_norm', 'ffn_norm', 'post_ffw_norm'],
      ].map((name) => `blk.${layer}.${name}.weight`),
    ),
  );
  const last = Math.max(
    ...ends.map((name) => after(model, name) + 4 + 8 * model.readUInt32LE(after(model, name)) + 12),
  );
  return Math.ceil(last / 32) * 32;
}

/** One weight of a tensor; the golden model stores f32. */
const setWeight =
  (tensor: string, index: number, value: number) =>
  (model: Buffer): Buffer => {
    const at = after(model, tensor);
    const offset = Number(model.readBigUInt64LE(at + 8 + 8 * model.readUInt32LE(at)));
    model.writeFloatLE(value, dataStart(model) + offset + 4 * index);
    return model;
  };

async function withFile<T>(content: Buffer, use: (path: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'voicegrpo-model-'));
  try {
    const path = join(folder, 'model.gguf');
    writeFileSync(path, content);
    return await use(path);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Opens the file, which must fail in the form that every model file error has; `words` must be in the message. */
async function refuses(what: string, path: string, words: RegExp, type: BaseType = 'f32'): Promise<void> {
  let error: NativeError | undefined;
  try {
    const policy = await loadNative().openPolicy(path, { type, threads: 1 });
    policy.close();
  } catch (caught) {
    error = caught as NativeError;
  }
  if (!error) throw new Error(`${what}: the file was accepted`);
  assert.is(error.code, 'E_MODEL', `${what}: ${error.code}: ${error.message}`);
  assert.match(error.message, words, what);
  assert.ok(error.message.startsWith(path), `${what}: the message does not name the file: ${error.message}`);
  assert.not.match(error.message, /\n/, what);
  assert.ok(error.hint.length > 0, `${what}: no next step: ${error.message}`);
  const shown = presentError(error);
  assert.is(shown.exitCode, 3, what);
  assert.not.match(shown.text, /\n\s+at /, `${what}: a stack is shown`);
}

const refusesAll = async (cases: [string, Change, RegExp][]): Promise<void> => {
  for (const [what, change, words] of cases) {
    await withFile(change(Buffer.from(good)), (path) => refuses(what, path, words));
  }
};

test('25.1 the golden model itself is accepted', () =>
  withFile(Buffer.from(good), async (path) => {
    const policy = await loadNative().openPolicy(path, { type: 'f32', threads: 1 });
    assert.is(policy.info.layers, 7);
    policy.close();
  }));

test('25.2 hyper-parameters that no model has', () =>
  refusesAll([
    ['another architecture', rename('gemma3', 'gemma2'), /expected a Gemma 3 model .*found "gemma2"/],
    ['an architecture of control characters', rename('gemma3', '\x1b[31m\n'), /found "\\x1b\[31m\\x0a"/],
    ['no heads', setInteger('gemma3.attention.head_count', 0), /head_count is 0/],
    ['four billion heads', setInteger('gemma3.attention.head_count', 0xffffffff), /head_count is 4294967295/],
    ['no key/value heads', setInteger('gemma3.attention.head_count_kv', 0), /head_count_kv is 0/],
    ['heads that cannot be shared', setInteger('gemma3.attention.head_count_kv', 3), /4 heads cannot share 3/],
    ['an odd head size', setInteger('gemma3.attention.key_length', 31), /key_length is 31, expected an even number/],
    ['another value size', setInteger('gemma3.attention.value_length', 16), /value_length is 16/],
    ['no layers', setInteger('gemma3.block_count', 0), /block_count is 0/],
    ['a billion layers', setInteger('gemma3.block_count', 1e9), /block_count is 1000000000/],
    ['one layer too many', setInteger('gemma3.block_count', 8), /tensor blk\.7\.\S+ is missing/],
    [
      'one layer too few',
      setInteger('gemma3.block_count', 6),
      /"blk\.6\.\S+" belongs to a layer past gemma3\.block_count/,
    ],
    ['no width', setInteger('gemma3.embedding_length', 0), /embedding_length is 0/],
    [
      'another width',
      setInteger('gemma3.embedding_length', 63),
      /tensor token_embd\.weight has shape \[64, 331\], expected \[63/,
    ],
    ['an absurd width', setInteger('gemma3.embedding_length', 0xffffffff), /embedding_length is 4294967295/],
    ['an absurd inner width', setInteger('gemma3.feed_forward_length', 0xfffffff), /feed_forward_length is/],
    ['no context', setInteger('gemma3.context_length', 0), /context_length is 0/],
    ['an absurd window', setInteger('gemma3.attention.sliding_window', 0xffffffff), /sliding_window is 4294967295/],
    ['an epsilon of 0', setReal('gemma3.attention.layer_norm_rms_epsilon', 0), /epsilon is 0/],
    [
      'an epsilon of NaN',
      setReal('gemma3.attention.layer_norm_rms_epsilon', Number.NaN),
      /epsilon is not a finite number/,
    ],
    ['a RoPE base of 0', setReal('gemma3.rope.freq_base', 0), /freq_base is 0/],
    [
      'an infinite RoPE base',
      setReal('gemma3.rope.freq_base_swa', Number.POSITIVE_INFINITY),
      /freq_base_swa is not a finite/,
    ],
    [
      'a missing hyper-parameter',
      rename('gemma3.block_count', 'gemma3.block_cound'),
      /the key gemma3\.block_count is missing/,
    ],
  ]));

test('25.3 tensors that do not fit', () =>
  refusesAll([
    ['no embedding', rename('token_embd.weight', 'token_embx.weight'), /token_embd\.weight is missing/],
    ['no projection', rename('blk.2.ffn_up.weight', 'blk.2.ffn_ux.weight'), /tensor blk\.2\.ffn_up\.weight is missing/],
    ['no norm', rename('output_norm.weight', 'output_norx.weight'), /tensor output_norm\.weight is missing/],
    [
      'a transposed projection',
      reshape('blk.1.attn_q.weight', 128, 64),
      /blk\.1\.attn_q\.weight has shape \[128, 64\], expected \[64, 128\]/,
    ],
    ['a smaller projection', reshape('blk.6.ffn_down.weight', 96, 32), /blk\.6\.ffn_down\.weight has shape \[96, 32\]/],
    [
      'an embedding of fewer tokens',
      reshape('token_embd.weight', 64, meta.vocab - 1),
      /the tokenizer has \d+ tokens, the embedding only/,
    ],
    ['a tensor past the end', reshape('blk.1.attn_q.weight', 64, 1 << 20), /needs \d+ bytes at offset/],
    [
      'weights of whole numbers',
      retype('blk.3.ffn_up.weight', 26),
      /blk\.3\.ffn_up\.weight has type i32, which holds no weights/,
    ],
    ['an unknown type', retype('blk.3.ffn_up.weight', 99), /unknown type 99/],
  ]));

test('25.4 weights that are no numbers, or too large for the type asked for', async () => {
  const places = ['token_embd.weight', 'output_norm.weight', 'blk.0.attn_q_norm.weight', 'blk.3.ffn_up.weight'];
  const values: [number, BaseType, RegExp][] = [
    [Number.NaN, 'f32', /holds NaN or infinity/],
    [Number.NaN, 'auto', /holds NaN or infinity/],
    [Number.NEGATIVE_INFINITY, 'q8_0', /holds NaN or infinity/],
  ];
  for (const name of places) {
    for (const [value, type, words] of values) {
      const content = setWeight(name, 7, value)(Buffer.from(good));
      await withFile(content, (path) => refuses(`${value} in ${name} as ${type}`, path, words, type));
      await withFile(content, (path) =>
        refuses(`${value} in ${name}`, path, new RegExp(name.replaceAll('.', '\\.')), type),
      );
    }
  }
  const large = setWeight('blk.3.ffn_up.weight', 7, 1e5)(Buffer.from(good));
  await withFile(large, (path) =>
    refuses('100,000 as f16', path, /blk\.3\.ffn_up\.weight holds values too large for f16/, 'f16'),
  );
});

test('25.5 a tokenizer that is missing or broken', () =>
  refusesAll([
    [
      'no tokenizer',
      rename('tokenizer.ggml.model', 'tokenizer.ggml.modex'),
      /has no tokenizer that can be used: the key tokenizer\.ggml\.model/,
    ],
    [
      'no tokens',
      rename('tokenizer.ggml.tokens', 'tokenizer.ggml.tokenx'),
      /the key tokenizer\.ggml\.tokens is missing/,
    ],
    [
      'no scores',
      rename('tokenizer.ggml.scores', 'tokenizer.ggml.scorex'),
      /the key tokenizer\.ggml\.scores is missing/,
    ],
    ['another kind of tokenizer', rename('llama', 'gpt-2'), /of the kind "gpt-2", expected SentencePiece/],
    [
      'a token past the vocabulary',
      setInteger('tokenizer.ggml.bos_token_id', meta.vocab),
      /bos_token_id is 331, the vocabulary has 331/,
    ],
  ]));

test('25.6 files that are no model', async () => {
  const cases: [string, Buffer, RegExp][] = [
    ['empty', Buffer.alloc(0), /the file is empty/],
    ['cut in the metadata', good.subarray(0, 300), /the file ends inside|claims/],
    ['cut in the weights', good.subarray(0, good.length - 1000), /needs \d+ bytes at offset/],
    [
      'a Git LFS pointer',
      Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:0\n'),
      /found a Git LFS pointer/,
    ],
    ['a web page', Buffer.from('<!doctype html><title>Sign in</title>'), /found a web page/],
    [
      'a billion tensors',
      Buffer.concat([good.subarray(0, 8), Buffer.from([0, 0xca, 0x9a, 0x3b, 0, 0, 0, 0]), good.subarray(16)]),
      /claims 1000000000 tensors/,
    ],
  ];
  for (const [what, content, words] of cases) await withFile(content, (path) => refuses(what, path, words));
  await refuses('missing', join(tmpdir(), 'voicegrpo-no-such-model.gguf'), /there is no such model file/);
  await refuses('a folder', tmpdir(), /found a folder/);
  await refuses(
    'a Whisper model',
    join(root, 'assets', 'models', 'whisper-tiny.bin'),
    /found a ggml file, perhaps a Whisper model/,
  );
});

test('25.7 a thousand damaged models: read or refused, and the process goes on', async () => {
  // A generator of fixed numbers (Lehmer), so that a failure comes again.
  let state = 20240501;
  const below = (n: number): number => {
    state = (state * 48271) % 0x7fffffff;
    return state % n;
  };
  let accepted = 0;
  const refused = new Set<string>();
  const start = dataStart(good);
  for (let i = 0; i < 1000; i++) {
    const content = Buffer.from(good);
    // In the metadata and descriptions: a changed weight is only another model.
    for (let k = below(3); k >= 0; k--)
      content[below(start)] = below(4) === 0 ? below(256) : (content[below(start)] as number) ^ (1 << below(8));
    await withFile(content, async (path) => {
      try {
        const policy = await loadNative().openPolicy(path, { type: 'f32', threads: 1 });
        policy.detokenize(policy.tokenize('a <bos> é', { addBos: true, parseSpecial: true }), { special: true });
        policy.close();
        accepted++;
      } catch (error) {
        const { code, message } = error as NativeError;
        assert.is(code, 'E_MODEL', `case ${i}: ${message}`);
        refused.add(message.slice(path.length).replace(/\d+/g, '').slice(0, 24));
      }
    });
  }
  assert.ok(accepted > 50 && refused.size > 20, `${accepted} accepted, ${refused.size} kinds of complaint`);
});

test('25.8 the command ends with exit code 3 and a sentence, and leaves no run behind', async () => {
  const content = setWeight('blk.3.ffn_up.weight', 7, Number.NaN)(Buffer.from(good));
  await withFile(content, async (path) => {
    const run = join(path, '..', 'run');
    const args = ['--import', 'tsx', 'src/cli.ts', 'train', '--config', 'tiny', '--model', path, '--output-dir', run];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, {
      cwd: root,
      encoding: 'utf8',
      timeout: 120_000,
    });
    assert.is(status, 3, stderr);
    assert.is(stdout, '');
    assert.match(stderr, /blk\.3\.ffn_up\.weight holds NaN or infinity\./);
    assert.not.match(stderr, /\n\s+at /);
    assert.not.ok(existsSync(run));
  });
});

test.run();
