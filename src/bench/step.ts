/** Whole GRPO steps on random prompts with completions of a fixed length: how long they take, and where the time goes. */
import type { NativeAdapter, NativePolicy } from '../native/addon.js';
import { loadNative } from '../native/load.js';
import { advantagesOf } from '../pipeline/advantages.js';
import { lossWeights } from '../pipeline/loss-weights.js';
import { randomInteger } from '../random.js';
import { BUILT_IN_REWARDS } from '../rewards/index.js';
import type { ProductType } from './products.js';
import { bestRate } from './products.js';

export interface StepOptions {
  model: string; // GGUF
  device: string; // name, as in a run's manifest
  type: 'auto' | ProductType;
  prompts: number; // B
  generations: number; // G
  promptTokens: number; // P
  completionTokens: number; // L
  loraR: number;
  threads: number;
  steps: number; // measured ones
  seed: number;
}

type BenchWork = Omit<StepOptions, 'steps' | 'device'>;

/** Seconds of one step. The parts add up to `total`; `lora` and `attention` are shares of the four passes, not added. */
export interface StepTimes {
  total: number;
  prefill: number;
  decode_body: number;
  decode_head: number;
  sampling: number;
  forward: number;
  head: number;
  backward: number;
  optimizer: number;
  rewards: number;
  other: number;
  within_passes: { linear: number; lora: number; attention: number };
}

export interface StepBenchmark {
  options: StepOptions;
  base_type: string;
  cpu: string;
  seconds_per_step: number[];
  median_seconds_per_step: number;
  peak_rss_bytes: number;
  rss_bytes: number[]; // after each step
  breakdown: StepTimes; // of the median step
  flops: number;
  peak_gflops: number;
  bound_seconds: number; // flops / peak
  times_bound: number;
}

const LABELS = ['ifeval', 'commoneval', 'wildvoice'];
const LORA_ALPHA_PER_RANK = 2;
const LEARNING_RATE = 1e-5;
const TARGETS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];

/** A policy with a fresh adapter, ready for steps. */
export interface StepBench {
  readonly baseType: string;
  readonly flops: number; // of one step
  readonly parameters: number;
  step(): Promise<StepTimes>;
  close(): void;
}

export async function openStepBench(options: BenchWork, signal?: AbortSignal): Promise<StepBench> {
  const policy = await loadNative().openPolicy(options.model, { type: options.type, threads: options.threads });
  const adapter = policy.createAdapter({
    rank: options.loraR,
    alpha: LORA_ALPHA_PER_RANK * options.loraR,
    targetModules: TARGETS,
    seed: options.seed,
  });
  let step = 0;
  return {
    baseType: policy.info.baseType,
    parameters: policy.info.parameters,
    flops: stepFlops(policy, adapter, options),
    step: () => oneStep(policy, adapter, options, step++, signal),
    close: () => {
      adapter.close();
      policy.close();
    },
  };
}

/** `steps` measured steps after one that touches the memory for the first time. */
export async function benchStep(
  options: StepOptions,
  stepDone: (step: number, seconds: number) => void,
  signal?: AbortSignal,
): Promise<StepBenchmark> {
  const bench = await openStepBench(options, signal);
  const times: StepTimes[] = [];
  const rss: number[] = [];
  await bench.step();
  for (let step = 1; step <= options.steps; step++) {
    const result = await bench.step();
    times.push(result);
    rss.push(process.memoryUsage.rss());
    stepDone(step, result.total);
  }
  const peakRss = process.resourceUsage().maxRSS * 1024; // before the product is measured
  const { baseType, flops } = bench;
  bench.close();
  const peak = await bestRate(baseType.split(' ')[0] as ProductType, options.threads, signal);
  const sorted = times.toSorted((a, b) => a.total - b.total);
  const median = sorted[Math.floor(sorted.length / 2)] as StepTimes;
  const bound = flops / (peak * 1e9);
  return {
    options,
    base_type: baseType,
    cpu: loadNative().version().cpu,
    seconds_per_step: times.map(({ total }) => total),
    median_seconds_per_step: median.total,
    peak_rss_bytes: peakRss,
    rss_bytes: rss,
    breakdown: median,
    flops,
    peak_gflops: peak,
    bound_seconds: bound,
    times_bound: median.total / bound,
  };
}

async function oneStep(
  policy: NativePolicy,
  adapter: NativeAdapter,
  { prompts: B, generations: G, promptTokens: P, completionTokens: L, seed }: BenchWork,
  step: number,
  signal?: AbortSignal,
): Promise<StepTimes> {
  const promptTokens = randomTokens(policy, B * P, seed, step);
  const promptLengths = new Int32Array(B).fill(P);
  const start = performance.now();
  adapter.zeroGradient();
  const rollout = await policy.rollout(
    {
      adapter,
      promptTokens,
      promptLengths,
      numGenerations: G,
      maxCompletionLength: L,
      temperature: 1,
      topK: 0,
      topP: 1,
      stopTokens: new Int32Array(0),
      stopStrings: [],
      seed,
      step,
      promptKeys: Uint32Array.from({ length: B }, (_, b) => b),
      forceLength: true,
      keep: true,
    },
    signal,
  );
  const rewardsStart = performance.now();
  const rewards = Float64Array.from(rollout.texts, (text, n) => reward(text, n, step));
  // A group of one has no advantage; its prompts are compared with each other, so that there is a gradient to compute.
  const advantages = advantagesOf(rewards, G > 1 ? G : B, 'group').advantages;
  const rewardsSeconds = (performance.now() - rewardsStart) / 1000;
  const gradient = await policy.accumulateGradient(
    {
      adapter,
      promptTokens,
      promptLengths,
      numGenerations: G,
      tokens: rollout.tokens,
      lengths: rollout.lengths,
      maxCompletionLength: L,
      temperature: 1,
      advantages: Float32Array.from(advantages),
      weights: lossWeights(rollout.lengths, Array(B * G).fill(false), {
        lossType: 'dapo',
        maxCompletionLength: L,
        gradientAccumulationSteps: 1,
        activeTokensInWindow: B * G * L,
      }),
      oldLogProbs: null,
      refLogProbs: null,
      epsilon: 0.2,
      epsilonHigh: 0.2,
      beta: 0,
    },
    signal,
  );
  const optimizerStart = performance.now();
  adapter.step({
    learningRate: LEARNING_RATE,
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-8,
    weightDecay: 0.1,
    maxGradNorm: 1,
  });
  const end = performance.now();
  const parts = {
    prefill: rollout.seconds.prefill,
    decode_body: rollout.seconds.decode,
    decode_head: rollout.seconds.head,
    sampling: rollout.seconds.sample,
    forward: gradient.seconds.forward,
    head: gradient.seconds.head,
    backward: gradient.seconds.backward,
    optimizer: (end - optimizerStart) / 1000,
    rewards: rewardsSeconds,
  };
  const total = (end - start) / 1000;
  const sum = Object.values(parts).reduce((a, b) => a + b, 0);
  return {
    total,
    ...parts,
    other: total - sum,
    within_passes: {
      linear: rollout.work.linear + gradient.work.linear,
      lora: rollout.work.lora + gradient.work.lora,
      attention: rollout.work.attention + gradient.work.attention,
    },
  };
}

/** The built-in rewards, and a part by lot, so that no group's rewards are all equal. */
function reward(completion: string, n: number, step: number): number {
  const input = {
    completion,
    label: LABELS[n % LABELS.length] as string,
    labels: LABELS,
    transcript: '',
    prompt: '',
    labelShares: Object.fromEntries(LABELS.map((label) => [label, 1 / LABELS.length])),
    recentPredictions: [],
  };
  const builtIn = Object.values(BUILT_IN_REWARDS).reduce((sum, own) => sum + own(input), 0);
  return builtIn + randomInteger(n, 'bench reward', step, 0, 0, 1000) / 1000;
}

/** Any tokens but the first thousand, among which the special ones are. */
function randomTokens(policy: NativePolicy, count: number, seed: number, step: number): Int32Array {
  const first = Math.min(1000, Math.floor(policy.info.vocab / 2));
  return Int32Array.from(
    { length: count },
    (_, i) => first + randomInteger(seed, 'bench prompt', step, 0, i, policy.info.vocab - first),
  );
}

/**
 * Multiplications and additions of the matrix products when nothing is computed twice: each prompt once for its group, the
 * passes forward and backward, logits and their expectation at completion positions only.
 */
function stepFlops(policy: NativePolicy, adapter: NativeAdapter, o: BenchWork): number {
  const tokens = o.prompts * (o.promptTokens + o.generations * (o.completionTokens - 1));
  const headRows = o.prompts * (1 + o.generations * (o.completionTokens - 1));
  const lora = adapter.tensors.reduce((sum, { shape: [rows, columns] }) => sum + rows * columns, 0);
  const { linearParameters, vocab, width } = policy.info;
  return 2 * (2 * linearParameters * tokens + 2 * vocab * width * headRows + 3 * lora * tokens);
}
