import type { RewardInput } from '../types.js';
import { mentionedLabels, predictedLabel, quoted } from './words.js';

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
  if (expected === 0) {
    return -1;
  }
  return Math.min(1, Math.max(-1, (expected - recentShare(predicted, recentPredictions)) / expected));
}

function recentShare(predicted: string, recentPredictions: readonly string[]): number {
  return recentPredictions.filter((label) => label === predicted).length / recentPredictions.length;
}

/** Why datasetBalance() gives an answer its value, in words. */
export function explainDatasetBalance({
  completion,
  labels,
  labelShares,
  recentPredictions,
}: Pick<RewardInput, 'completion' | 'labels' | 'labelShares' | 'recentPredictions'>): string {
  const predicted = predictedLabel(completion, labels);
  if (predicted === null) {
    const mentioned = mentionedLabels(completion, labels);
    return mentioned.length === 0 ? 'no label stands in the answer' : `names ${quoted(mentioned)}, so it predicts none`;
  }
  if (recentPredictions.length === 0) {
    return 'nothing was predicted yet';
  }
  const percent = (share: number) => `${(100 * share).toFixed(1)}%`;
  return `'${predicted}' is ${percent(labelShares[predicted] ?? 0)} of the clips and ${percent(recentShare(predicted, recentPredictions))} of the last ${recentPredictions.length} predictions`;
}
