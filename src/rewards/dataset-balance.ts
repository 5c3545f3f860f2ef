import type { RewardInput } from '../types.js';
import { predictedLabel } from './words.js';

/** Predictions that the balance reward looks back on, for each label. */
export const BALANCE_WINDOW_PER_LABEL = 64;

/**
 * (q − s)/q clamped to [−1, 1]; 0 without a label. q is the predicted label's share among the clips, s its share among the
 * recent predictions. It differs between the answers of one group; one constant for a batch would cancel in the group mean.
 * Before the first prediction s is q: nothing is known, so nothing is paid.
 */
export function datasetBalance({
  completion,
  labels,
  labelShares,
  recentPredictions,
}: Pick<RewardInput, 'completion' | 'labels' | 'labelShares' | 'recentPredictions'>): number {
  const predicted = predictedLabel(completion, labels);
  if (predicted === null || recentPredictions.length === 0) {
    return 0;
  }
  const expected = labelShares[predicted] ?? 0;
  const share = recentPredictions.filter((label) => label === predicted).length / recentPredictions.length;
  if (expected === 0) {
    return -1;
  }
  return Math.min(1, Math.max(-1, (expected - share) / expected));
}
