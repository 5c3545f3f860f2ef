/**
 * The engine against PyTorch in float64 (tools/golden/make_golden.py): log-probabilities, entropies, the whole distribution at
 * a place, GRPO gradients of every LoRA matrix, ten AdamW updates, greedy text. Bound: max|difference| / max|reference| <= 1e-4.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { GradientRequest, NativeAdapter } from '../src/native/addon.js';
import {
  active,
  type GradientCase,
  golden,
  goldenAdapter,
  maxRelative,
  meta,
  packedRequest,
  rolloutRequest,
  row,
  within,
  withPolicy,
} from './golden/golden.js';

const BOUND = 1e-4;
const L = meta.max_completion_length;

function gradientRequest(adapter: NativeAdapter, c: GradientCase): GradientRequest {
  return {
    ...packedRequest(adapter, c.temperature),
    adapter,
    advantages: Float32Array.from(golden('advantages')),
    weights: Float32Array.from(golden(`weights.${c.name}`)),
    oldLogProbs: c.off_policy ? Float32Array.from(golden(`old.${c.name}`)) : null,
    refLogProbs: c.beta > 0 ? Float32Array.from(golden(`ref.${c.name}`)) : null,
    epsilon: meta.epsilon,
    epsilonHigh: meta.epsilon_high,
    beta: c.beta,
  };
}

test('40.1 the file says what the model is', () =>
  withPolicy(async ({ info }) => {
    assert.is(info.architecture, 'gemma3');
    assert.is(info.name, 'golden');
    assert.is(info.layers, 7);
    assert.is(info.width, 64);
    assert.is(info.vocab, meta.vocab);
    assert.is(info.contextLength, 256);
    assert.is(info.slidingWindow, 9);
    assert.is(info.baseType, 'f32');
    assert.is(info.chatTemplate, null);
    assert.equal(info.bosToken, { id: 2, text: '<bos>' });
    assert.equal(info.eosToken, { id: 1, text: '<eos>' });
    assert.equal([...info.stopTokens].sort(), [1, 5]);
    assert.is(info.addBos, true);
    const layer = 64 * 128 * 2 + 2 * 64 * 64 + 3 * 64 * 96 + 4 * 64 + 2 * 32;
    assert.is(info.parameters, 7 * layer + meta.vocab * 64 + 64);
  }));

for (const [set, temperature] of [
  ['base', '1.0'],
  ['base', '0.7'],
  ['adapter', '1.0'],
  ['adapter', '0.7'],
] as const) {
  test(`40.2 log-probabilities and entropies, ${set}, temperature ${temperature}`, () =>
    withPolicy(async (policy) => {
      const adapter = set === 'adapter' ? goldenAdapter(policy) : null;
      const result = await policy.logProbs(packedRequest(adapter, Number(temperature)));
      for (const [field, name] of [
        ['logProbs', 'log_probs'],
        ['entropies', 'entropies'],
      ] as const) {
        const got = active(result[field], meta.lengths, L);
        const reference = active(golden(`${set}.${name}.${temperature}`), meta.lengths, L);
        within(`${set} ${name}, temperature ${temperature}`, maxRelative(got, reference), BOUND);
      }
    }));
}

for (const set of ['base', 'adapter']) {
  test(`40.3 the whole distribution at the last place of a completion, ${set}`, () =>
    withPolicy(async (policy) => {
      const adapter = set === 'adapter' ? goldenAdapter(policy) : null;
      const tokens = golden('tokens');
      for (const n of meta.logits_of) {
        // One completion a vocabulary entry: the same beginning, another last token.
        const length = meta.lengths[n] as number;
        const start = row(tokens, n, L).slice(0, length - 1);
        const prompt = meta.prompts[Math.floor(n / meta.group)] as number[];
        const { logProbs } = await policy.logProbs({
          adapter,
          promptTokens: Int32Array.from(prompt),
          promptLengths: Int32Array.of(prompt.length),
          numGenerations: meta.vocab,
          tokens: Int32Array.from(Array.from({ length: meta.vocab }, (_, v) => [...start, v]).flat()),
          lengths: new Int32Array(meta.vocab).fill(length),
          maxCompletionLength: length,
          temperature: 1,
        });
        const got = Array.from({ length: meta.vocab }, (_, v) => logProbs[v * length + length - 1] as number);
        const logits = row(golden(`${set}.logits.${n}`), length - 1, meta.vocab);
        const shift = Math.max(...logits);
        const logSum = shift + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - shift), 0));
        within(
          `${set} distribution ${n}`,
          maxRelative(
            got,
            logits.map((x) => x - logSum),
          ),
          BOUND,
        );
      }
    }));
}

for (const c of meta.gradients) {
  test(`40.4 GRPO loss and LoRA gradients, ${c.name}`, () =>
    withPolicy(async (policy) => {
      const adapter = goldenAdapter(policy);
      const result = await policy.accumulateGradient(gradientRequest(adapter, c));
      within(`${c.name} loss`, Math.abs(result.loss - c.loss) / Math.max(Math.abs(c.loss), 0.1), BOUND);
      within(`${c.name} kl`, Math.abs(result.kl - c.kl) / Math.max(c.kl, 1), BOUND);
      within(`${c.name} mean ratio`, Math.abs(result.ratioMean - c.ratio_mean), BOUND);
      within(`${c.name} largest ratio`, Math.abs(result.ratioMax - c.ratio_max) / c.ratio_max, BOUND);
      within(`${c.name} share clipped low`, Math.abs(result.clipLow - c.clip_low), 1e-6);
      within(`${c.name} share clipped high`, Math.abs(result.clipHigh - c.clip_high), 1e-6);
      const reference = golden(`adapter.log_probs.${c.temperature.toFixed(1)}`);
      const takesPart = meta.lengths.map((length, n) => ((golden(`weights.${c.name}`)[n] as number) > 0 ? length : 0));
      within(
        `${c.name} log-probabilities`,
        maxRelative(active(result.logProbs, takesPart, L), active(reference, takesPart, L)),
        BOUND,
      );
      let worst = { name: '', figure: 0 };
      for (const { name, gradient } of adapter.tensors) {
        const figure = maxRelative(gradient, golden(`gradient.${c.name}.${name}`));
        if (!(figure <= worst.figure)) worst = { name, figure };
      }
      assert.is(adapter.tensors.length, 7 * 7 * 2);
      within(`${c.name} worst gradient (${worst.name})`, worst.figure, BOUND);
    }));
}

test('40.5 a wrong alpha, a wrong clip bound and a wrong completion are seen', () =>
  withPolicy(async (policy) => {
    const reference = active(golden('adapter.log_probs.1.0'), meta.lengths, L);
    const figure = async (adapter: NativeAdapter, change: object) => {
      const { logProbs } = await policy.logProbs({ ...packedRequest(adapter, 1), ...change });
      return maxRelative(active(logProbs, meta.lengths, L), reference);
    };
    assert.ok((await figure(goldenAdapter(policy, 'start', meta.alpha * 1.01), {})) > BOUND, 'alpha');
    assert.ok((await figure(goldenAdapter(policy), { temperature: 1.001 })) > BOUND, 'temperature');
    const tokens = Int32Array.from(golden('tokens'));
    tokens[0] = (tokens[0] as number) + 1;
    assert.ok((await figure(goldenAdapter(policy), { tokens })) > BOUND, 'token');
    const c = meta.gradients.find((g) => g.name === 'off_policy_dapo') as GradientCase;
    const adapter = goldenAdapter(policy);
    await policy.accumulateGradient({ ...gradientRequest(adapter, c), epsilonHigh: 0.5 });
    const worst = Math.max(
      ...adapter.tensors.map((t) => maxRelative(t.gradient, golden(`gradient.${c.name}.${t.name}`))),
    );
    assert.ok(worst > 100 * BOUND, `clip bound: ${worst}`);
  }));

test('40.6 ten AdamW updates', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const { updates } = meta;
    const request = {
      ...gradientRequest(adapter, meta.gradients.find((g) => g.name === 'off_policy_dapo') as GradientCase),
      oldLogProbs: Float32Array.from(golden('adapter.log_probs.1.0')),
    };
    const off = { loss: 0, norm: 0, kl: 0, clipLow: 0, clipHigh: 0 };
    for (const step of updates.steps) {
      adapter.zeroGradient();
      const result = await policy.accumulateGradient(request);
      const { gradNorm } = adapter.step({
        learningRate: step.learning_rate,
        beta1: updates.beta1,
        beta2: updates.beta2,
        epsilon: updates.epsilon,
        weightDecay: updates.weight_decay,
        maxGradNorm: updates.max_grad_norm,
      });
      off.loss = Math.max(off.loss, Math.abs(result.loss - step.loss) / Math.abs(step.loss));
      off.norm = Math.max(off.norm, Math.abs(gradNorm - step.grad_norm) / step.grad_norm);
      off.kl = Math.max(off.kl, Math.abs(result.kl - step.kl) / step.kl);
      off.clipLow = Math.max(off.clipLow, Math.abs(result.clipLow - step.clip_low));
      off.clipHigh = Math.max(off.clipHigh, Math.abs(result.clipHigh - step.clip_high));
    }
    assert.is(adapter.updates, 10);
    within('loss over ten updates', off.loss, BOUND);
    within('gradient norm over ten updates', off.norm, BOUND);
    within('kl over ten updates', off.kl, BOUND);
    within('shares clipped over ten updates', Math.max(off.clipLow, off.clipHigh), 1e-6);
    let worst = { name: '', figure: 0 };
    let difference = 0;
    let moved = 0;
    for (const { name, data } of adapter.tensors) {
      const start = golden(`start.${name}`);
      const final = golden(`final.${name}`);
      const figure = maxRelative(data, final);
      if (!(figure <= worst.figure)) worst = { name, figure };
      for (let i = 0; i < data.length; i++) {
        difference += ((data[i] as number) - (final[i] as number)) ** 2;
        moved += ((start[i] as number) - (final[i] as number)) ** 2;
      }
    }
    within(`worst matrix after ten updates (${worst.name})`, worst.figure, BOUND);
    within('sum of the ten updates, in the 2-norm', Math.sqrt(difference / moved), 1e-3);
    const { logProbs } = await policy.logProbs(packedRequest(adapter, 1));
    const reference = active(golden('final.log_probs.1.0'), meta.lengths, L);
    within('log-probabilities after ten updates', maxRelative(active(logProbs, meta.lengths, L), reference), BOUND);
  }));

test('40.7 greedy tokens with the adapter', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const result = await policy.rollout(
      rolloutRequest(adapter, { numGenerations: 1, maxCompletionLength: 24, temperature: 0 }),
    );
    for (const [b, { tokens }] of meta.greedy.entries()) assert.equal(row(result.tokens, b, 24), tokens, `prompt ${b}`);
    // Log-probabilities of greedy tokens are those at temperature 1.
    const packed = await policy.logProbs({
      ...packedRequest(adapter, 1),
      numGenerations: 1,
      tokens: result.tokens,
      lengths: result.lengths,
      maxCompletionLength: 24,
    });
    within('greedy decode against packed pass', maxRelative(result.logProbs, packed.logProbs), BOUND);
  }));

test.run();
