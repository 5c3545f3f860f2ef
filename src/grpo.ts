/**
 * THE LOOP: from clips to a tuned policy, in the order of the data:
 *
 *   clip → transcript → prompt → rollouts → rewards → advantages → update → checkpoint → evaluation
 *
 * What is kept of the published algorithm (GRPO: Shao et al. 2024, DeepSeekMath; options and names as in TRL 1.16):
 * group-relative advantages with `scale_rewards`; the clipped ratio with `epsilon`/`epsilon_high` (DAPO's clip-higher);
 * `loss_type` grpo, bnpo, dr_grpo, dapo; μ = `num_iterations` uses of each batch; `gradient_accumulation_steps` and
 * `steps_per_generation`; `beta` · k3 against the base model, which is the adapter switched off; masked truncated answers.
 * What differs: a micro-batch holds whole groups (TRL shuffles answers between micro-batches), and without a KL term the
 * dead groups, whose gradient is zero, are not sent to the gradient pass; loss weights are still taken over all answers, but
 * `entropy` is that of the live groups.
 * What is added: `label_exploration`, every label tried once in each group beside its G samples (pipeline/rollout.ts says why).
 * What is left out: importance sampling of whole sequences, two-sided clipping, entropy bonus, tool use, several processes.
 *
 * Every random number is a pure function of (seed, step, prompt), and a checkpoint has the rest of the state, so a run that
 * is resumed goes the way of one that was never stopped. Checkpoints fall on steps whose next one generates anew.
 */
import { join } from 'node:path';
import type { Config } from './config/load.js';
import { problem } from './errors.js';
import type { NativeAdapter, NativePolicy } from './native/addon.js';
import { isShortage } from './native/memory.js';
import { advantagesOf } from './pipeline/advantages.js';
import {
  type AdapterConfig,
  type AdapterSnapshot,
  adapterFiles,
  type LoopState,
  newestCheckpoint,
  readCheckpoint,
  restoreAdapter,
  snapshotAdapter,
  writeCheckpoint,
} from './pipeline/checkpoint.js';
import { clipsOfGeneration, labelShares } from './pipeline/data.js';
import {
  constantRewards,
  diagnose,
  diagnoseEvaluations,
  diagnoseUpdates,
  type EvaluationSummary,
  type StepSummary,
  type UpdateSummary,
} from './pipeline/diagnosis.js';
import { type EvaluationContext, evaluate } from './pipeline/evaluate.js';
import { activeTokenCount, lossWeights, windowTokens } from './pipeline/loss-weights.js';
import { createPromptBuilder } from './pipeline/prompt.js';
import { everyLabel, packGroups, packRows, sampleGroups, unpackRows } from './pipeline/rollout.js';
import { learningRateFactor, temperatureAt } from './pipeline/schedule.js';
import { afterEvaluation, INITIAL_STOPPING } from './pipeline/stopping.js';
import { BALANCE_WINDOW_PER_LABEL, predictedLabel } from './rewards/index.js';
import { score, type WeightedReward } from './rewards/weighted.js';
import { advantageShares } from './run/advantage-share.js';
import { json, writeFileAtomic, writeFolderAtomic } from './run/files.js';
import { appendLines, type RunFolder, type StoredDataset, truncateLines } from './run/folder.js';
import { lengthMetrics, rewardMetrics, StepMetrics, samplingGapMetrics } from './run/metrics.js';
import type { Evaluation, Group, RewardInput, Rollout, ScoredBatch, StepStats } from './types.js';

export interface TrainSetup {
  config: Config;
  policy: NativePolicy;
  /** Clips with their transcripts: the first two stages are done. */
  dataset: StoredDataset;
  rewards: readonly WeightedReward[];
  folder: RunFolder;
  /** Go on from the newest checkpoint of the folder, if it has one. */
  resume: boolean;
  observer: TrainObserver;
  /** Fired: finish the step, save, return. */
  signal?: AbortSignal;
}

export interface TrainObserver {
  step(stats: StepStats, maxSteps: number): void;
  evaluated(name: 'before' | 'held-out' | 'after', evaluation: Evaluation, step: number): void;
  /** A sentence for the person who watches. */
  note(text: string): void;
  /** What one generation became, before it is used. It is waited for; what it throws ends the run. */
  generated?(generation: Generated): void | Promise<void>;
  /** A checkpoint is written. */
  saved?(step: number): void;
  /** The last evaluation is done; the adapter is still open. */
  finished?(context: EvaluationContext, adapter: NativeAdapter, before: Evaluation, after: Evaluation): Promise<void>;
}

/** The groups of one generation with what was computed of them. N answers, those of a group next to each other. */
export interface Generated {
  step: number;
  temperature: number;
  /** As it is before the update. */
  adapter: NativeAdapter;
  groups: readonly Group[];
  inputs: readonly RewardInput[]; // [N]
  scored: ScoredBatch;
  advantages: Float64Array; // [N]
  dead: readonly boolean[]; // [groups]
  /** Weight of each token of an answer in the loss. */
  weights: Float32Array; // [N]
  /** Their lines of completions.jsonl; none where they are not logged. */
  lines: readonly object[]; // [N]
}

export interface TrainResult {
  steps: number;
  stoppedEarly: boolean;
  stopReason: string | null;
  /** The signal ended the run before its time: it can be resumed. */
  interrupted: boolean;
  bestStep: number | null;
  before: Evaluation;
  /** Of the best adapter; null if interrupted. */
  after: Evaluation | null;
  /** Prompts of the run whose transcript was cut. */
  truncatedPrompts: number;
  seconds: { train: number; eval: number };
}

/** A part of a generation: whole groups, used in one gradient pass. */
interface MicroBatch {
  groups: Group[];
  dead: boolean[]; // [groups]
  advantages: Float32Array; // [n]
  weights: Float32Array; // [n]
  /** Before the first update after their rollout: null, the ratio is 1. */
  oldLogProbs: Float32Array[] | null; // [n] rows
  refLogProbs: Float32Array[] | null; // [n] rows
}

interface Generation {
  parts: MicroBatch[];
  temperature: number;
}

/** Trains an adapter and writes the run folder. */
export async function train(setup: TrainSetup): Promise<TrainResult> {
  const { config, policy, dataset, rewards, folder, observer, signal } = setup;
  const { grpo, optimizer, lora, seed } = config;
  const { labels } = dataset;
  const G = grpo.num_generations;
  const accumulation = grpo.gradient_accumulation_steps;
  const partsPerGeneration = grpo.steps_per_generation ?? accumulation;
  const microStepsPerGeneration = partsPerGeneration * grpo.num_iterations;
  const epsilonHigh = grpo.epsilon_high ?? grpo.epsilon;
  const files = {
    metrics: join(folder.path, 'metrics.jsonl'),
    completions: join(folder.path, 'completions.jsonl'),
    evaluations: join(folder.path, 'evaluations.jsonl'),
  };
  const seconds = { train: 0, eval: 0 };

  using adapter = policy.createAdapter({
    rank: lora.r,
    alpha: lora.lora_alpha,
    targetModules: lora.target_modules,
    seed,
  });
  const adapterConfig: AdapterConfig = { base_model_name_or_path: config.policy.model, ...lora };
  const prompts = createPromptBuilder(policy, config.prompt, labels, dataset.train, seed);
  const shares = labelShares(dataset.train, labels);
  const evaluation: EvaluationContext = {
    policy,
    prompts,
    labels,
    maxCompletionLength: grpo.max_completion_length,
    batchSize: config.evaluation.batch_size,
  };

  // Where to begin: at a checkpoint, or before the first step.
  let state: LoopState = {
    step: 0,
    stopping: INITIAL_STOPPING,
    recentPredictions: [],
    numTokens: 0,
    stopReason: null,
    finished: false,
  };
  let best: AdapterSnapshot | null = null;
  const checkpoint = setup.resume
    ? newestCheckpoint(folder.checkpoints, (path, fault) =>
        observer.note(`Left out the damaged checkpoint ${path}: ${fault}.`),
      )
    : null;
  if (checkpoint !== null) {
    ({ state, best } = readCheckpoint(checkpoint, adapter));
    observer.note(`Resumed after step ${state.step} from ${checkpoint}.`);
  }
  truncateLines(files.metrics, checkpoint === null ? -1 : state.step);
  truncateLines(files.completions, checkpoint === null ? -1 : state.step);
  truncateLines(
    files.evaluations,
    checkpoint === null ? -1 : state.step,
    ({ name }: { step: number; name: string }) => name !== 'after',
  );

  const heldOut = async (name: 'before' | 'held-out' | 'after', of: NativeAdapter | null): Promise<Evaluation> => {
    const start = performance.now();
    const result = await evaluate(evaluation, of, dataset.heldOut, rewards, shares);
    seconds.eval += (performance.now() - start) / 1000;
    if (name !== 'before' || checkpoint === null) {
      appendLines(files.evaluations, [{ step: state.step, name, ...result }]);
    }
    observer.evaluated(name, result, state.step);
    return result;
  };

  const before = await heldOut('before', null);
  const stoppingOptions = {
    patience: config.stopping.patience,
    minDelta: config.stopping.min_delta,
    targetAccuracy: config.stopping.target_accuracy,
  };
  const judge = (step: number, result: Evaluation): void => {
    const decision = afterEvaluation(
      state.stopping,
      { step, reward: result.reward, accuracy: result.accuracy },
      stoppingOptions,
    );
    state = { ...state, stopping: decision.state, stopReason: decision.stop };
    if (decision.improved) {
      best = snapshotAdapter(adapter);
    }
  };
  if (checkpoint === null) {
    judge(0, before);
    state = { ...state, stopReason: null }; // a policy that needs no training is still trained as asked
    appendLines(files.metrics, [{ step: 0, ...evaluationMetrics(before) }]);
  }

  const save = (finished: boolean): void => {
    state = { ...state, finished };
    writeCheckpoint(
      folder.checkpoints,
      { adapter, config: adapterConfig, state, best },
      config.output.save_total_limit,
    );
    writeFolderAtomic(folder.last, adapterFiles(snapshotAdapter(adapter), adapterConfig));
    writeFolderAtomic(folder.best, adapterFiles(best ?? snapshotAdapter(adapter), adapterConfig));
    observer.saved?.(state.step);
  };

  /** True where the next step generates anew: only there does a checkpoint hold all that is needed to go on. */
  const atBoundary = (step: number): boolean => (step * accumulation) % microStepsPerGeneration === 0;
  /** True if no step follows this one. A signal lets the uses of the present answers come to their end. */
  const ended = (step: number): boolean =>
    step >= grpo.max_steps || state.stopReason !== null || (signal?.aborted === true && atBoundary(step));

  let truncatedPrompts = 0;
  let generation: Generation | null = null;
  const summaries: StepSummary[] = [];
  const updates: UpdateSummary[] = [];
  const evaluations: EvaluationSummary[] = [{ n: before.n, accuracy: before.accuracy, trainReward: null }];
  let judged = 0; // generations that an evaluation has followed
  const told = new Set<string>();
  const firstStep = state.step + 1;
  let whole = state; // of the last step that was made; `state` runs ahead of it within a step
  /** Memory that runs out within a step costs this step alone: the adapter changes only at its end. */
  const savingWhole = <T>(part: Promise<T>): Promise<T> =>
    part.catch((error: unknown) => {
      if (isShortage(error) && whole.step >= firstStep && atBoundary(whole.step)) {
        state = whole;
        save(false);
        observer.note(`Step ${whole.step + 1} was not made; all before it is saved. Go on with --resume.`);
      }
      throw error;
    });

  for (let step = firstStep; !ended(step - 1); step++) {
    const stepStart = performance.now();
    const metrics = new StepMetrics();
    const completions: object[] = [];
    adapter.zeroGradient();
    whole = state;
    let loss = 0;
    let live = false;

    for (let k = 0; k < accumulation; k++) {
      const microStep = (step - 1) * accumulation + k;
      if (generation === null || microStep % microStepsPerGeneration === 0) {
        const index = Math.floor(microStep / microStepsPerGeneration);
        generation = await savingWhole(generate(step, index, accumulation - k, metrics, completions));
      }
      const part = generation.parts[microStep % partsPerGeneration] as MicroBatch;
      live ||= part.dead.includes(false);
      loss += await savingWhole(gradient(part, generation.temperature, metrics));
    }

    // update
    const learningRate =
      optimizer.learning_rate *
      learningRateFactor(step - 1, {
        type: optimizer.lr_scheduler_type,
        maxSteps: grpo.max_steps,
        warmupRatio: optimizer.warmup_ratio,
      });
    const { gradNorm } = adapter.step({
      learningRate,
      beta1: optimizer.adam_beta1,
      beta2: optimizer.adam_beta2,
      epsilon: optimizer.adam_epsilon,
      weightDecay: optimizer.weight_decay,
      maxGradNorm: optimizer.max_grad_norm,
    });
    if (!Number.isFinite(gradNorm) || !Number.isFinite(loss)) {
      throw problem({
        code: 'E_NUMERIC',
        expected: 'a finite loss and gradient',
        where: `step ${step}`,
        got: `loss ${loss}, gradient norm ${gradNorm}`,
        next: 'resume from the last checkpoint with a lower --learning-rate',
      });
    }
    state = { ...state, step };
    updates.push({ live, gradNorm });
    metrics.add('loss', loss);
    metrics.add('grad_norm', gradNorm);
    metrics.add('learning_rate', learningRate);
    metrics.add('num_tokens', state.numTokens);
    metrics.add('step_time', (performance.now() - stepStart) / 1000);
    seconds.train += (performance.now() - stepStart) / 1000;

    // evaluation, then checkpoint: a checkpoint knows what the evaluation of its step decided
    let evaluated: Record<string, number> = {};
    const last = step === grpo.max_steps;
    if (step % config.stopping.eval_steps === 0 || last) {
      const result = await heldOut('held-out', adapter);
      evaluated = evaluationMetrics(result);
      judge(step, result);
      const since = summaries.slice(judged).map(({ reward }) => reward);
      judged = summaries.length;
      const trainReward = since.length === 0 ? null : since.reduce((sum, reward) => sum + reward, 0) / since.length;
      evaluations.push({ n: result.n, accuracy: result.accuracy, trainReward });
    }
    const stats = { step, ...metrics.result(), ...evaluated };
    appendLines(files.metrics, [stats]);
    appendLines(files.completions, completions);
    observer.step(stats, grpo.max_steps);
    for (const { key, text } of [
      ...diagnose(summaries, labels),
      ...diagnoseUpdates(updates),
      ...diagnoseEvaluations(evaluations),
    ]) {
      if (!told.has(key)) {
        told.add(key);
        observer.note(`Step ${step}: ${text}`);
      }
    }
    if (ended(step) || (atBoundary(step) && step % config.output.save_steps === 0)) {
      save(last || state.stopReason !== null);
    }
  }

  const interrupted = !(state.finished || state.stopReason !== null || state.step >= grpo.max_steps);
  if (interrupted) {
    if (state.step < firstStep) {
      save(false); // not one step was made: keep the start
    }
    return { ...result(null), interrupted: true };
  }
  if (state.step < firstStep) {
    save(true); // nothing was left to do: the folders of the adapters are there all the same
  }
  if (best !== null) {
    restoreAdapter(adapter, best, folder.best);
  }
  const after = await heldOut('after', adapter);
  writeFileAtomic(
    join(folder.path, 'evaluation.json'),
    json({ best_step: state.stopping.best?.step ?? null, before, after }),
  );
  await observer.finished?.(evaluation, adapter, before, after);
  return result(after);

  function result(after: Evaluation | null): TrainResult {
    // Patience that ends with the last step stopped nothing.
    const stoppedEarly = state.stopReason !== null && state.step < grpo.max_steps;
    return {
      steps: state.step,
      stoppedEarly,
      stopReason: stoppedEarly ? state.stopReason : null,
      interrupted: false,
      bestStep: state.stopping.best?.step ?? null,
      before,
      after,
      truncatedPrompts,
      seconds,
    };
  }

  /** clip → prompt → rollouts → rewards → advantages: B groups, divided into micro-batches. */
  async function generate(
    step: number,
    index: number,
    microStepsToUpdate: number,
    metrics: StepMetrics,
    completions: object[],
  ): Promise<Generation> {
    const clips = clipsOfGeneration(dataset.train, labels, {
      seed,
      generation: index,
      count: grpo.prompts_per_step,
      balanced: grpo.balanced_batches,
    });

    // prompt
    const batch = clips.map((clip, place) => prompts.build(clip, { step, place }));
    const truncated = batch.filter((prompt) => prompt.truncated).length;
    truncatedPrompts += truncated;
    metrics.add('prompts/truncated', truncated);

    // rollouts
    const temperature = temperatureAt(step, grpo);
    const rolloutStart = performance.now();
    const exploring = step <= grpo.label_exploration;
    const { groups } = await sampleGroups(policy, adapter, batch, prompts, {
      numGenerations: G,
      maxCompletionLength: grpo.max_completion_length,
      temperature,
      topK: grpo.top_k,
      topP: grpo.top_p,
      seed,
      step,
      tried: exploring ? everyLabel(labels, prompts.answerTokens, grpo.max_completion_length) : [],
      keep: temperature > 0,
    });
    const size = groupSize(groups);
    metrics.add('time/rollout', (performance.now() - rolloutStart) / 1000);
    const rollouts = groups.flatMap((group) => group.rollouts);
    // What the policy did by itself; answers that were tried and not sampled say nothing about it.
    const own = rollouts.flatMap(({ logProbs }, n) => (logProbs === null ? [] : [n]));
    lengthMetrics(
      metrics,
      own.map((n) => rollouts[n] as Rollout),
    );
    const tokens = groups.reduce(
      (sum, group) =>
        sum +
        size * group.prompt.tokens.length +
        group.rollouts.reduce((own, { tokens: { length } }) => own + length, 0),
      0,
    );
    state = { ...state, numTokens: state.numTokens + tokens };

    // rewards
    const inputs = groups.flatMap(({ prompt, rollouts: answers }) =>
      answers.map((rollout) => ({
        completion: rollout.text,
        label: prompt.clip.label,
        labels,
        transcript: prompt.clip.transcript,
        prompt: prompt.text,
        labelShares: shares,
        recentPredictions: state.recentPredictions,
      })),
    );
    const scored = await score(rewards, inputs, step);
    const scoredOwn = {
      totals: Float64Array.from(own, (n) => scored.totals[n] as number),
      values: Object.fromEntries(
        Object.entries(scored.values).map(([name, values]) => [
          name,
          Float64Array.from(own, (n) => values[n] as number),
        ]),
      ),
    };
    rewardMetrics(metrics, scoredOwn);
    for (const [name, share] of Object.entries(advantageShares(scored, rewards, size, step))) {
      metrics.add(`rewards/${name}/advantage_share`, share);
    }
    const predicted = own.map((n) => predictedLabel((rollouts[n] as Rollout).text, labels));
    state = {
      ...state,
      recentPredictions: [...state.recentPredictions, ...predicted.filter((label) => label !== null)].slice(
        -BALANCE_WINDOW_PER_LABEL * labels.length,
      ),
    };
    const predictedShares = Object.fromEntries(
      labels.map((label) => [label, predicted.filter((other) => other === label).length / predicted.length]),
    );
    for (const label of labels) {
      metrics.add(`predictions/${label}`, predictedShares[label] as number);
    }

    // advantages
    const { advantages, dead } = advantagesOf(scored.totals, size, grpo.scale_rewards);
    const deadShare = dead.filter(Boolean).length / dead.length;
    metrics.add('frac_reward_zero_std', deadShare);
    const exact = scoredOwn.values.exact_match;
    summaries.push({
      deadShare,
      exactMatch: exact === undefined ? null : exact.reduce((sum, value) => sum + value, 0) / exact.length,
      predictedShares,
      constantRewards: constantRewards(scored.values, size),
      reward: scoredOwn.totals.reduce((sum, value) => sum + value, 0) / own.length,
      meanLength: own.reduce((sum, n) => sum + (rollouts[n] as Rollout).tokens.length, 0) / own.length,
    });
    if (config.output.log_completions) {
      for (const [n, rollout] of rollouts.entries()) {
        const { clip, truncated: cut } = (groups[Math.floor(n / size)] as Group).prompt;
        completions.push({
          step,
          prompt: Math.floor(n / size),
          clip: clip.id,
          label: clip.label,
          transcript: clip.transcript,
          transcript_truncated: cut,
          completion: rollout.text,
          tokens: rollout.tokens.length,
          sampled: rollout.logProbs !== null,
          truncated: rollout.truncated,
          rewards: Object.fromEntries(Object.entries(scored.values).map(([name, values]) => [name, values[n]])),
          reward: scored.totals[n],
          advantage: advantages[n],
        });
      }
    }

    // the micro-batches of the updates to come
    // An answer that was tried and is no better than its group's mean teaches nothing by itself: pushing down what the policy
    // would not say has no end. It counts in the mean.
    const masked = rollouts.map(
      (rollout, n) =>
        (grpo.mask_truncated_completions && rollout.truncated) ||
        (rollout.logProbs === null && (advantages[n] as number) <= 0),
    );
    const activeTokensInWindow = windowTokens(
      activeTokenCount(
        rollouts.map((rollout) => rollout.tokens.length),
        masked,
      ),
      accumulation,
      partsPerGeneration,
    );
    const groupsPerPart = groups.length / partsPerGeneration;
    const parts: MicroBatch[] = [];
    for (let i = 0; i < partsPerGeneration; i++) {
      const from = i * groupsPerPart;
      const to = from + groupsPerPart;
      const own = groups.slice(from, to);
      const part: MicroBatch = {
        groups: own,
        dead: dead.slice(from, to),
        advantages: Float32Array.from(advantages.subarray(from * size, to * size)),
        weights: lossWeights(
          rolloutsOf(own).map((rollout) => rollout.tokens.length),
          masked.slice(from * size, to * size),
          {
            lossType: grpo.loss_type,
            maxCompletionLength: grpo.max_completion_length,
            gradientAccumulationSteps: accumulation,
            activeTokensInWindow,
          },
        ),
        // A part that is first used after an update needs the probabilities of before it.
        oldLogProbs: i < microStepsToUpdate ? null : await logProbRows(own, adapter, temperature),
        refLogProbs: grpo.beta > 0 ? await logProbRows(own, null, temperature) : null,
      };
      parts.push(part);
    }
    await observer.generated?.({
      step,
      temperature,
      adapter,
      groups,
      inputs,
      scored,
      advantages,
      dead,
      weights: Float32Array.from(parts.flatMap((part) => [...part.weights])),
      lines: completions.slice(-rollouts.length),
    });
    return { parts, temperature };
  }

  /** Log-probabilities of the answers, a row each. */
  async function logProbRows(
    groups: readonly Group[],
    of: NativeAdapter | null,
    temperature: number,
  ): Promise<Float32Array[]> {
    const packed = packGroups(
      groups.map(({ prompt, rollouts }) => ({ prompt, answers: rollouts.map(({ tokens }) => tokens) })),
    );
    const { logProbs } = await policy.logProbs({ ...packed, adapter: of, temperature });
    return unpackRows(logProbs, packed.lengths, packed.maxCompletionLength);
  }

  /** Adds the gradient of one micro-batch; returns its loss. */
  async function gradient(part: MicroBatch, temperature: number, metrics: StepMetrics): Promise<number> {
    const start = performance.now();
    const live = part.groups.map((_, b) => b).filter((b) => grpo.beta > 0 || !part.dead[b]);
    const groups = live.map((b) => part.groups[b] as Group);
    if (groups.length === 0) {
      return 0;
    }
    const size = groupSize(groups);
    const answers = live.flatMap((b) => Array.from({ length: size }, (_, g) => b * size + g));
    const packed = packGroups(
      groups.map(({ prompt, rollouts }) => ({ prompt, answers: rollouts.map(({ tokens }) => tokens) })),
    );
    const L = packed.maxCompletionLength;
    const pick = (rows: Float32Array[] | null) =>
      rows === null
        ? null
        : packRows(
            answers.map((n) => rows[n] as Float32Array),
            L,
          );
    const result = await policy.accumulateGradient({
      ...packed,
      adapter,
      temperature,
      advantages: Float32Array.from(answers, (n) => part.advantages[n] as number),
      weights: Float32Array.from(answers, (n) => part.weights[n] as number),
      oldLogProbs: pick(part.oldLogProbs),
      refLogProbs: pick(part.refLogProbs),
      epsilon: grpo.epsilon,
      epsilonHigh,
      beta: grpo.beta,
    });
    const rows = unpackRows(result.logProbs, packed.lengths, L);
    if (part.oldLogProbs === null) {
      samplingGapMetrics(
        metrics,
        rolloutsOf(groups).map(({ logProbs }) => logProbs),
        rows,
      );
      // Later uses of this part compare with the policy as it is now. Dead groups have no ratio that counts.
      const all = rolloutsOf(part.groups).map(({ logProbs, tokens }) => logProbs ?? new Float32Array(tokens.length));
      for (const [i, n] of answers.entries()) {
        all[n] = rows[i] as Float32Array;
      }
      part.oldLogProbs = all;
    }
    const entropies = unpackRows(result.entropies, packed.lengths, L);
    const tokens = entropies.reduce((sum, row) => sum + row.length, 0);
    metrics.add(
      'entropy',
      entropies.reduce((sum, row) => sum + row.reduce((own, value) => own + value, 0), 0) / tokens,
    );
    if (grpo.beta > 0) {
      metrics.add('kl', result.kl);
    }
    metrics.add('clip_ratio/low_mean', result.clipLow);
    metrics.add('clip_ratio/high_mean', result.clipHigh);
    metrics.add('clip_ratio/region_mean', result.clipLow + result.clipHigh);
    metrics.add('time/gradient', (performance.now() - start) / 1000);
    return result.loss;
  }
}

/** Answers of a group: G, and while labels are tried one more for each label. */
function groupSize(groups: readonly Group[]): number {
  return groups[0]?.rollouts.length ?? 0;
}

function rolloutsOf(groups: readonly Group[]): Rollout[] {
  return groups.flatMap(({ rollouts }) => rollouts);
}

function evaluationMetrics({ reward, accuracy, macro_f1 }: Evaluation): Record<string, number> {
  return { eval_reward: reward, eval_accuracy: accuracy, eval_macro_f1: macro_f1 };
}
