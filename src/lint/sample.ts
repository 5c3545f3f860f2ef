/** Samples groups as the first step of a training would, of a few clips. */
import type { Config } from '../config/load.js';
import { loadNative } from '../native/load.js';
import { clipsOfGeneration, labelShares } from '../pipeline/data.js';
import { createPromptBuilder } from '../pipeline/prompt.js';
import { sampleGroups } from '../pipeline/rollout.js';
import { temperatureAt } from '../pipeline/schedule.js';
import { findDataset } from '../pipeline/sources.js';
import { transcribeClips } from '../pipeline/transcripts.js';
import { findModels, type ModelContext, threadCount } from '../run/inputs.js';
import type { SampledGroup } from './lint.js';

/** Groups and what is known of the task they are of. */
export interface LintSample {
  groups: SampledGroup[];
  labels: string[];
  labelShares: Record<string, number>;
  temperature: number;
  policy: string;
}

/**
 * G answers of the untrained policy to each of `count` training clips, in the order in which training would take them, at the temperature
 * of its first step. Only these clips are transcribed, so worked examples come from among them.
 *
 * @throws VoiceGrpoError as `train` does for models and data that are not there
 */
export async function sampleForLint(config: Config, count: number, context: ModelContext): Promise<LintSample> {
  const { seed, grpo } = config;
  const data = { ...config.data, samples_per_dataset: Math.min(config.data.samples_per_dataset, count) };
  const fetchModels = await findModels(config, context);
  const fetchDataset = await findDataset(data, seed, context);
  const { files } = await fetchModels();
  const threads = threadCount(config);
  using policy = await loadNative().openPolicy(files.policy, { type: config.policy.base_type, threads });
  const { labels, train } = await fetchDataset();
  const order = { seed, generation: 0, count: Math.min(count, train.length), balanced: grpo.balanced_batches };
  const chosen = [...new Set(clipsOfGeneration(train, labels, order))];
  const { progress, signal } = context;
  const { clips } = await transcribeClips(chosen, config, files.whisper, threads, progress, signal);
  const prompts = createPromptBuilder(policy, config.prompt, labels, clips, seed);
  const temperature = temperatureAt(1, grpo);
  const groups: SampledGroup[] = [];
  for (let start = 0; start < clips.length; start += grpo.prompts_per_step) {
    const batch = clips
      .slice(start, start + grpo.prompts_per_step)
      .map((clip, place) => prompts.build(clip, { step: 1, place: start + place }));
    const sampled = await sampleGroups(
      policy,
      null, // an adapter that was not trained changes nothing
      batch,
      prompts,
      {
        numGenerations: grpo.num_generations,
        maxCompletionLength: grpo.max_completion_length,
        temperature,
        topK: grpo.top_k,
        topP: grpo.top_p,
        seed,
        step: 1,
      },
      signal,
    );
    for (const { prompt, rollouts } of sampled.groups) {
      groups.push({ clip: prompt.clip, prompt: prompt.text, answers: rollouts.map(({ text }) => text) });
    }
    progress.update(`sampled ${groups.length} of ${clips.length} groups`, false);
  }
  progress.end();
  return { groups, labels, labelShares: labelShares(train, labels), temperature, policy: policy.info.name };
}
