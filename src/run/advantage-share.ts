/** Which reward the advantages come from. */

import { centred, dot } from '../lint/measures.js';
import { ramp } from '../pipeline/schedule.js';
import type { WeightedReward } from '../rewards/weighted.js';
import type { ScoredBatch } from '../types.js';

/**
 * Reward name → cov(part, total) / var(total) over rewards centred in their group. A part is weight · value, so the shares sum to 1; one
 * is negative where a reward pulls against the others. NaN where the total does not vary.
 *
 * @param scored [N], groups of G together
 * @param size G
 */
export function advantageShares(
  scored: ScoredBatch,
  rewards: readonly Pick<WeightedReward, 'name' | 'weight' | 'rampSteps'>[],
  size: number,
  step: number,
): Record<string, number> {
  const total = centred(scored.totals, size);
  const variance = dot(total, total);
  return Object.fromEntries(
    rewards.map(({ name, weight, rampSteps }) => {
      const part = centred(scored.values[name] as Float64Array, size);
      const share = (weight * ramp(step, rampSteps) * dot(part, total)) / variance;
      return [name, variance > 1e-12 ? share : Number.NaN];
    }),
  );
}
