import type { RewardInput } from '../types.js';
import { wordCount, words } from './words.js';

/** 1 for one word, 0.8 up to three, 0.5 up to ten, else 0; an empty answer has no word and earns 0. */
export function lengthPenalty({ completion }: Pick<RewardInput, 'completion'>): number {
  const count = words(completion).length;
  if (count === 0 || count > 10) {
    return 0;
  }
  if (count === 1) {
    return 1;
  }
  return count <= 3 ? 0.8 : 0.5;
}

/** Why lengthPenalty() gives an answer its value, in words. */
export function explainLengthPenalty({ completion }: Pick<RewardInput, 'completion'>): string {
  return words(completion).length === 0 ? 'an empty answer' : wordCount(completion);
}
