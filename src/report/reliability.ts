/** Calibration: is what the policy calls 80% probable right in 80% of the cases? */
import type { Prediction } from '../types.js';
import type { ReliabilityBin } from './run-data.js';

const BINS = 10;

/** Ten bins of equal width over the probability of the most probable label. */
export function reliability(predictions: readonly Pick<Prediction, 'label' | 'probabilities'>[]): ReliabilityBin[] {
  const bins = Array.from({ length: BINS }, () => ({ n: 0, sum: 0, right: 0 }));
  for (const { label, probabilities } of predictions) {
    const [likely, p] = Object.entries(probabilities).reduce(
      (best, other) => (other[1] > best[1] ? other : best),
      ['', -1],
    );
    if (!(p >= 0)) continue;
    const bin = bins[Math.min(BINS - 1, Math.floor(p * BINS))] as (typeof bins)[number];
    bin.n++;
    bin.sum += p;
    bin.right += likely === label ? 1 : 0;
  }
  return bins.map(({ n, sum, right }, i) => ({
    from: i / BINS,
    to: (i + 1) / BINS,
    n,
    confidence: n === 0 ? null : sum / n,
    accuracy: n === 0 ? null : right / n,
  }));
}

/** Expected calibration error: |accuracy − confidence|, weighted by clips. */
export function calibrationError(bins: readonly ReliabilityBin[]): number {
  const n = bins.reduce((sum, bin) => sum + bin.n, 0);
  return n === 0
    ? 0
    : bins.reduce((sum, { n, accuracy, confidence }) => sum + n * Math.abs((accuracy ?? 0) - (confidence ?? 0)), 0) / n;
}
