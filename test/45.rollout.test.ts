/** Rollouts of the golden model: what is drawn, when it stops, and what it must not depend on. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  FINISH_LENGTH,
  FINISH_STOP_STRING,
  FINISH_STOP_TOKEN,
  type NativePolicy,
  type RolloutRequest,
  type RolloutResult,
} from '../src/native/addon.js';
import {
  active,
  flatten,
  golden,
  goldenAdapter,
  maxRelative,
  meta,
  packedRequest,
  rolloutRequest,
  row,
  someTokens,
  within,
  withPolicy,
} from './golden/golden.js';
import { chiSquareDeviate, restricted } from './golden/statistics.js';

const L = 16;

const completion = (result: RolloutResult, n: number, length = L) =>
  row(result.tokens, n, length).slice(0, result.lengths[n]);

/** log softmax(logits / temperature) [V] for the token after the first prompt, from the golden logits. */
function firstPlace(temperature: number): number[] {
  const logits = row(golden('adapter.logits.0'), 0, meta.vocab).map((x) => x / temperature);
  const shift = Math.max(...logits);
  const logSum = shift + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - shift), 0));
  return logits.map((x) => x - logSum);
}

/** 20,000 first tokens after the first prompt. */
async function draw(
  policy: NativePolicy,
  change: Partial<RolloutRequest>,
): Promise<{ tokens: number[]; logProbs: number[] }> {
  const adapter = goldenAdapter(policy);
  const tokens: number[] = [];
  const logProbs: number[] = [];
  for (let step = 0; step < 20; step++) {
    const request = { numGenerations: 1000, maxCompletionLength: 1, promptKeys: Uint32Array.of(5), step, ...change };
    const result = await policy.rollout(
      rolloutRequest(adapter, { ...flatten([meta.prompts[0] as number[]]), ...request }),
    );
    tokens.push(...result.tokens);
    logProbs.push(...result.logProbs);
  }
  return { tokens, logProbs };
}

for (const [temperature, topK, topP] of [
  [1, 0, 1],
  [0.7, 0, 1],
  [1, 5, 1],
  [1, 0, 0.6],
  [1.3, 12, 0.75],
] as const) {
  test(`45.1 drawn tokens follow the softmax: temperature ${temperature}, top-k ${topK}, top-p ${topP}`, () =>
    withPolicy(async (policy) => {
      const full = firstPlace(temperature);
      const probabilities = restricted(full, topK, topP);
      const { tokens, logProbs } = await draw(policy, { temperature, topK, topP });
      const deviate = chiSquareDeviate(tokens, probabilities);
      console.log(
        `  ${tokens.length} draws, ${probabilities.filter((p) => p > 0).length} possible tokens, deviate ${deviate.toFixed(2)}`,
      );
      // Both tails: draws that fit far too well would not be random.
      assert.ok(Math.abs(deviate) < 4, `chi-square deviate ${deviate}`);
      // Log-probabilities are those of the full distribution, before top-k and top-p.
      within(
        'log-probability of what was drawn',
        maxRelative(
          logProbs,
          tokens.map((v) => full[v] as number),
        ),
        1e-4,
      );
      const wrong = chiSquareDeviate(tokens, restricted(firstPlace(temperature * 1.1), 0, 1));
      assert.ok(wrong > 6, `a temperature that is 10% off would pass: ${wrong}`);
    }));
}

test('45.2 later tokens follow the softmax too, and completions are independent of each other', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const G = 2000;
    const prompt = flatten([meta.prompts[1] as number[]]);
    const result = await policy.rollout(
      rolloutRequest(adapter, { ...prompt, promptKeys: Uint32Array.of(1), numGenerations: G, maxCompletionLength: 6 }),
    );
    const { logProbs, entropies } = await policy.logProbs({
      adapter,
      ...prompt,
      numGenerations: G,
      tokens: result.tokens,
      lengths: result.lengths,
      maxCompletionLength: 6,
      temperature: 1,
    });
    for (let t = 0; t < 6; t++) {
      // E[-log p] is the entropy at every place, whatever came before: the mean difference over G is near 0.
      const difference = Array.from(
        { length: G },
        (_, n) => -(logProbs[n * 6 + t] as number) - (entropies[n * 6 + t] as number),
      );
      const mean = difference.reduce((a, b) => a + b, 0) / G;
      const deviation = Math.sqrt(difference.reduce((a, b) => a + (b - mean) ** 2, 0) / G);
      assert.ok(deviation > 0.1, `place ${t}: nothing varies`);
      assert.ok(Math.abs(mean) < (4.5 * deviation) / Math.sqrt(G), `place ${t}: mean ${mean}, deviation ${deviation}`);
    }
    // How many different completions G independent draws give: the sum over completions of 1 - (1 - p)^G, which is the mean over
    // the drawn ones of (1 - (1 - p)^G) / p. Draws that hang together give fewer.
    const distinct = new Set(Array.from({ length: G }, (_, n) => row(result.tokens, n, 6).join())).size;
    let expected = 0;
    for (let n = 0; n < G; n++) {
      const p = Math.exp(row(logProbs, n, 6).reduce((a, b) => a + b, 0));
      expected += -Math.expm1(G * Math.log1p(-p)) / p / G;
    }
    console.log(`  ${distinct} distinct completions of ${G}, ${expected.toFixed(0)} expected`);
    assert.ok(Math.abs(distinct / expected - 1) < 0.1, `${distinct} distinct, ${expected} expected`);
  }));

test('45.3 log-probabilities of the rollout are those of the packed pass', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    for (const temperature of [1, 0.7]) {
      const rollout = await policy.rollout(
        rolloutRequest(adapter, { temperature, maxCompletionLength: 40, numGenerations: 5 }),
      );
      const packed = await policy.logProbs({
        ...packedRequest(adapter, temperature),
        numGenerations: 5,
        tokens: rollout.tokens,
        lengths: rollout.lengths,
        maxCompletionLength: 40,
      });
      const figure = maxRelative(
        active(rollout.logProbs, rollout.lengths, 40),
        active(packed.logProbs, rollout.lengths, 40),
      );
      within(`decode against packed pass, temperature ${temperature}`, figure, 1e-4);
    }
  }));

test('45.4 a rollout does not depend on the layout of the batch', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const whole = await policy.rollout(rolloutRequest(adapter, { numGenerations: 40 }));
    const order = [2, 0];
    const other = await policy.rollout(
      rolloutRequest(adapter, {
        ...flatten(order.map((b) => meta.prompts[b] as number[])),
        promptKeys: Uint32Array.from(order, (b) => 100 + b),
        numGenerations: 2,
      }),
    );
    for (let b = 0; b < order.length; b++) {
      for (let g = 0; g < 2; g++) {
        const n = (order[b] as number) * 40 + g;
        assert.equal(completion(other, b * 2 + g), completion(whole, n), `prompt ${order[b]}, completion ${g}`);
        within('log-probabilities', maxRelative(row(other.logProbs, b * 2 + g, L), row(whole.logProbs, n, L)), 1e-4);
        assert.is(other.texts[b * 2 + g], whole.texts[n]);
      }
    }
  }));

test('45.5 seed, step, key and place in the group each change what is drawn', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const tokens = async (change: Partial<RolloutRequest>) => [
      ...(await policy.rollout(rolloutRequest(adapter, change))).tokens,
    ];
    const first = await tokens({});
    assert.equal(await tokens({}), first, 'the same request twice');
    assert.not.equal(await tokens({ seed: 12 }), first, 'seed');
    assert.not.equal(await tokens({ step: 4 }), first, 'step');
    assert.not.equal(await tokens({ promptKeys: Uint32Array.of(7, 8, 9) }), first, 'key');
    assert.not.equal(first.slice(0, L), first.slice(L, 2 * L), 'place in the group');
    // The same prompt twice with different keys is two different draws.
    const twice = flatten([meta.prompts[0] as number[], meta.prompts[0] as number[]]);
    const pair = await tokens({ ...twice, promptKeys: Uint32Array.of(1, 2) });
    assert.not.equal(pair.slice(0, 3 * L), pair.slice(3 * L), 'key of the same prompt');
  }));

// The engine gives small graphs one thread: 120 rows a step and 117 tokens of training are enough for several.
test('45.6 one, two and three threads give the same bytes', async () => {
  const seen: { tokens: Int32Array; logProbs: Float32Array; packed: Float32Array; gradients: Float32Array[] }[] = [];
  for (const threads of [1, 2, 3]) {
    await withPolicy(async (policy) => {
      const adapter = goldenAdapter(policy);
      const rollout = await policy.rollout(rolloutRequest(adapter, { numGenerations: 40 }));
      const { logProbs } = await policy.accumulateGradient({
        ...packedRequest(adapter, 1),
        adapter,
        advantages: Float32Array.from(golden('advantages')),
        weights: Float32Array.from(golden('weights.off_policy_bnpo')),
        oldLogProbs: null,
        refLogProbs: null,
        epsilon: 0.2,
        epsilonHigh: 0.2,
        beta: 0,
      });
      const gradients = adapter.tensors.map((t) => Float32Array.from(t.gradient));
      assert.ok(gradients.every((g) => g.some((x) => x !== 0)));
      seen.push({ tokens: rollout.tokens, logProbs: rollout.logProbs, packed: logProbs, gradients });
    }, threads);
  }
  assert.equal(seen[1], seen[0]);
  assert.equal(seen[2], seen[0]);
});

test('45.7 a stop token ends its completion and no other', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const free = await policy.rollout(rolloutRequest(adapter));
    assert.ok(free.finish.every((f) => f === FINISH_LENGTH) && free.lengths.every((l) => l === L));
    // Stop at two tokens that one completion has in its middle.
    const stops = Int32Array.of(...completion(free, 4).slice(6, 8));
    const result = await policy.rollout(rolloutRequest(adapter, { stopTokens: stops }));
    let stopped = 0;
    for (let n = 0; n < result.lengths.length; n++) {
      const all = completion(free, n);
      const at = all.findIndex((t) => stops.includes(t));
      const expected = at < 0 ? all : all.slice(0, at + 1);
      assert.equal(completion(result, n), expected, `completion ${n}`);
      assert.is(result.finish[n], at < 0 ? FINISH_LENGTH : FINISH_STOP_TOKEN);
      assert.is(
        result.texts[n],
        policy.detokenize(Int32Array.from(at < 0 ? all : all.slice(0, at)), { special: false }),
      );
      assert.ok(
        row(result.tokens, n, L)
          .slice(expected.length)
          .every((t) => t === 0),
        'unused places are 0',
      );
      within(
        'log-probabilities',
        maxRelative(
          row(result.logProbs, n, L).slice(0, expected.length),
          row(free.logProbs, n, L).slice(0, expected.length),
        ),
        1e-4,
      );
      if (at >= 0) stopped++;
    }
    assert.ok(stopped >= 1 && stopped < result.lengths.length, `${stopped} stopped`);
    const forced = await policy.rollout(rolloutRequest(adapter, { stopTokens: stops, forceLength: true }));
    assert.equal(forced.tokens, free.tokens);
    assert.equal(forced.lengths, free.lengths);
  }));

test('45.8 a stop string may cross tokens; the text ends before it', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const free = await policy.rollout(rolloutRequest(adapter));
    const text = (tokens: number[]) => policy.detokenize(Int32Array.from(tokens), { special: false });
    // The last character of one token and the first of the next, both plain text, first met there.
    let stop = '';
    let where = -1;
    for (let n = 0; n < free.lengths.length && !stop; n++) {
      const tokens = completion(free, n);
      for (let t = 3; t < L - 2 && !stop; t++) {
        const [left, right] = [
          text(tokens.slice(0, t)),
          text(tokens.slice(0, t + 1)).slice(text(tokens.slice(0, t)).length),
        ];
        const candidate = left.slice(-1) + right.slice(0, 1);
        if (/^[a-z ?.!,]{2}$/.test(candidate) && text(tokens).indexOf(candidate) === left.length - 1) {
          stop = candidate;
          where = n;
        }
      }
    }
    assert.ok(stop, 'no completion offers a stop string: choose another seed');
    const result = await policy.rollout(rolloutRequest(adapter, { stopStrings: ['never in the text', stop] }));
    for (let n = 0; n < result.lengths.length; n++) {
      const tokens = completion(free, n);
      const end = tokens.findIndex((_, t) => text(tokens.slice(0, t + 1)).includes(stop));
      assert.is(result.finish[n], end < 0 ? FINISH_LENGTH : FINISH_STOP_STRING, `completion ${n}`);
      assert.equal(completion(result, n), end < 0 ? tokens : tokens.slice(0, end + 1));
      assert.is(result.texts[n], end < 0 ? text(tokens) : text(tokens).slice(0, text(tokens).indexOf(stop)));
    }
    assert.is(result.finish[where], FINISH_STOP_STRING);
  }));

test('45.9 greedy takes the most probable token at every place', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    const result = await policy.rollout(rolloutRequest(adapter, { temperature: 0 }));
    const best = firstPlace(1);
    assert.is(result.tokens[0], best.indexOf(Math.max(...best)));
    within('log-probability at temperature 1', Math.abs((result.logProbs[0] as number) - Math.max(...best)), 1e-4);
    for (const b of [0, 1, 2]) {
      assert.equal(completion(result, b * 3), completion(result, b * 3 + 2), 'completions of one prompt are equal');
    }
    assert.not.equal(completion(result, 0), completion(result, 3));
    // Top-k 1 is greedy whatever the temperature.
    const narrow = await policy.rollout(rolloutRequest(adapter, { temperature: 1.5, topK: 1 }));
    assert.equal(narrow.tokens, result.tokens);
  }));

test('45.10 without an adapter, and with a new one, the base model samples', () =>
  withPolicy(async (policy) => {
    const fresh = policy.createAdapter({ rank: 4, alpha: 8, targetModules: meta.target_modules, seed: 1 });
    const base = await policy.rollout(rolloutRequest(null));
    assert.equal((await policy.rollout(rolloutRequest(fresh))).tokens, base.tokens);
    assert.not.equal((await policy.rollout(rolloutRequest(goldenAdapter(policy)))).tokens, base.tokens);
  }));

test('45.11 a batch too large for one pass or one cache is as exact as its prompts alone', () =>
  withPolicy(async (policy) => {
    const adapter = goldenAdapter(policy);
    // 15 prompts of 1 to 225 tokens: more than 1,024 to prefill, and more than 8,192 cells to decode in.
    const prompts = Array.from({ length: 15 }, (_, b) => someTokens(1 + 16 * b, b));
    const change = { numGenerations: 50, maxCompletionLength: 14 };
    const keys = Uint32Array.from(prompts, (_, b) => 1000 + b);
    const whole = await policy.rollout(rolloutRequest(adapter, { ...change, ...flatten(prompts), promptKeys: keys }));
    for (const b of [0, 1, 7, 13, 14]) {
      const one = { ...flatten([prompts[b] as number[]]), promptKeys: Uint32Array.of(1000 + b) };
      const alone = await policy.rollout(rolloutRequest(adapter, { ...change, ...one }));
      const size = 50 * 14;
      assert.equal(whole.tokens.slice(b * size, (b + 1) * size), alone.tokens, `prompt ${b}`);
      assert.ok(maxRelative(whole.logProbs.slice(b * size, (b + 1) * size), alone.logProbs) <= 1e-5, `prompt ${b}`);
    }
  }));

test.run();
