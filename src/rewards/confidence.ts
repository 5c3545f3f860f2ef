import type { RewardInput } from '../types.js';
import { normalized, quoted } from './words.js';

/** Phrases by which an answer avoids to commit itself. */
export const HEDGES = [
  'not sure',
  'maybe',
  'possibly',
  'might be',
  'could be',
  'i think',
  'probably',
  'perhaps',
  'unclear',
  'uncertain',
] as const;

/** The hedging phrases that stand in an answer, each once. */
export function hedgesIn(completion: string): string[] {
  const answer = normalized(completion).replace(/\s+/gu, ' ');
  return HEDGES.filter((hedge) => new RegExp(`\\b${hedge}\\b`, 'u').test(answer));
}

/** 1 − 0.5 for each hedging phrase in the answer, at least 0; 0 for an empty answer. */
export function confidence({ completion }: Pick<RewardInput, 'completion'>): number {
  return normalized(completion) === '' ? 0 : Math.max(0, 1 - 0.5 * hedgesIn(completion).length);
}

/** Why confidence() gives an answer its value, in words. */
export function explainConfidence({ completion }: Pick<RewardInput, 'completion'>): string {
  if (normalized(completion) === '') {
    return 'an empty answer';
  }
  const hedges = hedgesIn(completion);
  return hedges.length === 0
    ? 'no hedging phrase'
    : `${hedges.length} hedging phrase${hedges.length === 1 ? '' : 's'}: ${quoted(hedges)}`;
}
