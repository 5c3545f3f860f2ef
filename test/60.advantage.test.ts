/** Advantages, loss weights and schedules against what TRL and transformers compute (test/golden/trl.json). */
import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { advantagesOf, standardDeviation } from '../src/pipeline/advantages.js';
import { type LossType, lossWeights, windowTokens } from '../src/pipeline/loss-weights.js';
import { learningRateFactor, ramp, temperatureAt } from '../src/pipeline/schedule.js';

const golden = JSON.parse(readFileSync(new URL('golden/trl.json', import.meta.url), 'utf8'));

function near(actual: number, expected: number, tolerance: number, name: string): void {
  assert.ok(
    Math.abs(actual - expected) <= tolerance * Math.max(1, Math.abs(expected)),
    `${name}: ${actual}, expected ${expected}`,
  );
}

for (const scale of ['group', 'batch', 'none'] as const) {
  test(`advantages, scale_rewards ${scale}`, () => {
    const { rewards, num_generations: G } = golden.advantages;
    const { advantages, dead } = advantagesOf(Float64Array.from(rewards), G, scale);
    for (const [n, expected] of golden.advantages[scale].entries()) {
      near(advantages[n] as number, expected, 1e-7, `advantage ${n}`); // TRL's correction n/(n-1) is float32
    }
    assert.equal(dead, [false, true, false, false, false, false]);
  });
}

test('a dead group has advantages of exactly 0, also where the mean is rounded', () => {
  const { advantages, dead } = advantagesOf(new Float64Array(3).fill(0.1), 3, 'group');
  assert.equal([...advantages], [0, 0, 0]);
  assert.equal(dead, [true]);
  assert.is(standardDeviation([5]), 0);
  near(standardDeviation([1, 2, 3, 4]), Math.sqrt(5 / 3), 1e-15, 'standard deviation');
});

/** The loss that the addon computes, in TypeScript: the weights are right if TRL's loss and gradient come out. */
function weightedLoss(weights: Float32Array): { loss: number; gradient: number[][] } {
  const { new: now, old, ref, mask, advantages, beta, epsilon, epsilon_high } = golden.loss;
  let loss = 0;
  const gradient: number[][] = [];
  for (const [n, row] of (now as number[][]).entries()) {
    gradient.push(
      row.map((value, t) => {
        if (mask[n][t] === 0) {
          return 0;
        }
        const advantage = advantages[n] as number;
        const ratio = Math.exp(value - old[n][t]);
        const clipped = Math.min(Math.max(ratio, 1 - epsilon), 1 + epsilon_high);
        const free = ratio * advantage <= clipped * advantage;
        const gap = ref[n][t] - value;
        const weight = weights[n] as number;
        loss += weight * (-Math.min(ratio * advantage, clipped * advantage) + beta * (Math.exp(gap) - gap - 1));
        return weight * ((free ? -ratio * advantage : 0) + beta * (1 - Math.exp(gap)));
      }),
    );
  }
  return { loss, gradient };
}

for (const lossType of ['grpo', 'bnpo', 'dr_grpo', 'dapo'] as LossType[]) {
  test(`loss weights, loss_type ${lossType}`, () => {
    const {
      lengths,
      masked,
      gradient_accumulation_steps,
      steps_per_generation,
      num_items_in_batch,
      max_completion_length,
    } = golden.loss;
    const weights = lossWeights(lengths, masked, {
      lossType,
      maxCompletionLength: max_completion_length,
      gradientAccumulationSteps: gradient_accumulation_steps,
      activeTokensInWindow: windowTokens(num_items_in_batch, gradient_accumulation_steps, steps_per_generation),
    });
    const { loss, gradient } = weightedLoss(weights);
    const expected = golden.loss.results[lossType];
    // 'grpo' and its like return the loss already divided; so does TRL.
    near(loss, expected.loss, 1e-6, 'loss');
    for (const [n, row] of gradient.entries()) {
      for (const [t, value] of row.entries()) {
        near(value, expected.gradient[n][t], 1e-6, `gradient ${n},${t}`);
      }
    }
    assert.is(weights[4], 0, 'a masked answer');
  });
}

test('learning rate factors of the three schedules', () => {
  const { max_steps: maxSteps, warmup_steps, factors } = golden.schedule;
  for (const type of ['cosine', 'linear', 'constant'] as const) {
    for (const [update, expected] of factors[type].entries()) {
      near(
        learningRateFactor(update, { type, maxSteps, warmupRatio: warmup_steps / maxSteps }),
        expected,
        1e-12,
        `${type} ${update}`,
      );
    }
  }
});

test('temperature and ramps', () => {
  const schedule = { temperature: 1.5, temperature_end: 0.5, temperature_steps: 10 };
  assert.is(temperatureAt(1, schedule), 1.5);
  assert.is(temperatureAt(6, schedule), 1);
  assert.is(temperatureAt(11, schedule), 0.5);
  assert.is(temperatureAt(99, schedule), 0.5);
  assert.is(temperatureAt(99, { ...schedule, temperature_end: null }), 1.5);
  assert.is(ramp(3, 0), 1);
  assert.is(ramp(3, 4), 0.75);
  assert.is(ramp(8, 4), 1);
});

test.run();
