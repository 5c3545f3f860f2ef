/** What scored groups say of each reward. Pure: no policy, no file. */
import { advantagesOf } from '../pipeline/advantages.js';

/** N answers in groups of G, those of one prompt next to each other. */
export interface ScoredGroups {
  /** G */
  size: number;
  rewards: { name: string; weight: number; values: ArrayLike<number> }[]; // each [N], unweighted
  /** Whether the answer is the label. */
  correct: readonly boolean[]; // [N]
}

/** One reward in the groups. All figures but mean and weight are of deviations from the group's mean: a constant of a group teaches nothing. */
export interface RewardMeasures {
  name: string;
  weight: number;
  mean: number;
  min: number;
  max: number;
  /** Mean over the groups of the variance within a group, unweighted. */
  varianceWithin: number;
  /** Share of the groups in which it is not the same for all answers. */
  varies: number;
  /** With each other reward; null where one of both does not vary. */
  correlations: Record<string, number | null>;
  /** With being right; null where one of both does not vary. */
  correctness: number | null;
  /** cov(weight · value, total) / var(total): the shares of all rewards add up to 1. Null where the total does not vary. */
  advantageShare: number | null;
}

/** What scored groups say. */
export interface GroupMeasures {
  groups: number;
  /** Groups whose rewards are all equal, as the loop counts them. */
  dead: number;
  /** Share of dead groups, and the interval that has the true share 95 times of 100 (Wilson). */
  deadShare: { value: number; low: number; high: number };
  /** Share of the answers that are right. */
  accuracy: number;
  rewards: RewardMeasures[];
}

/** Values that differ by less than this are equal: rewards are sums of a few decimal fractions. */
const ZERO = 1e-9;

export function measureGroups({ size, rewards, correct }: ScoredGroups): GroupMeasures {
  const n = correct.length;
  const groups = n / size;
  const weighted = rewards.map(({ weight, values }) => centred(values, size, weight));
  const total = Float64Array.from({ length: n }, (_, i) => sum(weighted.map((each) => each[i] as number)));
  const right = centred(correct.map(Number), size);
  const totalVariance = dot(total, total);
  const { dead } = advantagesOf(
    Float64Array.from({ length: n }, (_, i) =>
      sum(rewards.map(({ weight, values }) => weight * (values[i] as number))),
    ),
    size,
    'group',
  );
  const deadCount = dead.filter(Boolean).length;
  const deviations = rewards.map(({ values }) => centred(values, size));
  return {
    groups,
    dead: deadCount,
    deadShare: { value: groups === 0 ? 0 : deadCount / groups, ...wilson(deadCount, groups) },
    accuracy: n === 0 ? 0 : correct.filter(Boolean).length / n,
    rewards: rewards.map(({ name, weight, values }, r) => {
      const own = deviations[r] as Float64Array;
      const list = Array.from(values);
      return {
        name,
        weight,
        mean: n === 0 ? 0 : sum(list) / n,
        min: Math.min(...list),
        max: Math.max(...list),
        varianceWithin: n === 0 || size < 2 ? 0 : dot(own, own) / (groups * (size - 1)),
        varies: groups === 0 ? 0 : count(groups, (b) => !flat(own.subarray(b * size, (b + 1) * size))) / groups,
        correlations: Object.fromEntries(
          rewards
            .map(({ name: other }, o) => [other, correlation(own, deviations[o] as Float64Array)] as const)
            .filter(([other]) => other !== name),
        ),
        correctness: correlation(own, right),
        advantageShare: totalVariance <= ZERO ? null : dot(weighted[r] as Float64Array, total) / totalVariance,
      };
    }),
  };
}

/** Deviations from the mean of the group, times a factor. */
export function centred(values: ArrayLike<number>, size: number, factor = 1): Float64Array {
  const result = new Float64Array(values.length);
  for (let start = 0; start < values.length; start += size) {
    const own = Array.from({ length: size }, (_, g) => values[start + g] as number);
    const mean = sum(own) / size;
    for (const [g, value] of own.entries()) {
      const deviation = value - mean;
      result[start + g] = factor * (Math.abs(deviation) <= ZERO ? 0 : deviation);
    }
  }
  return result;
}

/** Pearson's, of deviations. Null where one does not vary. */
function correlation(a: Float64Array, b: Float64Array): number | null {
  const scale = Math.sqrt(dot(a, a) * dot(b, b));
  return scale <= ZERO ? null : Math.max(-1, Math.min(1, dot(a, b) / scale));
}

/** Wilson's interval of a share at 95%. */
function wilson(successes: number, n: number): { low: number; high: number } {
  if (n === 0) {
    return { low: 0, high: 1 };
  }
  const z = 1.959964;
  const p = successes / n;
  const centre = p + (z * z) / (2 * n);
  const half = z * Math.sqrt((p * (1 - p)) / n + (z * z) / (4 * n * n));
  const scale = 1 + (z * z) / n;
  return { low: Math.max(0, (centre - half) / scale), high: Math.min(1, (centre + half) / scale) };
}

function flat(values: Float64Array): boolean {
  return values.every((value) => value === 0);
}

export function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((total, value, i) => total + value * (b[i] as number), 0);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function count(n: number, holds: (i: number) => boolean): number {
  return Array.from({ length: n }, (_, i) => i).filter(holds).length;
}
