/** Early stopping on the held-out reward: never on the training reward, which is noisy and can be gamed. */

export interface StoppingState {
  best: { step: number; reward: number; accuracy: number } | null;
  /** Evaluations since the best one. */
  evaluationsWithoutGain: number;
}

export interface StoppingOptions {
  patience: number;
  minDelta: number;
  targetAccuracy: number | null;
}

export interface StoppingDecision {
  state: StoppingState;
  improved: boolean;
  /** Why to stop, in words; null: go on. */
  stop: string | null;
}

export const INITIAL_STOPPING: StoppingState = { best: null, evaluationsWithoutGain: 0 };

/** What one more evaluation means. Pure. */
export function afterEvaluation(
  state: StoppingState,
  evaluation: { step: number; reward: number; accuracy: number },
  { patience, minDelta, targetAccuracy }: StoppingOptions,
): StoppingDecision {
  const { step, reward, accuracy } = evaluation;
  const improved = state.best === null || reward >= state.best.reward + minDelta;
  const next: StoppingState = improved
    ? { best: { step, reward, accuracy }, evaluationsWithoutGain: 0 }
    : { best: state.best, evaluationsWithoutGain: state.evaluationsWithoutGain + 1 };
  let stop: string | null = null;
  if (targetAccuracy !== null && accuracy >= targetAccuracy) {
    stop = `held-out accuracy ${accuracy.toFixed(3)} reached the target ${targetAccuracy}`;
  } else if (patience > 0 && next.evaluationsWithoutGain >= patience) {
    stop = `held-out reward gained less than ${minDelta} in ${patience} evaluations`;
  }
  return { state: next, improved, stop };
}
