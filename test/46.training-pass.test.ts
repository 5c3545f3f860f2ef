/** The packed training pass of the golden model: what its results must not depend on, the adapter's arrays, storage types. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { GradientRequest, NativeAdapter, NativePolicy, PackedRequest } from '../src/native/addon.js';
import { loadNative } from '../src/native/load.js';
import {
  active,
  flatten,
  GOLDEN_MODEL,
  golden,
  goldenAdapter,
  maxAbsolute,
  maxRelative,
  meta,
  packedRequest,
  row,
  someTokens,
  within,
  withPolicy,
} from './golden/golden.js';

const L = meta.max_completion_length;
const G = meta.group;

/** The part of the golden batch that has these completions, all of prompt `b`. */
function part(whole: PackedRequest, b: number, completions: number[]): PackedRequest {
  const prompt = meta.prompts[b] as number[];
  return {
    ...whole,
    promptTokens: Int32Array.from(prompt),
    promptLengths: Int32Array.of(prompt.length),
    numGenerations: completions.length,
    tokens: Int32Array.from(completions.flatMap((n) => row(whole.tokens, n, L))),
    lengths: Int32Array.from(completions, (n) => whole.lengths[n] as number),
  };
}

function gradientRequest(adapter: NativeAdapter): GradientRequest {
  return {
    ...packedRequest(adapter, 1),
    adapter,
    advantages: Float32Array.from(golden('advantages')),
    weights: Float32Array.from(golden('weights.off_policy_dapo')),
    oldLogProbs: Float32Array.from(golden('old.off_policy_dapo')),
    refLogProbs: Float32Array.from(golden('ref.off_policy_dapo')),
    epsilon: meta.epsilon,
    epsilonHigh: meta.epsilon_high,
    beta: 0.04,
  };
}

const gradients = (adapter: NativeAdapter) => adapter.tensors.map((t) => Float32Array.from(t.gradient));
const worst = (a: Float32Array[], b: Float32Array[]) =>
  Math.max(...a.map((x, i) => maxRelative(x, b[i] as Float32Array)));
const pick = (values: ArrayLike<number>, completions: number[]) =>
  Float32Array.from(completions.flatMap((n) => row(values, n, L)));

test('46.1 completions packed behind one prompt are as exact as alone', () =>
  withPolicy(async (policy) => {
    const whole = packedRequest(goldenAdapter(policy), 1);
    const packed = await policy.logProbs(whole);
    let figure = 0;
    for (let n = 0; n < meta.lengths.length; n++) {
      const alone = await policy.logProbs(part(whole, Math.floor(n / G), [n]));
      const length = meta.lengths[n] as number;
      figure = Math.max(
        figure,
        maxRelative(row(packed.logProbs, n, L).slice(0, length), row(alone.logProbs, 0, L).slice(0, length)),
      );
    }
    within('packed against alone', figure, 1e-5);
  }));

test('46.2 a completion of length 0 is left out and changes nothing for the others', () =>
  withPolicy(async (policy) => {
    const whole = packedRequest(goldenAdapter(policy), 1);
    const full = await policy.logProbs(whole);
    const lengths = Int32Array.from(meta.lengths);
    lengths[1] = 0;
    lengths[3] = 0;
    lengths[4] = 0;
    lengths[5] = 0; // a prompt without any completion
    const result = await policy.logProbs({ ...whole, lengths });
    within('the others', maxRelative(active(result.logProbs, lengths, L), active(full.logProbs, lengths, L)), 1e-5);
  }));

test('46.3 splitting a batch over calls gives the same gradient, loss and log-probabilities', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const whole = gradientRequest(adapter);
    const { loss } = await policy.accumulateGradient(whole);
    const together = gradients(adapter);
    adapter.zeroGradient();
    assert.ok(
      gradients(adapter).every((g) => g.every((x) => x === 0)),
      'zeroGradient',
    );
    let sum = 0;
    for (const [b, completions] of [
      [2, [6, 7, 8]],
      [0, [0, 2]],
      [1, [3]],
      [1, [5, 4]],
      [0, [1]],
    ] as [number, number[]][]) {
      const result = await policy.accumulateGradient({
        ...whole,
        ...part(whole, b, completions),
        adapter,
        advantages: Float32Array.from(completions, (n) => whole.advantages[n] as number),
        weights: Float32Array.from(completions, (n) => whole.weights[n] as number),
        oldLogProbs: pick(whole.oldLogProbs as Float32Array, completions),
        refLogProbs: pick(whole.refLogProbs as Float32Array, completions),
      });
      sum += result.loss;
    }
    within('gradient of five calls against one', worst(gradients(adapter), together), 1e-5);
    within('loss of five calls against one', Math.abs(sum - loss), 1e-5);
  }));

test('46.4 weight 0 and advantage 0 take a completion out of the gradient', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const onPolicy = { ...gradientRequest(adapter), oldLogProbs: null, refLogProbs: null, beta: 0 };
    const none = await policy.accumulateGradient({ ...onPolicy, weights: new Float32Array(9) });
    assert.is(none.loss, 0);
    assert.ok(
      gradients(adapter).every((g) => g.every((x) => x === 0)),
      'all weights 0',
    );
    const zero = await policy.accumulateGradient({ ...onPolicy, advantages: new Float32Array(9) });
    assert.is(Math.abs(zero.loss), 0);
    assert.ok(
      gradients(adapter).every((g) => g.every((x) => x === 0)),
      'all advantages 0',
    );
    // Only completion 8 counts: the same as a batch of it alone.
    const weights = new Float32Array(9);
    weights[8] = 0.25;
    await policy.accumulateGradient({ ...onPolicy, weights });
    const among = gradients(adapter);
    adapter.zeroGradient();
    await policy.accumulateGradient({
      ...onPolicy,
      ...part(onPolicy, 2, [8]),
      adapter,
      advantages: onPolicy.advantages.slice(8),
      weights: weights.slice(8),
    });
    within('one completion among nine against alone', worst(among, gradients(adapter)), 1e-5);
    assert.ok(among.every((g) => g.some((x) => x !== 0)));
  }));

test('46.5 the gradient is the slope of the loss', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const request = gradientRequest(adapter);
    await policy.accumulateGradient(request);
    const slopes = gradients(adapter);
    // Along the gradient itself the loss changes by |gradient|^2 per unit: a large signal beside float32's noise.
    const square = slopes.reduce((sum, g) => sum + g.reduce((s, x) => s + x * x, 0), 0);
    const kept = adapter.tensors.map((t) => Float32Array.from(t.data));
    const lossAt = async (h: number) => {
      adapter.tensors.forEach((t, i) => {
        t.data.forEach((_, k) => {
          t.data[k] = ((kept[i] as Float32Array)[k] as number) + h * ((slopes[i] as Float32Array)[k] as number);
        });
      });
      return (await policy.accumulateGradient(request)).loss;
    };
    const h = 2e-3 / Math.sqrt(square);
    const numeric = ((await lossAt(h)) - (await lossAt(-h))) / (2 * h);
    within('central difference along the gradient', Math.abs(numeric - square) / square, 5e-3);
  }));

test('46.6 a new adapter changes nothing; its A is uniform, seeded, and its arrays are the adapter', () =>
  withPolicy(async (policy) => {
    const make = (seed: number) =>
      policy.createAdapter({ rank: 4, alpha: 8, targetModules: meta.target_modules, seed });
    const adapter = make(1);
    const names = adapter.tensors.map((t) => t.name);
    assert.is(new Set(names).size, 7 * 7 * 2);
    assert.ok(names.includes('model.layers.6.mlp.down_proj.lora_B.weight'));
    for (const { name, shape, data, gradient, expAvg, expAvgSq } of adapter.tensors) {
      for (const array of [data, gradient, expAvg, expAvgSq]) assert.is(array.length, shape[0] * shape[1], name);
      if (name.includes('lora_A')) {
        assert.is(shape[0], 4);
        const bound = 1 / Math.sqrt(shape[1]);
        const largest = data.reduce((m, x) => Math.max(m, Math.abs(x)), 0);
        assert.ok(largest <= bound && largest > 0.9 * bound, `${name}: ${largest} against ${bound}`);
        const mean = data.reduce((s, x) => s + x, 0) / data.length;
        assert.ok(Math.abs(mean) < (4 * bound) / Math.sqrt(3 * data.length), `${name}: mean ${mean}`);
      } else {
        assert.is(shape[1], 4);
        assert.ok(
          data.every((x) => x === 0),
          name,
        );
      }
    }
    const values = (a: NativeAdapter) => a.tensors.map((t) => Float32Array.from(t.data));
    assert.equal(values(make(1)), values(adapter));
    assert.not.equal(values(make(2)), values(adapter));
    const lengths = meta.lengths;
    const base = await policy.logProbs(packedRequest(null, 1));
    const with_ = await policy.logProbs(packedRequest(adapter, 1));
    assert.equal(active(with_.logProbs, lengths, L), active(base.logProbs, lengths, L));
    const b = adapter.tensors.find((t) => t.name === 'model.layers.0.mlp.up_proj.lora_B.weight');
    b?.data.fill(0.05);
    const moved = await policy.logProbs(packedRequest(adapter, 1));
    assert.ok(
      maxAbsolute(active(moved.logProbs, lengths, L), active(base.logProbs, lengths, L)) > 1e-3,
      'writing to data',
    );
  }));

test('46.7 AdamW without clipping, against an own computation', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const options = { learningRate: 3e-3, beta1: 0.8, beta2: 0.95, epsilon: 1e-6, weightDecay: 0.2, maxGradNorm: 0 };
    const state = adapter.tensors.map((t) => ({
      w: Float64Array.from(t.data),
      m: new Float64Array(t.data.length),
      v: new Float64Array(t.data.length),
    }));
    for (let step = 1; step <= 3; step++) {
      let square = 0;
      adapter.tensors.forEach((t, i) => {
        const s = state[i] as (typeof state)[number];
        t.gradient.forEach((_, k) => {
          const g = Math.fround(Math.sin(i * 1000 + k * step));
          t.gradient[k] = g;
          square += g * g;
          const m = 0.8 * (s.m[k] as number) + 0.2 * g;
          const v = 0.95 * (s.v[k] as number) + 0.05 * g * g;
          s.m[k] = m;
          s.v[k] = v;
          const decayed = (s.w[k] as number) * (1 - 3e-3 * 0.2);
          s.w[k] = decayed - (3e-3 * (m / (1 - 0.8 ** step))) / (Math.sqrt(v / (1 - 0.95 ** step)) + 1e-6);
        });
      });
      const { gradNorm } = adapter.step(options);
      within('gradient norm', Math.abs(gradNorm / Math.sqrt(square) - 1), 1e-5);
      assert.is(adapter.updates, step);
    }
    within(
      'weights',
      Math.max(...adapter.tensors.map((t, i) => maxRelative(t.data, (state[i] as (typeof state)[number]).w))),
      1e-5,
    );
    within(
      'first moments',
      Math.max(...adapter.tensors.map((t, i) => maxRelative(t.expAvg, (state[i] as (typeof state)[number]).m))),
      1e-5,
    );
    within(
      'second moments',
      Math.max(...adapter.tensors.map((t, i) => maxRelative(t.expAvgSq, (state[i] as (typeof state)[number]).v))),
      1e-5,
    );
  }));

test('46.8 an adapter on some modules only', () =>
  withPolicy(async (policy) => {
    const adapter = policy.createAdapter({ rank: 3, alpha: 6, targetModules: ['v_proj', 'gate_proj'], seed: 4 });
    assert.is(adapter.tensors.length, 7 * 2 * 2);
    assert.ok(adapter.tensors.every((t) => /v_proj|gate_proj/.test(t.name)));
    // Rank 3 and alpha 6 scale as rank 4 and alpha 8: the golden matrices cut to three rows, against a full adapter that is 0 elsewhere.
    const full = goldenAdapter(policy);
    for (const { name, shape, data } of full.tensors) {
      const small = adapter.tensors.find((t) => t.name === name);
      if (!small) data.fill(0);
      else if (name.includes('lora_A')) {
        small.data.set(data.subarray(0, 3 * shape[1]));
        data.fill(0, 3 * shape[1]);
      } else {
        for (let o = 0; o < shape[0]; o++) {
          small.data.set(data.subarray(o * 4, o * 4 + 3), o * 3);
          data[o * 4 + 3] = 0;
        }
      }
    }
    const [a, b] = [gradientRequest(adapter), gradientRequest(full)];
    const [some, all] = [await policy.accumulateGradient(a), await policy.accumulateGradient(b)];
    within(
      'log-probabilities',
      maxRelative(active(some.logProbs, meta.lengths, L), active(all.logProbs, meta.lengths, L)),
      1e-5,
    );
    for (const { name, shape, gradient } of adapter.tensors) {
      const other = full.tensors.find((t) => t.name === name)?.gradient as Float32Array;
      const cut = name.includes('lora_A')
        ? other.subarray(0, gradient.length)
        : Float32Array.from({ length: gradient.length }, (_, i) => other[Math.floor(i / 3) * 4 + (i % 3)] as number);
      assert.ok(maxRelative(gradient, cut) <= 1e-5, `${name} ${shape}`);
    }
  }));

for (const [type, low, high] of [
  ['f16', 1e-6, 5e-3],
  ['bf16', 1e-4, 5e-2],
  ['q8_0', 1e-4, 1e-1],
] as const) {
  test(`46.9 base weights stored as ${type}`, async () => {
    const policy = await loadNative().openPolicy(GOLDEN_MODEL, { type, threads: 2 });
    try {
      assert.is(policy.info.baseType, type);
      const adapter = goldenAdapter(policy);
      const request = gradientRequest(adapter);
      const result = await policy.accumulateGradient(request);
      const figure = maxRelative(
        active(result.logProbs, meta.lengths, L),
        active(golden('adapter.log_probs.1.0'), meta.lengths, L),
      );
      within(`log-probabilities, ${type}`, figure, high);
      assert.ok(figure > low, `${type} is as exact as float32: is it used?`);
      assert.ok(gradients(adapter).every((g) => g.every(Number.isFinite)));
    } finally {
      policy.close();
    }
  });
}

test("46.10 type 'auto' loses nothing", async () => {
  const policy = await loadNative().openPolicy(GOLDEN_MODEL, { type: 'auto', threads: 2 });
  try {
    const result = await policy.logProbs(packedRequest(goldenAdapter(policy), 1));
    const reference = active(golden('adapter.log_probs.1.0'), meta.lengths, L);
    within('log-probabilities', maxRelative(active(result.logProbs, meta.lengths, L), reference), 1e-4);
  } finally {
    policy.close();
  }
});

test('46.11 a batch of several passes, with the shortest prompts and completions there are', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    // 14 prompts of 1 to 196 tokens with completions of 1 to 20: about 2,000 tokens, more than one pass takes.
    const prompts = Array.from({ length: 14 }, (_, b) => someTokens(1 + 15 * b, b));
    const lengths = Int32Array.from({ length: 14 * G }, (_, n) => 1 + ((n * 7) % 20));
    const tokens = new Int32Array(14 * G * 20);
    for (let n = 0; n < 14 * G; n++) tokens.set(someTokens(lengths[n] as number, 100 + n), n * 20);
    const common = { adapter, temperature: 1, maxCompletionLength: 20, oldLogProbs: null, refLogProbs: null, beta: 0 };
    const request = (chosen: number[]): GradientRequest => {
      const pickRows = chosen.flatMap((b) => [0, 1, 2].map((g) => b * G + g));
      return {
        ...common,
        epsilon: 0.2,
        epsilonHigh: 0.2,
        ...flatten(chosen.map((b) => prompts[b] as number[])),
        numGenerations: G,
        tokens: Int32Array.from(pickRows.flatMap((n) => row(tokens, n, 20))),
        lengths: Int32Array.from(pickRows, (n) => lengths[n] as number),
        advantages: Float32Array.from(pickRows, (n) => Math.sin(n)),
        weights: new Float32Array(pickRows.length).fill(0.01),
      };
    };
    const all = [...prompts.keys()];
    const whole = await policy.accumulateGradient(request(all));
    const together = gradients(adapter);
    adapter.zeroGradient();
    for (const b of all) {
      const one = await policy.accumulateGradient(request([b]));
      const mine = lengths.slice(b * G, (b + 1) * G);
      const part = active(whole.logProbs.slice(b * G * 20, (b + 1) * G * 20), mine, 20);
      assert.ok(maxRelative(active(one.logProbs, mine, 20), part) <= 1e-5, `prompt ${b}`);
    }
    within('gradient of 14 calls against one', worst(gradients(adapter), together), 2e-5);
  }));

test('46.12 what was computed before a gradient does not change it', async () => {
  // On a policy of its own: first `before`, then the gradient for an adapter on `modules`.
  const after = async (
    modules: string[],
    before: (policy: NativePolicy, adapter: NativeAdapter) => Promise<unknown>,
  ) => {
    let result: Float32Array[] = [];
    await withPolicy(async (policy) => {
      const adapter = policy.createAdapter({ rank: 4, alpha: 8, targetModules: modules, seed: 1 });
      await before(policy, adapter);
      await policy.accumulateGradient(gradientRequest(adapter));
      result = gradients(adapter);
    });
    return result;
  };
  const nothing = async () => {};
  // The scoring pass has the same graph but for what it keeps.
  assert.equal(
    await after(meta.target_modules, (policy, adapter) => policy.logProbs(packedRequest(adapter, 1))),
    await after(meta.target_modules, nothing),
    'scoring',
  );
  // Another choice of modules has as many nodes in other places.
  const alone = await after(['up_proj'], nothing);
  for (const module of ['gate_proj', 'o_proj', 'q_proj']) {
    const other = (policy: NativePolicy) => {
      const adapter = policy.createAdapter({ rank: 4, alpha: 8, targetModules: [module], seed: 1 });
      return policy.accumulateGradient(gradientRequest(adapter));
    };
    assert.equal(await after(['up_proj'], other), alone, module);
  }
});

test.run();
