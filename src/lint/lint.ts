/** Lints rewards on groups of answers: scores the sampled answers and made-up ones to the same prompts, measures, and says what is wrong. */
import { cannedAnswers, type Trick, trickAnswers } from '../rewards/canned.js';
import { answeredLabel, BALANCE_WINDOW_PER_LABEL, predictedLabel } from '../rewards/index.js';
import { score, type WeightedReward } from '../rewards/weighted.js';
import type { RewardInput, ScoredBatch, TranscribedClip } from '../types.js';
import { type Finding, findFaults, type Probe } from './findings.js';
import { type GroupMeasures, measureGroups } from './measures.js';

/** The sampled answers to one prompt. */
export interface SampledGroup {
  clip: TranscribedClip;
  /** The whole prompt. */
  prompt: string;
  answers: string[]; // [G]
}

/** What is known of the task. */
export interface LintTask {
  labels: readonly string[];
  labelShares: Readonly<Record<string, number>>;
  /** True where training tries every label in each group besides. */
  tried: boolean;
}

/** What a lint found. */
export interface LintReport {
  /** G, without the labels that are tried besides. */
  numGenerations: number;
  /** Labels tried besides in each group. */
  tried: number;
  /** Of the groups as training begins with them: with the tried labels, if there are any. */
  measures: GroupMeasures;
  /** Of the sampled answers alone. */
  sampled: { accuracy: number; dead: number; deadShare: GroupMeasures['deadShare'] };
  /** Label → its share among the predictions of the sampled answers. */
  predictions: Record<string, number>;
  findings: Finding[];
}

/**
 * Weights count in full, whatever their ramp. The balance reward looks back on the predictions of the sampled answers.
 *
 * @throws VoiceGrpoError E_REWARD if a reward throws or returns no finite number
 */
export async function lintRewards(
  groups: readonly SampledGroup[],
  rewards: readonly WeightedReward[],
  { labels, labelShares, tried }: LintTask,
): Promise<LintReport> {
  const predicted = groups.flatMap(({ answers }) => answers.map((answer) => predictedLabel(answer, labels)));
  const predictions = predicted.filter((label) => label !== null);
  const recentPredictions = predictions.slice(-BALANCE_WINDOW_PER_LABEL * labels.length);
  const inputOf = ({ clip, prompt }: SampledGroup, completion: string): RewardInput => ({
    completion,
    label: clip.label,
    labels,
    transcript: clip.transcript,
    prompt,
    labelShares,
    recentPredictions,
  });
  const besides = tried ? labels : [];
  const measure = async (extra: readonly string[]): Promise<GroupMeasures> => {
    const inputs = groups.flatMap((group) => [...group.answers, ...extra].map((answer) => inputOf(group, answer)));
    const { values } = await score(rewards, inputs, Number.POSITIVE_INFINITY);
    return measureGroups({
      size: (groups[0]?.answers.length ?? 0) + extra.length,
      rewards: rewards.map(({ name, weight }) => ({ name, weight, values: values[name] as Float64Array })),
      correct: inputs.map(({ completion, label }) => answeredLabel(completion, labels) === label),
    });
  };
  const alone = await measure([]);
  const measures = tried ? await measure(besides) : alone;
  const probes = await probe(groups, rewards, labels, inputOf);
  return {
    numGenerations: groups[0]?.answers.length ?? 0,
    tried: besides.length,
    measures,
    sampled: { accuracy: alone.accuracy, dead: alone.dead, deadShare: alone.deadShare },
    predictions: Object.fromEntries(
      labels.map((label) => [
        label,
        predicted.length === 0 ? 0 : predictions.filter((other) => other === label).length / predicted.length,
      ]),
    ),
    findings: findFaults(measures, probes, tried ? alone.dead : null),
  };
}

/** Made-up answers to each prompt, scored twice. */
async function probe(
  groups: readonly SampledGroup[],
  rewards: readonly WeightedReward[],
  labels: readonly string[],
  inputOf: (group: SampledGroup, completion: string) => RewardInput,
): Promise<Probe[]> {
  const layouts = groups.map(({ clip, answers }) => {
    const tricks = trickAnswers(labels, clip.transcript);
    const wrong = labels.filter((label) => label !== clip.label);
    return {
      wrong,
      tricks,
      sampled: answers,
      all: [clip.label, ...wrong, ...tricks.map(({ answer }) => answer), ...answers],
    };
  });
  const first = groups[0];
  const further = first === undefined ? [] : cannedAnswers(first.clip.label, labels, first.clip.transcript);
  const inputs = [
    ...groups.flatMap((group, b) => (layouts[b]?.all ?? []).map((answer) => inputOf(group, answer))),
    ...further.map(({ answer }) => inputOf(first as SampledGroup, answer)),
    // Where every label was predicted equally often the balance reward is 0: that does not make it constant.
    ...further.map(({ answer }) => ({
      ...inputOf(first as SampledGroup, answer),
      recentPredictions: labels.slice(0, 1),
    })),
  ];
  const once = await score(rewards, inputs, Number.POSITIVE_INFINITY);
  const again = await score(rewards, inputs, Number.POSITIVE_INFINITY);
  const arrange = (name: string | null, values: ArrayLike<number>, impure: boolean): Probe => {
    let at = 0;
    const take = (count: number) => Array.from({ length: count }, () => values[at++] as number);
    const prompts = layouts.map(({ wrong, tricks, sampled }) => {
      const [right] = take(1) as [number];
      const others = take(wrong.length);
      const paid = take(tricks.length);
      return {
        right,
        wrong: others,
        tricks: Object.fromEntries(tricks.map(({ trick }, i) => [trick, paid[i]])) as Record<Trick, number>,
        sampled: take(sampled.length),
      };
    });
    return { name, prompts, further: [take(further.length), take(further.length)], impure };
  };
  const isImpure = (name: string, a: ScoredBatch, b: ScoredBatch) =>
    (a.values[name] as Float64Array).some((value, n) => value !== b.values[name]?.[n]);
  return [
    arrange(null, once.totals, false),
    ...rewards.map(({ name, weight }) =>
      arrange(
        name,
        (once.values[name] as Float64Array).map((value) => weight * value),
        isImpure(name, once, again),
      ),
    ),
  ];
}
