/** Advantages: rewards → how much better each answer is than the others to its prompt. */
import type { Advantages } from '../types.js';

/** Added to the standard deviation, as TRL does. */
const EPSILON = 1e-4;
/** Rewards within this standard deviation are all equal (torch.isclose against 0). */
const ZERO = 1e-8;

/** Standard deviation with Bessel's correction, as torch's `.std()`. */
export function standardDeviation(values: ArrayLike<number>): number {
  const count = values.length;
  if (count < 2) {
    return 0;
  }
  const list = Array.from(values);
  const mean = list.reduce((sum, value) => sum + value, 0) / count;
  return Math.sqrt(list.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (count - 1));
}

/**
 * advantage = (reward − mean of the group) / (std + 1e-4), with the standard deviation of the group, of the batch, or
 * undivided: TRL's `scale_rewards`. In a dead group (all rewards equal) every advantage is exactly 0.
 *
 * @param rewards [N] weighted totals; those of one group stand together
 * @param numGenerations G
 */
export function advantagesOf(
  rewards: Float64Array,
  numGenerations: number,
  scaleRewards: 'group' | 'batch' | 'none',
): Advantages {
  const groups = rewards.length / numGenerations;
  const advantages = new Float64Array(rewards.length);
  const dead: boolean[] = [];
  const batchDeviation = standardDeviation(rewards);
  for (let b = 0; b < groups; b++) {
    const group = rewards.subarray(b * numGenerations, (b + 1) * numGenerations);
    const deviation = standardDeviation(group);
    dead.push(deviation <= ZERO);
    if (dead[b]) {
      continue;
    }
    const mean = group.reduce((sum, value) => sum + value, 0) / numGenerations;
    const divisor = scaleRewards === 'none' ? 1 : (scaleRewards === 'batch' ? batchDeviation : deviation) + EPSILON;
    for (let g = 0; g < numGenerations; g++) {
      advantages[b * numGenerations + g] = ((group[g] as number) - mean) / divisor;
    }
  }
  return { advantages, dead };
}
