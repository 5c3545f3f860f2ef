import type { RewardInput } from '../types.js';
import { normalized } from './words.js';

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

/** 1 − 0.5 for each hedging phrase in the answer, at least 0; 0 for an empty answer. */
export function confidence({ completion }: Pick<RewardInput, 'completion'>): number {
  const answer = normalized(completion).replace(/\s+/gu, ' ');
  if (answer === '') {
    return 0;
  }
  const hedges = HEDGES.filter((hedge) => new RegExp(`\\b${hedge}\\b`, 'u').test(answer)).length;
  return Math.max(0, 1 - 0.5 * hedges);
}
