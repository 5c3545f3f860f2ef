/**
 * The same learning as TRL's: reward against step, ours and theirs, on the bundled clips with the real weights.
 *
 * Both get the same prompts in the same order, the same rewards (ours, called from theirs) and the same settings; only the random
 * numbers of sampling and of LoRA's start differ. Label exploration, which TRL does not have, is off, and the
 * only reward is that for the right answer. Figures and plot go to
 * --out; what is there already is kept, so that seeds can be added.
 */
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { loadNative } from '../dist/native/load.js';
import { clipsOfGeneration } from '../dist/pipeline/data.js';
import { createPromptBuilder } from '../dist/pipeline/prompt.js';
import { openRun } from '../dist/run/folder.js';
import { plotLines } from './plot.mjs';
import { options } from './step.mjs';

const usage =
  'usage: node bench/learning.mjs --dir DIR --peers PYTHON [--seeds 1,2,3] [--steps 24] [--threads N] [--out docs/benchmarks]';
const here = fileURLToPath(new URL('.', import.meta.url));
const { values: flags } = parseArgs({
  options: {
    dir: { type: 'string' },
    peers: { type: 'string' },
    seeds: { type: 'string', default: '1,2,3' },
    steps: { type: 'string', default: '24' },
    threads: { type: 'string', default: String(availableParallelism()) },
    out: { type: 'string', default: join(here, '../docs/benchmarks') },
  },
});
if (!flags.dir || !flags.peers) {
  console.error(usage);
  process.exit(2);
}

const SETTINGS = {
  config: 'small',
  data: 'bundled',
  baseType: 'f32',
  labelExploration: 0,
  promptsPerStep: 6,
  numGenerations: 8,
  maxCompletionLength: 8,
  learningRate: 1e-4,
  lrSchedulerType: 'constant',
  warmupRatio: 0,
  patience: 1_000_000,
  // Rewards that pay for any label make plain GRPO answer with one label within ten steps; that one can be learned from.
  exactMatchWeight: 3,
  formatComplianceWeight: 0,
  confidenceWeight: 0,
  datasetBalanceWeight: 0,
  lengthPenaltyWeight: 0,
};

/** Trains; returns the run folder. */
async function ours(seed, folder) {
  await promisify(execFile)(process.execPath, [
    join(here, '../dist/cli.js'),
    'train',
    ...options({
      ...SETTINGS,
      model: join(flags.dir, 'gemma-3-270m-q4_k_m.gguf'),
      whisper: join(flags.dir, 'ggml-base.bin'),
      maxSteps: flags.steps,
      evalSteps: flags.steps,
      threads: flags.threads,
      seed,
      outputDir: folder,
    }),
  ]);
  return readFileSync(join(folder, 'metrics.jsonl'), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
    .filter(({ step }) => step > 0);
}

/** The prompts of the run's steps, in their order. */
async function promptsOf(folder) {
  const { loaded, dataset } = openRun(folder);
  const { config } = loaded;
  const policy = await loadNative().openPolicy(config.policy.model, { type: 'auto', threads: 1 });
  const builder = createPromptBuilder(policy, config.prompt, dataset.labels, dataset.train, config.seed);
  const prompts = Array.from({ length: config.grpo.max_steps }, (_, generation) =>
    clipsOfGeneration(dataset.train, dataset.labels, {
      seed: config.seed,
      generation,
      count: config.grpo.prompts_per_step,
      balanced: config.grpo.balanced_batches,
    }).map((clip, place) => ({
      prompt: builder.build(clip, { step: generation + 1, place }).text,
      label: clip.label,
    })),
  ).flat();
  policy.close();
  return { config, prompts };
}

async function theirs(folder) {
  const work = join(folder, 'trl-work.json');
  const rewards = [process.execPath, join(here, 'ours/rewards.mjs'), JSON.stringify({ run: folder })];
  writeFileSync(work, JSON.stringify({ ...(await promptsOf(folder)), rewards }));
  const args = ['--model', join(flags.dir, 'gemma-3-270m'), '--work', work, '--threads', flags.threads];
  const child = spawn(flags.peers, [join(here, 'peers/trl_learn.py'), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const steps = [];
  for await (const line of createInterface({ input: child.stdout })) {
    steps.push(JSON.parse(line));
    console.log(`TRL, step ${steps.length}: ${line}`);
  }
  if (steps.length !== Number(flags.steps)) throw new Error(`TRL made ${steps.length} of ${flags.steps} steps`);
  return steps;
}

const figures = ({ step, reward, frac_reward_zero_std }) => ({ step, reward, frac_reward_zero_std });
mkdirSync(flags.out, { recursive: true });
const file = join(flags.out, 'learning.json');
const runs = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).runs : [];
for (const seed of flags.seeds.split(',').map(Number)) {
  if (runs.some((run) => run.seed === seed && run.steps === Number(flags.steps))) continue;
  const folder = join(mkdtempSync(join(tmpdir(), 'learning-')), 'run');
  const own = (await ours(seed, folder)).map(figures);
  console.log(`ours, seed ${seed}: ${own.map(({ reward }) => reward.toFixed(2)).join(' ')}`);
  runs.push({ seed, steps: own.length, ours: own, trl: (await theirs(folder)).map(figures) });
  writeFileSync(file, `${JSON.stringify({ settings: SETTINGS, runs }, null, 1)}\n`);
}

const rows = runs.flatMap(({ seed, ...sides }) =>
  ['ours', 'trl'].flatMap((side) =>
    sides[side].map(({ step, reward }) => ({
      x: step,
      value: reward,
      series: `${side === 'trl' ? 'TRL' : side}, seed ${seed}`,
    })),
  ),
);
writeFileSync(
  join(flags.out, 'learning.svg'),
  await plotLines(rows, { x: 'step', y: 'mean reward of the step', series: 'series' }),
);

console.log('| steps | ours | TRL | runs |\n|---|---|---|---|');
const WINDOW = 6;
const last = Math.max(...runs.map((run) => run.ours.length));
for (let from = 1; from <= last; from += WINDOW) {
  // Of a run only the steps that both sides made.
  const both = runs.map((run) => ({ run, to: Math.min(from + WINDOW - 1, run.ours.length, run.trl.length) }));
  const counted = both.filter(({ to }) => to >= from);
  if (counted.length === 0) break;
  const mean = (side) => {
    const values = counted.flatMap(({ run, to }) => run[side].slice(from - 1, to).map(({ reward }) => reward));
    return (values.reduce((sum, value) => sum + value, 0) / values.length).toFixed(2);
  };
  console.log(`| ${from}-${from + WINDOW - 1} | ${mean('ours')} | ${mean('trl')} | ${counted.length} |`);
}
