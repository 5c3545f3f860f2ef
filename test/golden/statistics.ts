/** Own computations that the sampler is compared with: softmax with top-k and top-p, and Pearson's chi-square. */
import * as assert from 'uvu/assert';

/** Probabilities after temperature (already in `logProbs`), then top-k, then top-p, in transformers' order. */
export function restricted(logProbs: ArrayLike<number>, topK: number, topP: number): number[] {
  const p = Array.from(logProbs, Math.exp);
  const order = p.map((_, i) => i).sort((a, b) => (p[b] as number) - (p[a] as number));
  const kept = topK > 0 ? order.slice(0, topK) : order;
  const total = kept.reduce((sum, i) => sum + (p[i] as number), 0);
  const chosen: number[] = [];
  let mass = 0;
  for (const i of kept) {
    if (mass >= topP) break; // the token that crosses topP belongs to the set
    chosen.push(i);
    mass += (p[i] as number) / total;
  }
  const out = p.map(() => 0);
  const sum = chosen.reduce((s, i) => s + (p[i] as number), 0);
  for (const i of chosen) out[i] = (p[i] as number) / sum;
  return out;
}

/**
 * Pearson's statistic of drawn tokens against probabilities, as a standard normal deviate (Wilson and Hilferty 1931).
 * Tokens expected fewer than 8 times share one bin. A token of probability 0 that was drawn is an error.
 */
export function chiSquareDeviate(draws: number[], probabilities: number[]): number {
  const counts = probabilities.map(() => 0);
  for (const token of draws) {
    assert.ok((probabilities[token] as number) > 0, `token ${token} was drawn, its probability is 0`);
    counts[token] = (counts[token] as number) + 1;
  }
  let statistic = 0;
  let bins = 0;
  let restExpected = 0;
  let restCount = 0;
  probabilities.forEach((p, i) => {
    const expected = p * draws.length;
    if (expected < 8) {
      restExpected += expected;
      restCount += counts[i] as number;
      return;
    }
    statistic += ((counts[i] as number) - expected) ** 2 / expected;
    bins++;
  });
  if (restExpected >= 8) {
    statistic += (restCount - restExpected) ** 2 / restExpected;
    bins++;
  }
  assert.ok(bins > 2, `only ${bins} bins`);
  const df = bins - 1;
  return (Math.cbrt(statistic / df) - (1 - 2 / (9 * df))) / Math.sqrt(2 / (9 * df));
}
