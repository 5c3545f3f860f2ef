/** What is going wrong, in words. Pure: the same numbers give the same sentences. */

export interface StepSummary {
  /** Share of groups whose rewards are all equal. */
  deadShare: number;
  /** Mean of exact_match; null where that reward is off. */
  exactMatch: number | null;
  /** Label → its share among the answers of the step; answers without a label are missing. */
  predictedShares: Record<string, number>;
  /** Reward name → true where its values differ within no group of the step. */
  constantRewards: Record<string, boolean>;
  /** Mean weighted reward of the answers. */
  reward: number;
  /** Mean length of the answers in tokens. */
  meanLength: number;
}

/** What one update was made of. */
export interface UpdateSummary {
  /** True if a group whose rewards differ was part of it. */
  live: boolean;
  /** Norm of the gradient before clipping. */
  gradNorm: number;
}

/** A held-out evaluation and the training before it. */
export interface EvaluationSummary {
  /** Held-out clips. */
  n: number;
  /** In [0, 1]. */
  accuracy: number;
  /** Mean training reward of the generations since the evaluation before; null of the first evaluation, before training. */
  trainReward: number | null;
}

export interface Diagnosis {
  /** The same for the same trouble, whatever the figures in the text: each is told once a run. */
  key: string;
  text: string;
}

/** Steps a sign must last before it is told. */
const PATIENCE = 3;
/** Share of one label above which the policy says only that. */
const COLLAPSED = 0.95;
/** Generations over which the length of answers is averaged, at the beginning and now. */
const LENGTH_WINDOW = 5;
/** Growth of the mean length that is told, as a factor and in tokens. */
const GROWTH = { factor: 1.5, tokens: 4 };
/** Fall of the held-out accuracy that is told even where its standard error is smaller. */
const FALL = 0.03;

/** @param generations all so far, oldest first */
export function diagnose(generations: readonly StepSummary[], labels: readonly string[]): Diagnosis[] {
  const last = generations.slice(-PATIENCE);
  if (last.length < PATIENCE) {
    return [];
  }
  const found: Diagnosis[] = [];
  const solved = last.every(({ exactMatch }) => exactMatch !== null && exactMatch > 0.95);
  const collapsed = labels.find((label) =>
    last.every(({ predictedShares }) => (predictedShares[label] ?? 0) > COLLAPSED),
  );
  if (collapsed !== undefined && !solved) {
    found.push({
      key: `collapsed to ${collapsed}`,
      text: `collapsed to one label: ${PATIENCE} steps in a row nearly every answer was '${collapsed}'. Try a larger --num-generations, a higher --temperature, a lower --learning-rate or a larger --dataset-balance-weight.`,
    });
  }
  const dead = last.every(({ deadShare }) => deadShare === 1);
  if (dead && solved) {
    found.push({
      key: 'solved',
      text: 'all groups are dead because every answer is right: nothing is left to learn from these clips.',
    });
  } else if (dead) {
    found.push({ key: 'dead groups', text: deadGroups(last) });
  }
  const growing = growth(generations);
  if (growing !== null) {
    found.push({
      key: 'growing answers',
      text: `answers grow: ${growing.now.toFixed(1)} tokens on average, ${growing.first.toFixed(1)} in the first ${LENGTH_WINDOW} generations. Try a larger --length-penalty-weight or a smaller --max-completion-length.`,
    });
  }
  return found;
}

/** No update moves the policy though answers differ in reward. @param updates all so far, oldest first */
export function diagnoseUpdates(updates: readonly UpdateSummary[]): Diagnosis[] {
  const last = updates.slice(-PATIENCE);
  if (last.length < PATIENCE || !last.every(({ live, gradNorm }) => live && gradNorm === 0)) {
    return [];
  }
  return [
    {
      key: 'zero gradient',
      text: `the gradient was exactly zero in ${PATIENCE} steps in a row though answers differ in reward. Where the answers are cut and therefore masked, try a larger --max-completion-length or --no-mask-truncated-completions; where --num-iterations is above 1, a lower --learning-rate, since every ratio is clipped.`,
    },
  ];
}

/**
 * Held-out accuracy stays below its peak while the training reward is above what it was at the peak: the policy found a way to
 * be rewarded that is not being right. One bad evaluation is noise; two in a row, each below the peak by more than one standard
 * error of it, are told.
 *
 * @param evaluations all so far, oldest first
 */
export function diagnoseEvaluations(evaluations: readonly EvaluationSummary[]): Diagnosis[] {
  const known = evaluations.flatMap((one, i) => {
    // The policy before training is as that of the first steps.
    const trainReward = one.trainReward ?? evaluations[i + 1]?.trainReward ?? null;
    return trainReward === null ? [] : [{ ...one, trainReward }];
  });
  const last = known.slice(-2);
  const earlier = known.slice(0, -2);
  const now = last[1];
  if (now === undefined || earlier.length === 0) {
    return [];
  }
  const peak = earlier.reduce((best, one) => (one.accuracy > best.accuracy ? one : best));
  const standardError = Math.sqrt((peak.accuracy * (1 - peak.accuracy)) / peak.n);
  const fell = last.every((one) => peak.accuracy - one.accuracy > Math.max(FALL, standardError));
  const rose = last.every(({ trainReward }) => trainReward > peak.trainReward);
  if (!fell || !rose) {
    return [];
  }
  return [
    {
      key: 'gamed',
      text: `the training reward rises (${peak.trainReward.toFixed(3)} → ${now.trainReward.toFixed(3)}) while held-out accuracy falls (${peak.accuracy.toFixed(3)} → ${now.accuracy.toFixed(3)}, n ${now.n}): the rewards may be gamed, or the training clips learnt by heart. Look at completions.jsonl and \`voicegrpo rewards lint\`; try a larger --exact-match-weight, --beta 0.04 or more clips.`,
    },
  ];
}

/**
 * Reward name → true where all answers to each prompt have the same value.
 *
 * @param values each [N], those of a group next to each other
 * @param size answers of a group
 */
export function constantRewards(values: Readonly<Record<string, Float64Array>>, size: number): Record<string, boolean> {
  return Object.fromEntries(
    Object.entries(values).map(([name, own]) => [name, own.every((value, n) => value === own[n - (n % size)])]),
  );
}

function deadGroups(last: readonly StepSummary[]): string {
  const start = `all groups are dead: in ${PATIENCE} steps no prompt had answers of different reward, so the gradient is zero.`;
  const names = Object.keys(last[0]?.constantRewards ?? {});
  const constant = constantIn(last);
  const advice = 'Try a larger --num-generations or a higher --temperature';
  if (names.length === 0 || constant.length === 0) return `${start} ${advice}.`;
  const which =
    constant.length < names.length
      ? `${listed(constant)} never varied`
      : constant.length === 1
        ? `The only reward, ${listed(constant)}, never varied`
        : `No reward varied: ${listed(constant)}`;
  return `${start} ${which}. ${advice}, or a reward that tells the answers apart (\`voicegrpo rewards lint\`).`;
}

/** Rewards that were constant in each of these steps. */
function constantIn(steps: readonly StepSummary[]): string[] {
  return Object.keys(steps[0]?.constantRewards ?? {}).filter((name) =>
    steps.every(({ constantRewards }) => constantRewards[name] === true),
  );
}

function growth(generations: readonly StepSummary[]): { first: number; now: number } | null {
  if (generations.length < 2 * LENGTH_WINDOW) return null;
  const mean = (part: readonly StepSummary[]) =>
    part.reduce((sum, { meanLength }) => sum + meanLength, 0) / part.length;
  const first = mean(generations.slice(0, LENGTH_WINDOW));
  const now = mean(generations.slice(-LENGTH_WINDOW));
  return now > first * GROWTH.factor && now > first + GROWTH.tokens ? { first, now } : null;
}

function listed(names: readonly string[]): string {
  return names.map((name) => `'${name}'`).join(', ');
}
