/** Training from a script: an iteration over typed events, and a result. */

import { type Config, type FlagSetting, type LoadedConfig, loadConfig, PRESETS } from '../config/load.js';
import { LEAVES } from '../config/schema.js';
import { problem, VoiceGrpoError } from '../errors.js';
import { type Generated, train as runLoop, type TrainResult } from '../grpo.js';
import { Hub } from '../hub/client.js';
import { type HubEnvironment, hubEnvironment } from '../hub/environment.js';
import type { PolicyInfo } from '../native/addon.js';
import { loadNative } from '../native/load.js';
import { hashFile } from '../pipeline/data.js';
import { findDataset } from '../pipeline/sources.js';
import { transcribeDataset } from '../pipeline/transcripts.js';
import type { Reward } from '../rewards/index.js';
import { loadRewards, type WeightedReward } from '../rewards/weighted.js';
import { prepareDevice } from '../run/device.js';
import {
  checkNewRun,
  createRun,
  isRun,
  openRun,
  type RunFolder,
  runFolder,
  type StoredDataset,
} from '../run/folder.js';
import { findModels, type ModelFiles, threadCount } from '../run/inputs.js';
import { Progress } from '../run/progress.js';
import { checkGivenRewards, modelsOfRun, recordOfGiven, resumedConfig } from '../run/resume.js';
import type { Evaluation, RewardInput, StepStats } from '../types.js';
import { asVoiceGrpoError } from './errors.js';
import { lineStream } from './lines.js';

/** Settings by their sections; what is left out has the value of the preset. */
export type Settings = { [K in keyof Config]?: Config[K] extends object ? Partial<Config[K]> : Config[K] };

/** A reward given as a function. */
export interface GivenReward {
  name: string;
  reward: Reward;
  weight: number;
  /** Steps over which the weight grows from 0. Default 0. */
  rampSteps?: number;
}

/** What to train, and where. */
export interface TrainOptions {
  /** A preset, the path of a JSON file, or what would stand in one. Default: 'default'. */
  config?: string | (Settings & { extends?: string });
  /** Values on top of it. */
  settings?: Settings;
  /** Folder of the run, which is new or empty unless `resume` is set. Default: `runs/<config>-<time>`. */
  outputDir?: string;
  /**
   * Go on with the run in `outputDir` from its newest whole checkpoint, as if it had never stopped; where no run is in it, begin one. What
   * `config` and `settings` say must be what the run began with, but for threads and device; what they leave out is the run's
   * own. Rewards given as functions are given again. Default false.
   */
  resume?: boolean;
  /** What computes: 'auto' (a GPU where one can be used), 'cpu', 'cuda', 'cuda:N'. Default: that of the configuration; of a resumed run the kind it began on. */
  device?: string;
  /** Rewards besides those of the configuration. */
  rewards?: readonly GivenReward[];
  /** Where models and data of the hub come from. Default: what the environment says. */
  hub?: HubEnvironment;
  /** Fired during the steps: the step is finished and saved, and `result` says `interrupted`. Fired before them: E_ABORTED. */
  signal?: AbortSignal;
}

/** What happens while a policy is trained. */
export type TrainEvent =
  | { type: 'note'; text: string }
  | { type: 'begin'; run: string; labels: string[]; train: number; heldOut: number; policy: PolicyInfo }
  | { type: 'step'; step: number; maxSteps: number; stats: StepStats }
  /** What was answered, before the policy is updated by it. */
  | { type: 'answers'; step: number; answers: TrainAnswer[] } // [N], those of a prompt next to each other
  | { type: 'evaluation'; name: 'before' | 'held-out' | 'after'; step: number; evaluation: Evaluation }
  | { type: 'end'; result: TrainedResult };

/** One answer to a prompt. */
export interface TrainAnswer {
  /** Place of the prompt in the step. */
  prompt: number;
  label: string;
  transcript: string;
  completion: string;
  /** False: a label that was tried, see `grpo.label_exploration`. */
  sampled: boolean;
  /** Of each reward, before its weight. */
  rewards: Record<string, number>;
  /** Σ weight · reward. */
  reward: number;
  advantage: number;
}

/** How a training ended. */
export interface TrainedResult extends TrainResult {
  /** Folder of the run. */
  run: string;
}

/**
 * Trains a policy. The work begins at once; the events can be iterated over once, and leaving the loop ends the work after the
 * current step, which is saved. Who needs no events awaits `result`.
 *
 * @throws VoiceGrpoError, from the iteration and from `result`
 */
export function train(options: TrainOptions = {}): Training {
  return new Training(options);
}

/** A training under way. */
export class Training implements AsyncIterable<TrainEvent>, AsyncDisposable {
  /** Resolves when the run is written; rejects with what the iteration throws. */
  readonly result: Promise<TrainedResult>;
  readonly #stop = new AbortController();
  readonly #events: TrainEvent[] = [];
  #wake: () => void = () => undefined;
  #ended = false;

  /** @internal */
  constructor(options: TrainOptions) {
    const signal =
      options.signal === undefined ? this.#stop.signal : AbortSignal.any([options.signal, this.#stop.signal]);
    this.result = work(options, signal, (event) => {
      this.#events.push(event);
      this.#wake();
    }).finally(() => {
      this.#ended = true;
      this.#wake();
    });
    this.result.catch(() => undefined); // whoever iterates is told there
  }

  /** Ends the work after the current step, which is saved. Twice is fine. */
  stop(): void {
    this.#stop.abort();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TrainEvent, TrainedResult, void> {
    try {
      for (;;) {
        const event = this.#events.shift();
        if (event !== undefined) {
          yield event;
        } else if (this.#ended) {
          return await this.result;
        } else {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        }
      }
    } finally {
      await this[Symbol.asyncDispose]();
    }
  }

  /** Stops, and waits until what was done is saved. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    await Promise.allSettled([this.result]);
  }
}

async function work(
  options: TrainOptions,
  signal: AbortSignal,
  emit: (event: TrainEvent) => void,
): Promise<TrainedResult> {
  try {
    signal.throwIfAborted();
    const { loaded, run, resume } = planOf(options);
    const { config } = loaded;
    const given = (options.rewards ?? []).map(
      ({ name, reward, weight, rampSteps = 0 }): WeightedReward => ({ name, reward, weight, rampSteps, file: null }),
    );
    if (resume) {
      checkGivenRewards(run, openRun(run).manifest, given);
    } else {
      checkNewRun(run);
    }
    const rewards = [...(await loadRewards(config.rewards)), ...given];
    const note = (text: string) => emit({ type: 'note', text });
    const progress = new Progress(lineStream(note));
    await using hub = new Hub(options.hub ?? hubEnvironment(), { note });
    const context = { hub, progress, signal };
    // What is named wrongly is told before anything large is fetched.
    const source = resume
      ? null
      : {
          fetchModels: await findModels(config, context),
          fetchDataset: await findDataset(config.data, config.seed, context),
        };
    const models = source === null ? await modelsOfRun(openRun(run).manifest, context) : await source.fetchModels();
    const threads = threadCount(config);
    const device = prepareDevice(config.device, ['policy', 'whisper'], note);
    const native = loadNative();
    using policy = await native.openPolicy(models.files.policy, { type: config.policy.base_type, threads });
    const folder = runFolder(run);
    const dataset =
      source === null
        ? openRun(run).dataset
        : await begin({ loaded, folder, models, device, given, fetchDataset: source.fetchDataset, progress, signal });
    signal.throwIfAborted();
    const { length: heldOut } = dataset.heldOut;
    emit({ type: 'begin', run, labels: dataset.labels, train: dataset.train.length, heldOut, policy: policy.info });
    const result = await runLoop({
      config,
      policy,
      dataset,
      rewards,
      folder,
      resume,
      signal,
      observer: {
        step: (stats, maxSteps) => emit({ type: 'step', step: stats.step, maxSteps, stats }),
        generated: (generation) => emit({ type: 'answers', step: generation.step, answers: answersOf(generation) }),
        evaluated: (name, evaluation, step) => emit({ type: 'evaluation', name, step, evaluation }),
        note,
      },
    });
    const trained = { ...result, run };
    emit({ type: 'end', result: trained });
    return trained;
  } catch (error) {
    throw failure(error, signal);
  }
}

/** Hears the clips and makes the run's folder. */
async function begin(parts: {
  loaded: LoadedConfig;
  folder: RunFolder;
  models: ModelFiles;
  device: string;
  given: readonly WeightedReward[];
  fetchDataset: Awaited<ReturnType<typeof findDataset>>;
  progress: Progress;
  signal: AbortSignal;
}): Promise<StoredDataset> {
  const { loaded, folder, models, device, given, fetchDataset, progress, signal } = parts;
  const { config } = loaded;
  const { files, origins } = models;
  const threads = threadCount(config);
  const { labels, origin, duplicates: _, ...sides } = await fetchDataset();
  const { suspect, ...heard } = await transcribeDataset(sides, config, files.whisper, threads, progress, signal);
  const dataset = { labels, ...heard };
  const manifest = {
    versions: { node: process.versions.node, ...loadNative().version() },
    device,
    threads,
    seed: config.seed,
    files,
    sha256: {
      policy: await hashFile(files.policy),
      whisper: files.whisper === null ? null : await hashFile(files.whisper),
    },
    models: origins,
    data: {
      source: config.data.source,
      ...origin,
      train: dataset.train.length,
      held_out: dataset.heldOut.length,
      suspect: { dropped: suspect.dropped, held_out: suspect.heldOut },
    },
    given_rewards: recordOfGiven(given),
    started: new Date().toISOString(),
  };
  signal.throwIfAborted();
  createRun(folder, { loaded, manifest, dataset });
  return dataset;
}

/** The settings, the folder, and whether a run in it goes on. @throws VoiceGrpoError E_CONFIG */
function planOf(options: TrainOptions): { loaded: LoadedConfig; run: string; resume: boolean } {
  const { base, given } = settingsOf(options);
  const wanted = loadConfig(base ?? 'default', given);
  const named = options.outputDir ?? wanted.config.output.dir;
  if (options.resume && named === null) {
    throw problem({
      code: 'E_CONFIG',
      expected: 'outputDir, the folder of a run',
      where: 'resume',
      got: 'none',
      next: "Name it: train({ resume: true, outputDir: 'runs/…' }).",
    });
  }
  if (options.resume && named !== null && isRun(runFolder(named).path)) {
    return { loaded: resumedConfig(named, given, base === null ? null : wanted), run: named, resume: true };
  }
  const stamp = new Date().toISOString().slice(0, 19).replaceAll(':', '').replace('T', '-');
  const run = named ?? `runs/${wanted.name}-${stamp}`;
  wanted.config.output.dir = run;
  return { loaded: wanted, run, resume: false };
}

/** What the options set, and the preset or file that it stands on; null: they name none. @throws VoiceGrpoError E_CONFIG */
function settingsOf({ config, settings = {}, device }: TrainOptions): { base: string | null; given: FlagSetting[] } {
  const own = [
    ...flagsOf(settings),
    ...(device === undefined ? [] : [{ flag: 'device', path: 'device', value: device }]),
  ];
  if (config === undefined || typeof config === 'string') {
    return { base: config ?? null, given: own };
  }
  const { extends: base, ...values } = config;
  if (base !== undefined && !PRESETS.includes(base)) {
    const expected = `one of ${PRESETS.join(', ')}`;
    throw problem({ code: 'E_CONFIG', expected, where: 'config.extends', got: `'${base}'`, next: 'Name a preset.' });
  }
  return { base: base ?? null, given: [...flagsOf(values, 'config'), ...own] };
}

function answersOf({ groups, inputs, scored, advantages }: Generated): TrainAnswer[] {
  return groups
    .flatMap(({ rollouts }, prompt) => rollouts.map(({ logProbs }) => ({ prompt, sampled: logProbs !== null })))
    .map(({ prompt, sampled }, n) => {
      const { label, transcript, completion } = inputs[n] as RewardInput;
      const rewards = Object.entries(scored.values).map(([name, values]) => [name, values[n] as number] as const);
      return {
        ...{ prompt, label, transcript, completion, sampled },
        rewards: Object.fromEntries(rewards),
        reward: scored.totals[n] as number,
        advantage: advantages[n] as number,
      };
    });
}

/** Settings as the flags that would set them. @throws VoiceGrpoError E_CONFIG for what is no section */
function flagsOf(settings: Settings, from = 'settings'): FlagSetting[] {
  const found: FlagSetting[] = [];
  const walk = (value: unknown, path: string) => {
    if (path.split('.').includes('__proto__')) {
      throw problem({ code: 'E_CONFIG', expected: 'settings', where: path, got: 'a prototype', next: 'Leave it out.' });
    }
    const isSection = value !== null && typeof value === 'object' && !Array.isArray(value) && !LEAVES.has(path);
    if (!isSection) {
      found.push({ flag: `${from}.${path}`, path, value });
      return;
    }
    for (const [key, child] of Object.entries(value as object)) {
      walk(child, path === '' ? key : `${path}.${key}`);
    }
  };
  walk(settings, '');
  return found;
}

/** An abort as what it is; else the addon's errors as ours. */
function failure(error: unknown, signal: AbortSignal): unknown {
  if (error instanceof VoiceGrpoError) {
    return error;
  }
  if (signal.aborted) {
    return new VoiceGrpoError('The training was aborted before its first step.', {
      code: 'E_ABORTED',
      cause: signal.reason,
    });
  }
  return asVoiceGrpoError(error);
}
