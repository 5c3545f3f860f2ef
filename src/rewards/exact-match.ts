import type { RewardInput } from '../types.js';
import { mentionedLabels, normalized } from './words.js';

/**
 * 1 if the answer, trimmed and lower-cased, is the target; 0.5 if a longer answer names the target and no other label; else 0.
 * Naming every label earns nothing: that would be a way to be paid without choosing.
 */
export function exactMatch({
  completion,
  label,
  labels,
}: Pick<RewardInput, 'completion' | 'label' | 'labels'>): number {
  if (normalized(completion) === label.toLowerCase()) {
    return 1;
  }
  const mentioned = mentionedLabels(completion, labels);
  return mentioned.length === 1 && mentioned[0] === label ? 0.5 : 0;
}
