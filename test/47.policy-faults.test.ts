/** What a caller can get wrong with the policy engine, and what can happen to it: arguments, limits, NaN, closing, aborting. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { GradientRequest, NativeError, NativePolicy, RolloutRequest } from '../src/native/addon.js';
import { loadNative } from '../src/native/load.js';
import {
  flatten,
  GOLDEN_MODEL,
  golden,
  goldenAdapter,
  maxRelative,
  meta,
  packedRequest,
  rolloutRequest,
} from './golden/golden.js';

const open = () => loadNative().openPolicy(GOLDEN_MODEL, { type: 'f32', threads: 2 });

async function withPolicy(use: (policy: NativePolicy) => Promise<void>): Promise<void> {
  const policy = await open();
  try {
    await use(policy);
  } finally {
    policy.close();
  }
}

/** The error that `run` throws or rejects with; none is a failure. */
async function failure(what: string, run: () => unknown): Promise<NativeError> {
  try {
    await run();
  } catch (error) {
    assert.instance(error, Error, what);
    return error as NativeError;
  }
  throw new Error(`${what}: no error came`);
}

async function fails(
  what: string,
  code: string | string[],
  run: () => unknown,
  message?: RegExp,
): Promise<NativeError> {
  const error = await failure(what, run);
  assert.ok([code].flat().includes(error.code), `${what}: ${error.code}: ${error.message}`);
  assert.type(error.hint, 'string', what);
  if (message) assert.match(error.message, message, what);
  return error;
}

const gradientRequest = (policy: NativePolicy): GradientRequest => ({
  ...packedRequest(null, 1),
  adapter: goldenAdapter(policy),
  advantages: Float32Array.from(golden('advantages')),
  weights: Float32Array.from(golden('weights.off_policy_dapo')),
  oldLogProbs: null,
  refLogProbs: null,
  epsilon: 0.2,
  epsilonHigh: 0.28,
  beta: 0,
});

test('47.1 wrong arguments of a rollout', () =>
  withPolicy(async (policy) => {
    const wrong: [string, Partial<RolloutRequest>][] = [
      ['prompt lengths that do not add up', { promptLengths: Int32Array.of(5, 14, 40) }],
      ['an empty prompt', { promptLengths: Int32Array.of(0, 19, 41) }],
      ['a negative prompt length', { promptLengths: Int32Array.of(-1, 20, 41) }],
      [
        'no prompt',
        { promptTokens: new Int32Array(0), promptLengths: new Int32Array(0), promptKeys: new Uint32Array(0) },
      ],
      ['too few keys', { promptKeys: Uint32Array.of(1) }],
      ['a token past the vocabulary', { promptTokens: flatten(meta.prompts).promptTokens.fill(meta.vocab, 3, 4) }],
      ['a negative token', { promptTokens: flatten(meta.prompts).promptTokens.fill(-1, 3, 4) }],
      ['no completion', { numGenerations: 0 }],
      ['a fraction of a completion', { numGenerations: 1.5 }],
      ['no token', { maxCompletionLength: 0 }],
      ['a negative temperature', { temperature: -1 }],
      ['temperature NaN', { temperature: Number.NaN }],
      ['top-p 0', { topP: 0 }],
      ['top-p above 1', { topP: 1.01 }],
      ['a negative top-k', { topK: -1 }],
      ['a wrong type', { promptTokens: new Float32Array(60) as unknown as Int32Array }],
      ['an empty stop string', { stopStrings: [''] }],
      ['a missing field', { stopTokens: undefined as unknown as Int32Array }],
    ];
    for (const [what, change] of wrong)
      await fails(what, 'E_ARGUMENT', () => policy.rollout(rolloutRequest(null, change)));
    await fails('no request', 'E_ARGUMENT', () => policy.rollout(undefined as unknown as RolloutRequest));
    // The engine is as it was.
    assert.is((await policy.rollout(rolloutRequest(null))).lengths.length, 9);
  }));

test('47.2 wrong arguments of the training pass', () =>
  withPolicy(async (policy) => {
    const right = gradientRequest(policy);
    const wrong: [string, Partial<GradientRequest>][] = [
      ['tokens of another size', { tokens: right.tokens.subarray(1) }],
      ['a completion longer than its row', { lengths: Int32Array.from(meta.lengths).fill(13, 0, 1) }],
      ['a negative length', { lengths: Int32Array.from(meta.lengths).fill(-1, 0, 1) }],
      ['a completion token past the vocabulary', { tokens: Int32Array.from(right.tokens).fill(meta.vocab, 0, 1) }],
      ['too few advantages', { advantages: right.advantages.subarray(1) }],
      ['too few weights', { weights: right.weights.subarray(1) }],
      ['old log-probabilities of another size', { oldLogProbs: new Float32Array(7) }],
      ['beta without reference', { beta: 0.1 }],
      ['no adapter', { adapter: null as unknown as GradientRequest['adapter'] }],
      ['temperature 0', { temperature: 0 }],
      ['epsilon NaN', { epsilon: Number.NaN }],
    ];
    for (const [what, change] of wrong)
      await fails(what, 'E_ARGUMENT', () => policy.accumulateGradient({ ...right, ...change }));
    const nan = Float32Array.from(right.advantages).fill(Number.NaN, 2, 3);
    await fails('advantage NaN', ['E_ARGUMENT', 'E_NUMERIC'], () =>
      policy.accumulateGradient({ ...right, advantages: nan }),
    );
    assert.ok(
      right.adapter.tensors.every((t) => t.gradient.every((x) => x === 0)),
      'a refused request leaves the gradient alone',
    );
    const options = { rank: 4, alpha: 8, targetModules: meta.target_modules, seed: 0 };
    for (const [what, change] of [
      ['rank 0', { rank: 0 }],
      ['alpha NaN', { alpha: Number.NaN }],
      ['no module', { targetModules: [] }],
      ['an unknown module', { targetModules: ['qproj'] }],
    ] as const) {
      await fails(what, 'E_ARGUMENT', () => policy.createAdapter({ ...options, ...change } as typeof options));
    }
  }));

test("47.3 a request past the model's context", () =>
  withPolicy(async (policy) => {
    await fails('rollout', 'E_LIMIT', () => policy.rollout(rolloutRequest(null, { maxCompletionLength: 216 })), /256/);
    // 41 + 215 is the context exactly.
    const most = await policy.rollout(rolloutRequest(null, { numGenerations: 1, maxCompletionLength: 215 }));
    assert.equal([...most.lengths], [215, 215, 215]);
    const length = 250;
    await fails('training pass', 'E_LIMIT', () =>
      policy.logProbs({
        ...packedRequest(null, 1),
        maxCompletionLength: length,
        tokens: new Int32Array(9 * length).fill(7),
        lengths: new Int32Array(9).fill(length),
      }),
    );
  }));

test('47.4 files that are not there or not models', async () => {
  await fails(
    'no file',
    'E_MODEL',
    () => loadNative().openPolicy('no-such-file.gguf', { type: 'f32', threads: 1 }),
    /no-such-file\.gguf/,
  );
  await fails('a folder', 'E_MODEL', () => loadNative().openPolicy(tmpdir(), { type: 'f32', threads: 1 }));
  await fails('JSON', 'E_MODEL', () =>
    loadNative().openPolicy(GOLDEN_MODEL.replace('.gguf', '.json'), { type: 'f32', threads: 1 }),
  );
  await fails('a wrong type', 'E_ARGUMENT', () =>
    loadNative().openPolicy(GOLDEN_MODEL, { type: 'q2' as 'f32', threads: 1 }),
  );
  await fails('no thread', 'E_ARGUMENT', () => loadNative().openPolicy(GOLDEN_MODEL, { type: 'f32', threads: 0 }));
});

test('47.5 NaN among the weights', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'voicegrpo-'));
  try {
    const file = readFileSync(GOLDEN_MODEL);
    // After a tensor's name: dimensions (u32), each size (u64), type (u32), offset (u64) from the start of the data.
    const tensorStart = (name: string): number => {
      const at = file.indexOf(name) + name.length;
      return Number(file.readBigUInt64LE(at + 4 + 8 * file.readUInt32LE(at) + 4));
    };
    // Every size is a multiple of the alignment, so the data is the end of the file without a gap.
    const layer = 4 * 64 + 2 * 32 + 2 * 64 * 128 + 2 * 64 * 64 + 3 * 64 * 96;
    const dataStart = file.length - 4 * (64 + 64 * meta.vocab + 7 * layer);
    for (const name of ['blk.2.ffn_up.weight', 'token_embd.weight', 'blk.4.attn_q_norm.weight']) {
      const copy = Buffer.from(file);
      const sizes = {
        'blk.2.ffn_up.weight': 64 * 96,
        'token_embd.weight': 64 * meta.vocab,
        'blk.4.attn_q_norm.weight': 32,
      };
      copy.writeFloatLE(Number.NaN, dataStart + tensorStart(name) + 4 * (sizes[name as keyof typeof sizes] - 5));
      const path = join(folder, 'nan.gguf');
      writeFileSync(path, copy);
      const use = async () => {
        const policy = await loadNative().openPolicy(path, { type: 'f32', threads: 1 });
        await policy.rollout(rolloutRequest(null));
      };
      await fails(name, ['E_NUMERIC', 'E_MODEL'], use, new RegExp(name.replaceAll('.', '\\.')));
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('47.6 NaN in the adapter', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const tensor = adapter.tensors.find((t) => t.name === 'model.layers.3.self_attn.o_proj.lora_B.weight');
    assert.ok(tensor);
    tensor.data[5] = Number.NaN;
    await fails('log-probabilities', 'E_NUMERIC', () => policy.logProbs(packedRequest(adapter, 1)));
    await fails('rollout', 'E_NUMERIC', () => policy.rollout(rolloutRequest(adapter)));
    await fails('gradient', 'E_NUMERIC', () => policy.accumulateGradient({ ...gradientRequest(policy), adapter }));
    const other = goldenAdapter(policy);
    (other.tensors[0] as (typeof other.tensors)[0]).gradient[0] = Number.NaN;
    const before = other.tensors.map((t) => Float32Array.from(t.data));
    const options = { learningRate: 1e-3, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0, maxGradNorm: 0.1 };
    await fails('update', 'E_NUMERIC', () => other.step(options));
    assert.equal(
      other.tensors.map((t) => Float32Array.from(t.data)),
      before,
      'a refused update changes nothing',
    );
  }));

test('47.7 closed handles', async () => {
  const policy = await open();
  const adapter = goldenAdapter(policy);
  const closed = goldenAdapter(policy);
  closed.close();
  closed.close();
  await fails('tensors of a closed adapter', 'E_CLOSED', () => closed.tensors);
  await fails('zeroGradient of a closed adapter', 'E_CLOSED', () => closed.zeroGradient());
  await fails('rollout with a closed adapter', 'E_CLOSED', () => policy.rollout(rolloutRequest(closed)));
  policy.close();
  policy.close();
  await fails('tokenize', 'E_CLOSED', () => policy.tokenize('a', { addBos: true, parseSpecial: false }));
  await fails('rollout', 'E_CLOSED', () => policy.rollout(rolloutRequest(null)));
  await fails('logProbs', 'E_CLOSED', () => policy.logProbs(packedRequest(null, 1)));
  await fails('createAdapter', 'E_CLOSED', () =>
    policy.createAdapter({ rank: 1, alpha: 1, targetModules: ['q_proj'], seed: 0 }),
  );
  // The policy's memory outlives its children: the adapter still has its arrays.
  assert.is(adapter.tensors.length, 98);
  adapter.zeroGradient();
  adapter[Symbol.dispose]();
  await fails('a disposed adapter', 'E_CLOSED', () => adapter.zeroGradient());
});

test('47.8 views outlive the adapter they came from', async () => {
  const policy = await open();
  let data = (() => {
    const adapter = goldenAdapter(policy);
    const views = adapter.tensors.map((t) => t.data);
    adapter.close();
    policy.close();
    return views;
  })();
  for (let i = 0; i < 20; i++) new Float32Array(1 << 20).fill(i);
  assert.ok(data.every((view) => view.length === 0 || view.every(Number.isFinite)));
  data = [];
});

test('47.9 closing while a call runs', async () => {
  const policy = await open();
  const adapter = goldenAdapter(policy);
  const running = policy.rollout(rolloutRequest(adapter, { numGenerations: 64, maxCompletionLength: 150 })).then(
    (result) => result.lengths.length,
    (error: NativeError) => error.code,
  );
  adapter.close();
  policy.close();
  const outcome = await running;
  assert.ok(outcome === 192 || outcome === 'E_CLOSED' || outcome === 'E_ABORTED', String(outcome));
});

test('47.10 an AbortSignal ends a rollout and a gradient', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const before = await policy.logProbs(packedRequest(adapter, 1));
    await fails('aborted beforehand', 'E_ABORTED', () => policy.rollout(rolloutRequest(adapter), AbortSignal.abort()));
    const long = rolloutRequest(adapter, { numGenerations: 1500, maxCompletionLength: 210 });
    const start = performance.now();
    await fails('rollout', 'E_ABORTED', () => policy.rollout(long, AbortSignal.timeout(30)));
    const tokens = new Int32Array(9 * 100 * 200).fill(300);
    const big: GradientRequest = {
      ...gradientRequest(policy),
      adapter,
      numGenerations: 300,
      tokens,
      maxCompletionLength: 200,
      lengths: new Int32Array(900).fill(200),
      advantages: new Float32Array(900).fill(1),
      weights: new Float32Array(900).fill(1e-3),
    };
    await fails('gradient', 'E_ABORTED', () => policy.accumulateGradient(big, AbortSignal.timeout(30)));
    const seconds = (performance.now() - start) / 1000;
    assert.ok(seconds < 10, `${seconds} s until both had ended`);
    const after = await policy.logProbs(packedRequest(adapter, 1));
    assert.is(maxRelative(after.logProbs, before.logProbs), 0);
  }));

test('47.11 calls at the same time do not disturb each other', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const alone = [
      await policy.rollout(rolloutRequest(adapter)),
      await policy.rollout(rolloutRequest(null, { seed: 5 })),
    ];
    const packed = await policy.logProbs(packedRequest(adapter, 1));
    const [a, b, c] = await Promise.all([
      policy.rollout(rolloutRequest(adapter)),
      policy.rollout(rolloutRequest(null, { seed: 5 })),
      policy.logProbs(packedRequest(adapter, 1)),
    ]);
    assert.equal(a.tokens, alone[0]?.tokens);
    assert.equal(b.tokens, alone[1]?.tokens);
    assert.equal(c.logProbs, packed.logProbs);
  }));

test.run();
