/** How much each token of an answer counts in the loss: TRL's `loss_type` as one number an answer. */

export type LossType = 'grpo' | 'bnpo' | 'dr_grpo' | 'dapo';

export interface LossWeightOptions {
  lossType: LossType;
  maxCompletionLength: number;
  gradientAccumulationSteps: number;
  /** 'dapo' only: the tokens that count in one accumulation window; see `windowTokens`. */
  activeTokensInWindow: number;
}

/**
 * loss = Σ weight[n] · Σ_t per-token loss[n, t]
 *
 * - grpo: the mean over answers of the mean over tokens
 * - bnpo: the mean over the micro-batch's tokens
 * - dr_grpo: divided by N · max_completion_length, whatever the lengths (no length bias)
 * - dapo: the mean over all tokens of the accumulated batch
 *
 * @param lengths [N] tokens of each answer in the micro-batch, stop included
 * @param masked [N] true: truncated, and `mask_truncated_completions` is set; counts in N but not in tokens
 */
export function lossWeights(
  lengths: ArrayLike<number>,
  masked: ArrayLike<boolean>,
  options: LossWeightOptions,
): Float32Array {
  const count = lengths.length;
  const steps = options.gradientAccumulationSteps;
  const activeTokens = activeTokenCount(lengths, masked);
  return Float32Array.from({ length: count }, (_, n) => {
    const length = lengths[n] as number;
    if (masked[n] || length === 0) {
      return 0;
    }
    switch (options.lossType) {
      case 'grpo':
        return 1 / (length * count * steps);
      case 'bnpo':
        return 1 / (activeTokens * steps);
      case 'dr_grpo':
        return 1 / (count * options.maxCompletionLength * steps);
      case 'dapo':
        return 1 / Math.max(1, options.activeTokensInWindow);
    }
  });
}

export function activeTokenCount(lengths: ArrayLike<number>, masked: ArrayLike<boolean>): number {
  let tokens = 0;
  for (let n = 0; n < lengths.length; n++) {
    tokens += masked[n] ? 0 : (lengths[n] as number);
  }
  return tokens;
}

/**
 * The tokens 'dapo' divides by. One generation may be divided into more or fewer micro-batches than one update accumulates;
 * its tokens are scaled to one accumulation window, as TRL does.
 */
export function windowTokens(
  tokensOfGeneration: number,
  gradientAccumulationSteps: number,
  stepsPerGeneration: number,
): number {
  return (Math.max(1, tokensOfGeneration) * gradientAccumulationSteps) / stepsPerGeneration;
}
