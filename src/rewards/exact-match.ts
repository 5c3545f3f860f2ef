import type { RewardInput } from '../types.js';
import { mentionedLabels, normalized, quoted } from './words.js';

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

/** Why exactMatch() gives an answer its value, in words. */
export function explainExactMatch({
  completion,
  label,
  labels,
}: Pick<RewardInput, 'completion' | 'label' | 'labels'>): string {
  if (normalized(completion) === label.toLowerCase()) {
    return `the answer is the target '${label}'`;
  }
  const mentioned = mentionedLabels(completion, labels);
  if (mentioned.length === 0) {
    return 'no label stands in the answer';
  }
  if (mentioned.length > 1) {
    return `names ${quoted(mentioned)}: only one label may stand in the answer`;
  }
  return mentioned[0] === label
    ? `names the target '${label}' and no other label, but the answer is longer`
    : `names ${quoted(mentioned)}; the target is '${label}'`;
}
