import type { RewardInput } from '../types.js';
import { answeredLabel, mentionedLabels, quoted, wordCount, words } from './words.js';

/** 1 for one word that is a label; 0.5 if a label stands among other words; −0.25 past ten words without one; else 0. */
export function formatCompliance({ completion, labels }: Pick<RewardInput, 'completion' | 'labels'>): number {
  if (answeredLabel(completion, labels) !== null) {
    return 1;
  }
  if (mentionedLabels(completion, labels).length > 0) {
    return 0.5;
  }
  return words(completion).length > 10 ? -0.25 : 0;
}

/** Why formatCompliance() gives an answer its value, in words. */
export function explainFormatCompliance({ completion, labels }: Pick<RewardInput, 'completion' | 'labels'>): string {
  const answered = answeredLabel(completion, labels);
  if (answered !== null) {
    return `the answer is the label '${answered}'`;
  }
  const mentioned = mentionedLabels(completion, labels);
  if (mentioned.length > 0) {
    return `${quoted(mentioned)} among ${wordCount(completion)}`;
  }
  return `${wordCount(completion)} without a label${words(completion).length > 10 ? ', more than 10' : ''}`;
}
