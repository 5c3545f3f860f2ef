/** Evaluation: greedy answers and label probabilities of held-out clips. Nothing here is random. */
import type { NativeAdapter, NativePolicy } from '../native/addon.js';
import { answeredLabel, predictedLabel } from '../rewards/index.js';
import { score, type WeightedReward } from '../rewards/weighted.js';
import type { Evaluation, Prediction, Prompt, TranscribedClip } from '../types.js';
import type { PromptBuilder } from './prompt.js';
import { packGroups, sampleGroups, unpackRows } from './rollout.js';

export interface EvaluationContext {
  policy: NativePolicy;
  prompts: PromptBuilder;
  labels: readonly string[];
  maxCompletionLength: number;
  batchSize: number;
}

export interface LabelledAnswer {
  answer: string;
  predicted: string | null;
  probabilities: Record<string, number>;
  labelMass: number;
}

/** The greedy answer to each clip, and the probability of each label. */
export async function answerClips(
  context: EvaluationContext,
  adapter: NativeAdapter | null,
  clips: readonly TranscribedClip[],
  signal?: AbortSignal,
): Promise<LabelledAnswer[]> {
  const { policy, prompts, labels, maxCompletionLength, batchSize } = context;
  const answers: LabelledAnswer[] = [];
  for (let start = 0; start < clips.length; start += batchSize) {
    const batch = clips.slice(start, start + batchSize).map((clip) => prompts.build(clip, null));
    const greedy = { numGenerations: 1, maxCompletionLength, temperature: 0, topK: 0, topP: 1, seed: 0, step: 0 };
    const { groups } = await sampleGroups(policy, adapter, batch, prompts, greedy, signal);
    const distributions = await labelProbabilities(context, adapter, batch, signal);
    for (const [i, { rollouts }] of groups.entries()) {
      const answer = (rollouts[0]?.text ?? '').trim();
      answers.push({
        answer,
        predicted: answeredLabel(answer, labels),
        ...(distributions[i] as (typeof distributions)[number]),
      });
    }
  }
  return answers;
}

/**
 * The probability of each label as the whole answer, from the log-probabilities of its tokens and its stop in one packed
 * pass; normalised over the labels. `labelMass` is their sum before that.
 */
export async function labelProbabilities(
  { policy, prompts, labels }: Pick<EvaluationContext, 'policy' | 'prompts' | 'labels'>,
  adapter: NativeAdapter | null,
  batch: readonly Prompt[],
  signal?: AbortSignal,
): Promise<{ probabilities: Record<string, number>; labelMass: number }[]> {
  const candidates = labels.map((label) => prompts.answerTokens(label));
  const packed = packGroups(batch.map((prompt) => ({ prompt, answers: candidates })));
  const { logProbs } = await policy.logProbs({ ...packed, adapter, temperature: 1 }, signal);
  const sums = unpackRows(logProbs, packed.lengths, packed.maxCompletionLength).map((row) =>
    row.reduce((sum, value) => sum + value, 0),
  );
  return batch.map((_, b) => {
    const own = sums.slice(b * labels.length, (b + 1) * labels.length);
    const highest = Math.max(...own);
    const total = own.reduce((sum, value) => sum + Math.exp(value - highest), 0);
    return {
      probabilities: Object.fromEntries(
        labels.map((label, i) => [label, Math.exp((own[i] as number) - highest) / total]),
      ),
      labelMass: Math.exp(highest) * total,
    };
  });
}

/** Accuracy, macro-F1, confusion and reward of the greedy answers to labelled clips. */
export async function evaluate(
  context: EvaluationContext,
  adapter: NativeAdapter | null,
  clips: readonly TranscribedClip[],
  rewards: readonly WeightedReward[],
  labelShares: Record<string, number>,
  signal?: AbortSignal,
): Promise<Evaluation> {
  const { labels } = context;
  const answers = await answerClips(context, adapter, clips, signal);
  // The balance reward sees the predictions of this evaluation, not those of the training that came before.
  const recentPredictions = answers
    .map(({ answer }) => predictedLabel(answer, labels))
    .filter((label) => label !== null);
  const inputs = clips.map((clip, i) => ({
    completion: (answers[i] as LabelledAnswer).answer,
    label: clip.label,
    labels,
    transcript: clip.transcript,
    prompt: '',
    labelShares,
    recentPredictions,
  }));
  const { totals } = await score(rewards, inputs, Number.POSITIVE_INFINITY);
  const predictions: Prediction[] = clips.map((clip, i) => {
    const { answer, predicted, probabilities, labelMass } = answers[i] as LabelledAnswer;
    return {
      id: clip.id,
      label: clip.label,
      answer,
      predicted,
      reward: totals[i] as number,
      probabilities,
      label_mass: labelMass,
    };
  });
  return { ...classificationScores(predictions, labels), reward: mean(totals), predictions };
}

/** Accuracy, macro-F1 (labels without a clip count nothing) and the confusion matrix, its last column 'other'. */
export function classificationScores(
  predictions: readonly Pick<Prediction, 'label' | 'predicted'>[],
  labels: readonly string[],
): Pick<Evaluation, 'n' | 'accuracy' | 'macro_f1' | 'labels' | 'confusion'> {
  const confusion = labels.map(() => new Array<number>(labels.length + 1).fill(0));
  for (const { label, predicted } of predictions) {
    const row = confusion[labels.indexOf(label)] as number[];
    const column = predicted === null ? labels.length : labels.indexOf(predicted);
    row[column] = (row[column] as number) + 1;
  }
  const at = (i: number, j: number) => (confusion[i] as number[])[j] as number;
  const correct = labels.reduce((sum, _, i) => sum + at(i, i), 0);
  const f1: number[] = [];
  for (const i of labels.keys()) {
    const support = (confusion[i] as number[]).reduce((sum, count) => sum + count, 0);
    const predicted = labels.reduce((sum, _, row) => sum + at(row, i), 0);
    if (support > 0) {
      f1.push((2 * at(i, i)) / (support + predicted));
    }
  }
  const n = predictions.length;
  return {
    n,
    accuracy: n === 0 ? 0 : correct / n,
    macro_f1: f1.length === 0 ? 0 : mean(f1),
    labels: [...labels],
    confusion,
  };
}

export function mean(values: ArrayLike<number>): number {
  return values.length === 0 ? 0 : Array.from(values).reduce((sum, value) => sum + value, 0) / values.length;
}
