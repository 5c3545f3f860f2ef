/** The numbers of one step under TRL's names. */

import { standardDeviation } from '../pipeline/advantages.js';
import type { ScoredBatch } from '../types.js';

/** Collects values over the micro-batches of one step; `result` has their means (or extremes). */
export class StepMetrics {
  readonly #values = new Map<string, number[]>();

  add(name: string, value: number): void {
    const values = this.#values.get(name) ?? [];
    values.push(value);
    this.#values.set(name, values);
  }

  /** The mean of what was added; the sum of times; null where the number does not exist. */
  result(): Record<string, number | null> {
    const entries = [...this.#values].map(([name, values]) => {
      const sum = values.reduce((total, value) => total + value, 0);
      const value = name.startsWith('time/')
        ? sum
        : /(^|\/)max(_|$)/.test(name)
          ? Math.max(...values)
          : /(^|\/)min(_|$)/.test(name)
            ? Math.min(...values)
            : sum / values.length;
      return [name, Number.isFinite(value) ? value : null] as const;
    });
    return Object.fromEntries(entries);
  }
}

/** reward, reward_std and rewards/<name>/{mean,std}. */
export function rewardMetrics(metrics: StepMetrics, scored: ScoredBatch): void {
  const mean = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0) / values.length;
  metrics.add('reward', mean(scored.totals));
  metrics.add('reward_std', standardDeviation(scored.totals));
  for (const [name, values] of Object.entries(scored.values)) {
    metrics.add(`rewards/${name}/mean`, mean(values));
    metrics.add(`rewards/${name}/std`, standardDeviation(values));
  }
}

/** completions/{mean,min,max}_length, clipped_ratio and the same lengths of those that ended by themselves. */
export function lengthMetrics(
  metrics: StepMetrics,
  rollouts: readonly { tokens: Int32Array; truncated: boolean }[],
): void {
  const summarize = (lengths: number[], infix: string) => {
    const known = lengths.length > 0 ? lengths : [0];
    metrics.add(`completions/mean_${infix}length`, known.reduce((sum, length) => sum + length, 0) / known.length);
    metrics.add(`completions/min_${infix}length`, Math.min(...known));
    metrics.add(`completions/max_${infix}length`, Math.max(...known));
  };
  const ended = rollouts.filter(({ truncated }) => !truncated);
  summarize(
    rollouts.map(({ tokens }) => tokens.length),
    '',
  );
  metrics.add('completions/clipped_ratio', (rollouts.length - ended.length) / rollouts.length);
  summarize(
    ended.map(({ tokens }) => tokens.length),
    'terminated_',
  );
}

/** How far the rollout's log-probabilities are from the training pass's, before the policy has changed. */
export function samplingGapMetrics(
  metrics: StepMetrics,
  rollout: readonly (Float32Array | null)[],
  training: readonly Float32Array[],
): void {
  const gaps = training.flatMap((row, n) => {
    const sampled = rollout[n] ?? null;
    return sampled === null ? [] : Array.from(row, (value, t) => value - (sampled[t] as number));
  });
  if (gaps.length === 0) {
    return;
  }
  const ratios = gaps.map(Math.exp);
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  metrics.add('sampling/sampling_logp_difference/mean', mean(gaps.map(Math.abs)));
  metrics.add('sampling/sampling_logp_difference/max', Math.max(...gaps.map(Math.abs)));
  metrics.add('sampling/importance_sampling_ratio/min', Math.min(...ratios));
  metrics.add('sampling/importance_sampling_ratio/mean', mean(ratios));
  metrics.add('sampling/importance_sampling_ratio/max', Math.max(...ratios));
}
