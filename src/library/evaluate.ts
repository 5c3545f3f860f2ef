/** Evaluation of a run from a script. */

import { problem } from '../errors.js';
import { Hub } from '../hub/client.js';
import { type HubEnvironment, hubEnvironment } from '../hub/environment.js';
import { evaluate as evaluateClips } from '../pipeline/evaluate.js';
import { loadRewards } from '../rewards/weighted.js';
import { sha256 } from '../run/files.js';
import { Progress } from '../run/progress.js';
import { type AdapterChoice, openTrainedRun } from '../run/trained.js';
import type { Evaluation } from '../types.js';
import { safely } from './errors.js';
import { lineStream } from './lines.js';

/** What was said, and the label it should get. */
export interface LabelledText {
  transcript: string;
  label: string;
}

/** How to evaluate. */
export interface EvaluateOptions {
  /** Default 'best'; 'none' is the base model. */
  adapter?: AdapterChoice;
  /** Where the model is fetched from if its file is gone. Default: what the environment says. */
  hub?: HubEnvironment;
  /** Is told what is fetched, a line at a time. */
  onNote?: (line: string) => void;
  signal?: AbortSignal;
}

/**
 * Greedy answers of a run's policy and how good they are. Rewards are those of the run's configuration.
 *
 * @param run its folder
 * @param clips default: the run's held-out clips
 * @throws VoiceGrpoError E_DATA if the folder is no run or a label is none of its labels, E_MODEL, E_ABORTED
 */
export async function evaluate(
  run: string,
  clips: readonly LabelledText[] | null = null,
  { adapter = 'best', hub: environment, onNote, signal }: EvaluateOptions = {},
): Promise<Evaluation> {
  return safely(async () => {
    const note = (line: string) => onNote?.(line);
    await using hub = new Hub(environment ?? hubEnvironment(), { note });
    const context = { hub, progress: new Progress(lineStream(note)), signal };
    using opened = await openTrainedRun(run, adapter, [], context);
    const { dataset, evaluation, shares, config } = opened;
    const stray = clips?.find(({ label }) => !dataset.labels.includes(label));
    if (stray !== undefined) {
      throw problem({
        code: 'E_DATA',
        expected: `one of ${dataset.labels.join(', ')}`,
        where: 'evaluate',
        got: `the label '${stray.label}'`,
        next: 'Use the labels that the run was trained for.',
      });
    }
    const texts = clips?.map(({ transcript, label }) => ({ id: sha256(transcript), file: '', label, transcript }));
    const rewards = await loadRewards(config.rewards);
    return await evaluateClips(evaluation, opened.adapter, texts ?? dataset.heldOut, rewards, shares, signal);
  });
}
