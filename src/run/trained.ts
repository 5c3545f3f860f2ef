/** A finished run, opened for use: its policy with its adapter. */
import { existsSync } from 'node:fs';
import { type Config, type FlagSetting, loadConfig } from '../config/load.js';
import { problem } from '../errors.js';
import type { NativeAdapter, NativePolicy } from '../native/addon.js';
import { loadNative } from '../native/load.js';
import { readAdapter, restoreAdapter } from '../pipeline/checkpoint.js';
import { labelShares } from '../pipeline/data.js';
import type { EvaluationContext } from '../pipeline/evaluate.js';
import { createPromptBuilder } from '../pipeline/prompt.js';
import { prepareDevice } from './device.js';
import { openRun, type RunFolder, type StoredDataset } from './folder.js';
import { fileOfRun, type ModelContext, modelFile, policyOfRun, threadCount } from './inputs.js';

export type AdapterChoice = 'best' | 'last' | 'none';

export interface TrainedRun extends Disposable {
  folder: RunFolder;
  config: Config;
  manifest: Record<string, unknown>;
  /** The base model's file. */
  policyFile: string;
  /** Whether the run was trained on texts and not on what Whisper heard. */
  usedText: boolean;
  /** The run's Whisper, or the one given. The run's own clips have their transcripts: only others need it. Null: it had none. */
  whisper: () => Promise<string | null>;
  threads: number;
  dataset: StoredDataset;
  shares: Record<string, number>;
  policy: NativePolicy;
  adapter: NativeAdapter | null;
  evaluation: EvaluationContext;
}

/**
 * @param settings flags that replace values of the run: paths of models, threads, batch size
 * @throws VoiceGrpoError if the folder is no run, or the model is another than the run was made with
 */
export async function openTrainedRun(
  path: string,
  choice: AdapterChoice,
  settings: readonly FlagSetting[],
  context: ModelContext,
): Promise<TrainedRun> {
  const { folder, loaded, manifest, dataset } = openRun(path);
  const config = withSettings(loaded.config, settings);
  const directory = choice === 'none' ? null : folder[choice];
  if (directory !== null && !existsSync(directory)) {
    throw problem({
      code: 'E_DATA',
      expected: `the adapter '${choice}'`,
      where: folder.path,
      got: 'a run that has not saved one',
      next: `finish it: voicegrpo train --resume --output-dir ${path}`,
    });
  }
  const snapshot = directory === null ? null : readAdapter(directory);
  const given = (key: string) => settings.some((setting) => setting.path === key);
  const policyFile = await policyOfRun(
    manifest,
    given('policy.model') ? await modelFile('policy', config.policy.model, context) : null,
    context,
  );
  const threads = threadCount(config);
  prepareDevice(given('device') ? config.device : 'auto', ['policy', 'whisper'], (line) => context.progress.line(line));
  const policy = await loadNative().openPolicy(policyFile, { type: config.policy.base_type, threads });
  let adapter: NativeAdapter | null = null;
  try {
    if (snapshot !== null) {
      const { r, lora_alpha, target_modules } = config.lora;
      adapter = policy.createAdapter({ rank: r, alpha: lora_alpha, targetModules: target_modules, seed: config.seed });
      restoreAdapter(adapter, snapshot, directory as string);
    }
    const { labels } = dataset;
    const prompts = createPromptBuilder(policy, config.prompt, labels, dataset.train, config.seed);
    return {
      folder,
      config,
      manifest,
      policyFile,
      usedText: loaded.config.data.use_text,
      whisper: () =>
        given('whisper.model')
          ? modelFile('whisper', config.whisper.model, context)
          : fileOfRun('whisper', manifest, context),
      threads,
      dataset,
      shares: labelShares(dataset.train, labels),
      policy,
      adapter,
      evaluation: {
        policy,
        prompts,
        labels,
        maxCompletionLength: config.grpo.max_completion_length,
        batchSize: config.evaluation.batch_size,
      },
      [Symbol.dispose]() {
        adapter?.close();
        policy.close();
      },
    };
  } catch (error) {
    adapter?.close();
    policy.close();
    throw error;
  }
}

/** A copy of the run's configuration with other paths and threads; the flags are checked like those of `train`. */
function withSettings(stored: Config, settings: readonly FlagSetting[]): Config {
  const checked = loadConfig('default', settings).config;
  const config = structuredClone(stored);
  for (const { path } of settings) {
    const [section, key] = path.split('.') as [keyof Config, string | undefined];
    if (key === undefined) {
      Object.assign(config, { [section]: checked[section] });
    } else {
      Object.assign(config[section], { [key]: (checked[section] as Record<string, unknown>)[key] });
    }
  }
  return config;
}
