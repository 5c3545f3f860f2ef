/** How the reward of one answer comes about: each reward's value, times its weight, added up in the order of the configuration. */
import { ramp } from '../pipeline/schedule.js';
import type { RewardInput } from '../types.js';
import { BUILT_IN_REWARDS, type BuiltInReward, REWARD_REASONS } from './index.js';
import type { WeightedReward } from './weighted.js';

/** One line of the sum. */
export interface RewardPart {
  name: string;
  /** As the reward gave it. */
  value: number;
  /** At the step in question: it grows where the configuration says so. */
  weight: number;
  /** weight · value */
  product: number;
  /** Sum of the products so far. */
  running: number;
  /** Why a built-in reward has this value, in words; null for a reward of the user's. */
  reason: string | null;
}

/**
 * The parts of one answer's reward; the last one's `running` is the total that the loop computes, bit for bit.
 *
 * @param valueFor the value that a reward gave this answer
 * @param step from 1, for weights that grow; Infinity: full weights
 */
export function rewardParts(
  rewards: readonly WeightedReward[],
  input: RewardInput,
  valueFor: (name: string) => number,
  step: number,
): RewardPart[] {
  let running = 0;
  return rewards.map((entry) => {
    const value = valueFor(entry.name);
    const weight = entry.weight * ramp(step, entry.rampSteps);
    const product = weight * value;
    running += product;
    return { name: entry.name, value, weight, product, running, reason: reasonOf(entry, input) };
  });
}

/** Why a reward gives an answer its value; null for a reward of the user's, of which only the value is known. */
export function reasonOf({ name, reward }: WeightedReward, input: RewardInput): string | null {
  const key = name as BuiltInReward;
  // By identity: a user's reward may have a built-in one's name where that is not loaded.
  return Object.hasOwn(BUILT_IN_REWARDS, name) && BUILT_IN_REWARDS[key] === reward ? REWARD_REASONS[key](input) : null;
}
