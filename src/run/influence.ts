/**
 * Words that changed the answer: leave one word out of the transcript, ask again, and see how much less probable the answer became.
 * A word has influence p(answer | all words) − p(answer | all but it), with probabilities normalised over the labels.
 */
import { join } from 'node:path';
import type { NativeAdapter } from '../native/addon.js';
import { type EvaluationContext, labelProbabilities } from '../pipeline/evaluate.js';
import type { Evaluation, TranscribedClip } from '../types.js';
import { json, writeFileAtomic } from './files.js';
import type { RunFolder } from './folder.js';

/** Clips that are looked at, and words of each. */
export const INFLUENCE_CLIPS = 12;
export const INFLUENCE_WORDS = 40;

export interface WordInfluence {
  id: string;
  /** The label whose probability is compared: the most probable one. */
  label: string;
  probability: number;
  words: { word: string; influence: number }[];
}

/** The clips whose answer changed in training first, then the wrong ones. */
export function clipsToExplain(before: Evaluation, after: Evaluation): string[] {
  const old = new Map(before.predictions.map(({ id, predicted }) => [id, predicted]));
  const rank = (p: Evaluation['predictions'][number]) =>
    (old.get(p.id) === p.predicted ? 2 : 0) + (p.predicted === p.label ? 1 : 0);
  return [...after.predictions]
    .sort((a, b) => rank(a) - rank(b))
    .slice(0, INFLUENCE_CLIPS)
    .map(({ id }) => id);
}

/** Writes influence.json. */
export async function writeInfluence(
  folder: RunFolder,
  context: EvaluationContext,
  adapter: NativeAdapter | null,
  clips: readonly TranscribedClip[],
  { before, after }: { before: Evaluation; after: Evaluation },
): Promise<void> {
  const byId = new Map(clips.map((clip) => [clip.id, clip]));
  const results: WordInfluence[] = [];
  for (const id of clipsToExplain(before, after)) {
    const clip = byId.get(id);
    if (clip === undefined) continue;
    const words = clip.transcript.split(/\s+/u).filter((word) => word !== '');
    const shown = words.slice(0, INFLUENCE_WORDS);
    const variants = [clip.transcript, ...shown.map((_, i) => words.filter((_, j) => j !== i).join(' '))];
    const distributions: Record<string, number>[] = [];
    for (let start = 0; start < variants.length; start += context.batchSize) {
      const batch = variants
        .slice(start, start + context.batchSize)
        .map((transcript) => context.prompts.build({ ...clip, transcript }, null));
      const answers = await labelProbabilities(context, adapter, batch);
      distributions.push(...answers.map(({ probabilities }) => probabilities));
    }
    const [full = {}, ...without] = distributions;
    const [label, probability] = Object.entries(full).reduce(
      (best, other) => (other[1] > best[1] ? other : best),
      ['', Number.NEGATIVE_INFINITY],
    );
    results.push({
      id,
      label,
      probability,
      words: shown.map((word, i) => ({ word, influence: probability - (without[i]?.[label] ?? 0) })),
    });
  }
  writeFileAtomic(join(folder.path, 'influence.json'), json({ clips: results }));
}
