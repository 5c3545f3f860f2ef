/** The rewards: pure functions of one answer, in [−1, 1]. Importing this loads no addon. */
import type { RewardInput } from '../types.js';
import { confidence, explainConfidence } from './confidence.js';
import { datasetBalance, explainDatasetBalance } from './dataset-balance.js';
import { exactMatch, explainExactMatch } from './exact-match.js';
import { explainFormatCompliance, formatCompliance } from './format-compliance.js';
import { explainLengthPenalty, lengthPenalty } from './length-penalty.js';

export type { RewardInput } from '../types.js';
export { confidence, HEDGES, hedgesIn } from './confidence.js';
export { BALANCE_WINDOW_PER_LABEL, datasetBalance } from './dataset-balance.js';
export { exactMatch } from './exact-match.js';
export { formatCompliance } from './format-compliance.js';
export { lengthPenalty } from './length-penalty.js';
export { answeredLabel, mentionedLabels, normalized, predictedLabel, words } from './words.js';

/** A reward: one answer → a number. A user's module exports one as default; it may be asynchronous. */
export type Reward = (input: RewardInput) => number | Promise<number>;

/** The built-in rewards by the names that the configuration and metrics.jsonl use. */
export const BUILT_IN_REWARDS = {
  exact_match: exactMatch,
  format_compliance: formatCompliance,
  confidence,
  dataset_balance: datasetBalance,
  length_penalty: lengthPenalty,
} as const satisfies Record<string, (input: RewardInput) => number>;

/** A built-in reward's name. */
export type BuiltInReward = keyof typeof BUILT_IN_REWARDS;

/** Why a built-in reward gives an answer its value, in words: which phrases, how many words. */
export const REWARD_REASONS: Readonly<Record<BuiltInReward, (input: RewardInput) => string>> = {
  exact_match: explainExactMatch,
  format_compliance: explainFormatCompliance,
  confidence: explainConfidence,
  dataset_balance: explainDatasetBalance,
  length_penalty: explainLengthPenalty,
};
