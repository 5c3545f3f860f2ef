/** A rollout whose activations are kept for the gradient, and completions that are given instead of sampled. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { GradientRequest, NativeAdapter, NativePolicy, RolloutResult } from '../src/native/addon.js';
import { loadNative } from '../src/native/load.js';
import {
  active,
  flatten,
  GOLDEN_MODEL,
  goldenAdapter,
  maxRelative,
  meta,
  rolloutRequest,
  row,
  within,
  withPolicy,
} from './golden/golden.js';

const L = 12;
const ANSWERS = [[7, 11, 3], [5], [9, 2, 4, 6, 8]];
const SAMPLED = 4;
const G = SAMPLED + ANSWERS.length;

/** Sampled completions of different lengths, and given ones. */
const request = (policy: NativePolicy, adapter: NativeAdapter) =>
  rolloutRequest(adapter, {
    keep: true,
    temperature: 0.8,
    numGenerations: SAMPLED,
    maxCompletionLength: L,
    answers: Int32Array.from(ANSWERS.flat()),
    answerLengths: Int32Array.from(ANSWERS, ({ length }) => length),
    // a fifth of the vocabulary ends a completion
    stopTokens: Int32Array.from({ length: Math.floor(policy.info.vocab / 5) }, (_, i) => i * 5),
  });

/** The gradient of these prompts of a rollout, in this order. */
function gradientRequest(adapter: NativeAdapter, rollout: RolloutResult, prompts: number[]): GradientRequest {
  const completions = prompts.flatMap((b) => Array.from({ length: G }, (_, g) => b * G + g));
  return {
    adapter,
    ...flatten(prompts.map((b) => meta.prompts[b] as number[])),
    numGenerations: G,
    tokens: Int32Array.from(completions.flatMap((n) => row(rollout.tokens, n, L))),
    lengths: Int32Array.from(completions, (n) => rollout.lengths[n] as number),
    maxCompletionLength: L,
    temperature: 0.8,
    advantages: Float32Array.from(completions, (n) => Math.sin(n + 1)),
    weights: Float32Array.from(completions, (n) => (n % 6 === 5 ? 0 : 0.01 * (1 + (n % 3)))),
    oldLogProbs: null,
    refLogProbs: null,
    epsilon: 0.2,
    epsilonHigh: 0.2,
    beta: 0,
  };
}

async function gradientOf(policy: NativePolicy, adapter: NativeAdapter, of: GradientRequest) {
  adapter.zeroGradient();
  const result = await policy.accumulateGradient(of);
  const gradients = adapter.tensors.map((t) => Float32Array.from(t.gradient));
  assert.ok(gradients.some((g) => g.some((x) => x !== 0)));
  return { ...result, gradients };
}

const worst = (a: Float32Array[], b: Float32Array[]) =>
  Math.max(...a.map((x, i) => (b[i]?.some((y) => y !== 0) ? maxRelative(x, b[i] as Float32Array) : 0)));

for (const targets of [null, ['k_proj', 'up_proj', 'down_proj']]) {
  test(`48.1 the kept pass gives the gradient of a pass of its own, ${targets ?? 'all modules'}`, () =>
    withPolicy(async (policy) => {
      const adapter =
        targets === null
          ? goldenAdapter(policy)
          : policy.createAdapter({ rank: 3, alpha: 6, targetModules: targets, seed: 5 });
      const rollout = await policy.rollout(request(policy, adapter));
      assert.ok(new Set(rollout.lengths).size > 2, 'completions of several lengths');
      // Scoring in between, as for a reference policy, leaves it alone. So does a gradient that uses it.
      const all = gradientRequest(adapter, rollout, [0, 1, 2]);
      await policy.logProbs({ ...all, adapter: null });
      for (const prompts of [[0, 1, 2], [1], [2, 0]]) {
        const of = gradientRequest(adapter, rollout, prompts);
        const kept = await gradientOf(policy, adapter, of);
        assert.is(kept.keptPrompts, prompts.length);
        assert.is(kept.seconds.forward, 0);
        const sampled = prompts.flatMap((b) =>
          Array.from({ length: G }, (_, g) => row(rollout.logProbs, b * G + g, L)),
        );
        assert.equal([...active(kept.logProbs, of.lengths, L)], [...active(sampled.flat(), of.lengths, L)]);

        const other = await loadNative().openPolicy(GOLDEN_MODEL, { type: 'f32', threads: 2 });
        const twin = other.createAdapter({
          rank: adapter.rank,
          alpha: adapter.alpha,
          targetModules: targets ?? meta.target_modules,
          seed: 5,
        });
        for (const [i, t] of twin.tensors.entries()) t.data.set(adapter.tensors[i]?.data ?? []);
        const own = await gradientOf(other, twin, { ...of, adapter: twin });
        assert.is(own.keptPrompts, 0);
        within(`gradient, prompts ${prompts}`, worst(kept.gradients, own.gradients), 1e-5);
        within(
          'log-probabilities',
          maxRelative(active(kept.logProbs, of.lengths, L), active(own.logProbs, of.lengths, L)),
          1e-5,
        );
        within(
          'entropies',
          maxRelative(active(kept.entropies, of.lengths, L), active(own.entropies, of.lengths, L)),
          1e-5,
        );
        within('loss', Math.abs(kept.loss - own.loss), 1e-6);
        twin.close();
        other.close();
      }
      adapter.close();
    }));
}

test('48.2 a given completion has the log-probabilities of scoring, and samples do not notice it', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const of = request(policy, adapter);
    const rollout = await policy.rollout(of);
    const alone = await policy.rollout({
      ...of,
      answers: new Int32Array(0),
      answerLengths: new Int32Array(0),
      keep: false,
    });
    for (let b = 0; b < meta.prompts.length; b++) {
      for (const [i, answer] of ANSWERS.entries()) {
        const n = b * G + SAMPLED + i;
        assert.is(rollout.lengths[n], answer.length);
        assert.equal([...row(rollout.tokens, n, L)], [...answer, ...Array(L - answer.length).fill(0)]);
        assert.is(rollout.texts[n], '');
      }
      for (let g = 0; g < SAMPLED; g++) {
        assert.equal([...row(rollout.tokens, b * G + g, L)], [...row(alone.tokens, b * SAMPLED + g, L)]);
        assert.is(rollout.texts[b * G + g], alone.texts[b * SAMPLED + g]);
      }
    }
    const scored = await policy.logProbs(gradientRequest(adapter, rollout, [0, 1, 2]));
    within(
      'rollout against scoring',
      maxRelative(active(rollout.logProbs, rollout.lengths, L), active(scored.logProbs, rollout.lengths, L)),
      1e-5,
    );
    const onlyGiven = await policy.rollout({ ...of, numGenerations: 0 });
    assert.equal([...row(onlyGiven.tokens, 0, L).slice(0, 3)], ANSWERS[0]);
  }));

test('48.3 what has changed since the rollout is computed anew', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const rollout = await policy.rollout(request(policy, adapter));
    const of = gradientRequest(adapter, rollout, [0, 1, 2]);
    const keptOf = async (change: Partial<GradientRequest>) =>
      (await policy.accumulateGradient({ ...of, ...change })).keptPrompts;
    const again = () => policy.rollout(request(policy, adapter));
    assert.is(await keptOf({}), 3);
    assert.is(await keptOf({ temperature: 1 }), 0, 'another temperature');
    assert.is(await keptOf({}), 0, 'the pass of another temperature took its place');

    await again();
    const tokens = of.tokens.slice();
    tokens[G * L] = (tokens[G * L] as number) === 1 ? 2 : 1;
    assert.is(await keptOf({ tokens }), 2, 'another completion of the second prompt');
    await again();
    const promptTokens = of.promptTokens.slice();
    promptTokens[0] = (promptTokens[0] as number) === 1 ? 2 : 1;
    assert.is(await keptOf({ promptTokens }), 2, 'another first prompt');

    await again();
    const value = adapter.tensors[3]?.data as Float32Array;
    value[0] = (value[0] as number) + 0.5;
    assert.is(await keptOf({}), 0, 'the adapter was written to');
    await again();
    adapter.step({ learningRate: 1e-6, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0, maxGradNorm: 0 });
    assert.is(await keptOf({}), 0, 'an update');

    const last = await again();
    await policy.rollout({ ...request(policy, adapter), seed: 99, keep: false });
    const same = gradientRequest(adapter, last, [0, 1, 2]);
    assert.is((await policy.accumulateGradient(same)).keptPrompts, 3, 'a rollout that is not kept changes nothing');
    await policy.rollout({ ...request(policy, adapter), seed: 99 });
    assert.is((await policy.accumulateGradient(same)).keptPrompts, 0, 'another kept rollout');
  }));

test('48.4 what cannot be given or kept is refused', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const of = request(policy, adapter);
    const refused = async (change: object, message: RegExp) => {
      try {
        await policy.rollout({ ...of, ...change });
      } catch (error) {
        assert.match((error as Error).message, message);
        return;
      }
      assert.unreachable(`not refused: ${JSON.stringify(change)}`);
    };
    await refused({ answerLengths: Int32Array.of(3, 1) }, /answers/);
    await refused({ answerLengths: Int32Array.of(9, 0) }, /given answer/);
    await refused({ maxCompletionLength: 4 }, /given answer/);
    await refused({ answers: Int32Array.of(7, 11, 3, 5, 9, 2, 4, 6, policy.info.vocab) }, /answers holds token/);
    await refused({ adapter: null }, /needs an adapter/);
    await refused({ temperature: 0 }, /temperature above 0/);
    await refused(
      { numGenerations: 0, answers: new Int32Array(0), answerLengths: new Int32Array(0) },
      /numGenerations/,
    );
  }));

test.run();
