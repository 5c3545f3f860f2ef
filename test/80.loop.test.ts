/** The loop on the bundled policy with texts instead of audio: resume, off-policy reuse, KL, accumulation, dead groups. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type FlagSetting, loadConfig } from '../src/config/load.js';
import { type TrainResult, train } from '../src/grpo.js';
import type { GradientRequest, NativePolicy } from '../src/native/addon.js';
import { loadNative } from '../src/native/load.js';
import { readAdapter } from '../src/pipeline/checkpoint.js';
import { loadDataset } from '../src/pipeline/data.js';
import { loadRewards } from '../src/rewards/weighted.js';
import { createRun, runFolder } from '../src/run/folder.js';
import { BUNDLED_POLICY } from '../src/run/inputs.js';
import type { StepStats, TranscribedClip } from '../src/types.js';

interface Run {
  path: string;
  result: TrainResult;
  notes: string[];
  requests: GradientRequest[];
  kept: string[]; // of each gradient: prompts whose forward pass was the rollout's, of all
}

const settings = (values: Record<string, unknown>): FlagSetting[] =>
  Object.entries({
    'data.samples_per_dataset': 12,
    'data.held_out_per_dataset': 4,
    'grpo.prompts_per_step': 6,
    'grpo.num_generations': 4,
    'stopping.patience': 0,
    'stopping.eval_steps': 2,
    'output.save_steps': 2,
    ...values,
  }).map(([path, value]) => ({ flag: path, path, value }));

/** Runs the loop; `stopAfter` aborts it as a signal would, after that step. */
async function run(
  values: Record<string, unknown>,
  options: { path?: string; stopAfter?: number; failAt?: number; begin?: boolean } = {},
): Promise<Run> {
  const loaded = loadConfig('tiny', settings(values));
  const { config } = loaded;
  const { labels, train: training, heldOut } = await loadDataset(config.data.source, config.data, config.seed);
  const texts = (clips: typeof training): TranscribedClip[] =>
    clips.map((clip) => ({ ...clip, transcript: clip.reference ?? '' }));
  const dataset = { labels, train: texts(training), heldOut: texts(heldOut), unheard: [] };
  const path = options.path ?? mkdtempSync(join(tmpdir(), 'voicegrpo-loop-'));
  const folder = runFolder(path);
  const resume = options.path !== undefined && options.begin !== true;
  if (!resume) {
    createRun(folder, { loaded, manifest: {}, dataset });
  }
  const native = await loadNative().openPolicy(BUNDLED_POLICY, { type: 'auto', threads: 2 });
  const requests: GradientRequest[] = [];
  const kept: string[] = [];
  const policy: NativePolicy = new Proxy(native, {
    get(target, name) {
      if (name === 'accumulateGradient') {
        return async (request: GradientRequest) => {
          requests.push(request);
          if (requests.length === options.failAt) {
            throw Object.assign(new Error('cuda:0: out of memory'), { code: 'E_MEMORY', hint: '' });
          }
          const result = await target.accumulateGradient(request);
          kept.push(`${result.keptPrompts}/${request.promptLengths.length}`);
          return result;
        };
      }
      const value = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const notes: string[] = [];
  const stop = new AbortController();
  try {
    const result = await train({
      config,
      policy,
      dataset,
      rewards: await loadRewards(config.rewards),
      folder,
      resume,
      signal: stop.signal,
      observer: {
        step: ({ step }) => (step === options.stopAfter ? stop.abort() : undefined),
        evaluated: () => undefined,
        note: (text) => notes.push(text),
      },
    });
    return { path, result, notes, requests, kept };
  } finally {
    native.close();
  }
}

function metricsOf(path: string): StepStats[] {
  const lines = readFileSync(join(path, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line) as StepStats);
}

/** Without what a clock decides. */
function timeless(path: string): object[] {
  return metricsOf(path).map((stats) =>
    Object.fromEntries(Object.entries(stats).filter(([name]) => !name.startsWith('time/') && name !== 'step_time')),
  );
}

function sameAdapters(a: string, b: string): void {
  for (const side of ['best', 'last']) {
    const file = join(side, 'adapter_model.safetensors');
    assert.ok(readFileSync(join(a, file)).equals(readFileSync(join(b, file))), `${side} adapters differ`);
  }
}

test('a run that is stopped and resumed ends with the bytes of one that was not', async () => {
  const whole = await run({ 'grpo.max_steps': 6 });
  const stopped = await run({ 'grpo.max_steps': 6 }, { stopAfter: 4 });
  assert.is(stopped.result.interrupted, true);
  assert.is(stopped.result.after, null);
  assert.is(stopped.result.steps, 4);
  const resumed = await run({ 'grpo.max_steps': 6 }, { path: stopped.path });
  assert.match(resumed.notes[0] ?? '', 'Resumed after step 4');
  assert.equal(timeless(resumed.path), timeless(whole.path));
  sameAdapters(resumed.path, whole.path);
  assert.equal(resumed.result.after, whole.result.after);
  const completions = (path: string) => readFileSync(join(path, 'completions.jsonl'), 'utf8');
  assert.is(completions(resumed.path), completions(whole.path));
  const evaluations = (path: string) => readFileSync(join(path, 'evaluations.jsonl'), 'utf8');
  assert.is(evaluations(resumed.path), evaluations(whole.path));
  const again = await run({ 'grpo.max_steps': 6 }, { path: whole.path });
  assert.is(again.result.steps, 6);
  assert.is(evaluations(again.path), evaluations(resumed.path), 'a finished run that is resumed is evaluated once');
});

test('with reuse of answers (μ = 2) too', async () => {
  const values = { 'grpo.max_steps': 6, 'grpo.num_iterations': 2 };
  const whole = await run(values);
  const stopped = await run(values, { stopAfter: 3 });
  assert.is(stopped.result.steps, 4, 'the second use of the answers is made before the run stops');
  const resumed = await run(values, { path: stopped.path });
  assert.equal(timeless(resumed.path), timeless(whole.path));
  sameAdapters(resumed.path, whole.path);
});

test('the first use of an answer has ratio 1 and no old probabilities, the second has both', async () => {
  const { path, requests } = await run({ 'grpo.max_steps': 4, 'grpo.num_iterations': 2, 'optimizer.warmup_ratio': 0 });
  assert.equal(
    requests.map(({ oldLogProbs }) => oldLogProbs === null),
    [true, false, true, false],
  );
  assert.equal(requests[0]?.tokens, requests[1]?.tokens);
  assert.not.equal(requests[1]?.tokens, requests[2]?.tokens);
  const [, first, second] = metricsOf(path) as [StepStats, StepStats, StepStats];
  assert.ok((first['sampling/sampling_logp_difference/max'] as number) < 1e-3);
  assert.is(second['sampling/sampling_logp_difference/max'], undefined, 'measured before the first update only');
  assert.is(second.reward, undefined, 'no answers, no rewards');
});

test('micro-batches first used after an update know the probabilities of before it', async () => {
  const { requests } = await run({ 'grpo.max_steps': 2, 'grpo.steps_per_generation': 2, 'optimizer.warmup_ratio': 0 });
  assert.equal(
    requests.map(({ oldLogProbs }) => oldLogProbs === null),
    [true, false],
  );
  assert.is(requests[0]?.promptLengths.length, 3);
});

test('accumulating two halves is the same update as one whole', async () => {
  const one = await run({ 'grpo.max_steps': 3, 'optimizer.warmup_ratio': 0 });
  const two = await run({ 'grpo.max_steps': 3, 'optimizer.warmup_ratio': 0, 'grpo.gradient_accumulation_steps': 2 });
  assert.is(two.requests.length, 6);
  const adapters = [one, two].map(({ path }) => readAdapter(join(path, 'last')));
  for (const [name, { data }] of adapters[0] as ReturnType<typeof readAdapter>) {
    const other = adapters[1]?.get(name)?.data as Float32Array;
    data.forEach((value, i) => {
      // Adam divides by the root of the second moment: rounding of gradients near 0 shows in the update.
      assert.ok(Math.abs(value - (other[i] as number)) < 2e-4, `${name}[${i}]: ${value} and ${other[i]}`);
    });
  }
  const metrics = [one, two].map(({ path }) => metricsOf(path)[1] as StepStats);
  assert.ok(Math.abs((metrics[0]?.loss as number) - (metrics[1]?.loss as number)) < 1e-5);
});

test('KL: zero at the base model, above it later; dead groups then count in the gradient', async () => {
  const { path, requests } = await run({ 'grpo.max_steps': 4, 'grpo.beta': 0.05, 'optimizer.warmup_ratio': 0 });
  assert.ok(requests.every(({ refLogProbs, promptLengths }) => refLogProbs !== null && promptLengths.length === 6));
  const kl = metricsOf(path)
    .slice(1)
    .map((stats) => stats.kl as number);
  assert.ok(Math.abs(kl[0] as number) < 1e-6, String(kl));
  assert.ok((kl[3] as number) > 1e-5, String(kl));
});

test('patience that runs out with the last step has stopped nothing; before it, it has', async () => {
  const values = { 'stopping.patience': 1, 'stopping.min_delta': 1000 };
  const atTheEnd = await run({ ...values, 'grpo.max_steps': 2 });
  assert.equal([atTheEnd.result.stoppedEarly, atTheEnd.result.stopReason], [false, null]);
  const early = await run({ ...values, 'grpo.max_steps': 4 });
  assert.is(early.result.stoppedEarly, true);
  assert.match(early.result.stopReason ?? '', 'gained less than');
  assert.is(early.result.steps, 2);
});

test('dead groups cost no gradient pass, and are told in words', async () => {
  const module = join(mkdtempSync(join(tmpdir(), 'voicegrpo-loop-')), 'constant.mjs');
  writeFileSync(module, 'export default () => 0.3;');
  const names = ['exact_match', 'format_compliance', 'confidence', 'dataset_balance', 'length_penalty'];
  const values = Object.fromEntries(names.map((name) => [`rewards.${name}.weight`, 0]));
  const { path, requests, notes } = await run({
    'grpo.max_steps': 3,
    ...values,
    'rewards.modules': [{ module, weight: 1 }],
  });
  assert.is(requests.length, 0);
  const stats = metricsOf(path).slice(1);
  assert.ok(stats.every(({ frac_reward_zero_std, grad_norm }) => frac_reward_zero_std === 1 && grad_norm === 0));
  assert.ok(
    notes.some((note) => note.includes('all groups are dead')),
    notes.join(),
  );
});

test('tried labels are beside the samples, teach only where they beat their group, and do not count as what the policy said', async () => {
  const values = { 'grpo.max_steps': 4, 'grpo.label_exploration': 2, 'optimizer.warmup_ratio': 0 };
  const { path, requests } = await run(values);
  assert.equal(
    requests.map(({ numGenerations }) => numGenerations),
    [7, 7, 4, 4],
  );
  const answers = readFileSync(join(path, 'completions.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { step: number; sampled: boolean; reward: number; advantage: number });
  const first = answers.filter(({ step }) => step === 1);
  assert.is(first.filter(({ sampled }) => !sampled).length, 6 * 3);
  assert.is(answers.filter(({ step, sampled }) => step === 3 && !sampled).length, 0);
  const { weights, advantages } = requests[0] as GradientRequest;
  const live = first.filter((_, n) => {
    const group = first.slice(n - (n % 7), n - (n % 7) + 7);
    return group.some(({ reward }) => reward !== group[0]?.reward);
  });
  assert.is(weights.length, live.length);
  for (const [n, { sampled, advantage }] of live.entries()) {
    assert.is(advantages[n], Math.fround(advantage));
    assert.is(weights[n] === 0, !sampled && advantage <= 0, `answer ${n}`);
  }
  const own = first.filter(({ sampled }) => sampled).map(({ reward }) => reward);
  const stats = metricsOf(path)[1] as StepStats;
  assert.ok(Math.abs((stats.reward as number) - own.reduce((sum, value) => sum + value, 0) / own.length) < 1e-9);
});

test('memory that runs out within a step: the steps before it are saved, and a resumed run ends as one that had enough', async () => {
  const values = { 'grpo.max_steps': 5, 'output.save_steps': 100, 'stopping.eval_steps': 5 };
  const whole = await run(values);
  const path = mkdtempSync(join(tmpdir(), 'voicegrpo-loop-'));
  let code = '';
  try {
    await run(values, { path, begin: true, failAt: 3 });
  } catch (error) {
    code = (error as { code: string }).code;
  }
  assert.is(code, 'E_MEMORY');
  const resumed = await run(values, { path });
  assert.match(resumed.notes[0] ?? '', /Resumed after step [1-4] /);
  assert.equal(timeless(resumed.path), timeless(whole.path));
  sameAdapters(resumed.path, whole.path);
});

test('a run resumes to the same bytes across the end of label exploration', async () => {
  const values = { 'grpo.max_steps': 6, 'grpo.label_exploration': 4, 'grpo.num_iterations': 2 };
  const whole = await run(values);
  const stopped = await run(values, { stopAfter: 2 });
  const resumed = await run(values, { path: stopped.path });
  assert.equal(timeless(resumed.path), timeless(whole.path));
  sameAdapters(resumed.path, whole.path);
});

test("metrics have TRL's names, and num_tokens grows", async () => {
  const { path } = await run({ 'grpo.max_steps': 2 });
  const [start, first, second] = metricsOf(path) as [StepStats, StepStats, StepStats];
  assert.is(start.step, 0);
  for (const name of ['eval_reward', 'eval_accuracy', 'eval_macro_f1']) {
    assert.type(start[name], 'number', name);
  }
  const names = [
    ...[
      'reward',
      'reward_std',
      'frac_reward_zero_std',
      'entropy',
      'loss',
      'grad_norm',
      'learning_rate',
      'num_tokens',
      'step_time',
    ],
    ...['completions/mean_length', 'completions/min_length', 'completions/max_length', 'completions/clipped_ratio'],
    ...['completions/mean_terminated_length', 'completions/min_terminated_length', 'completions/max_terminated_length'],
    ...[
      'clip_ratio/low_mean',
      'clip_ratio/high_mean',
      'clip_ratio/region_mean',
      'rewards/exact_match/mean',
      'rewards/exact_match/std',
    ],
    ...['sampling/sampling_logp_difference/mean', 'sampling/importance_sampling_ratio/mean', 'predictions/ifeval'],
  ];
  for (const name of names) {
    assert.type(first[name], 'number', name);
  }
  assert.is(first.learning_rate, 0, 'warm-up begins at 0, as in transformers');
  assert.ok((second.num_tokens as number) > (first.num_tokens as number));
});

test('gradients use the pass of the rollout until the adapter changes', async () => {
  const all = (kept: string[]) => kept.every((share) => share.split('/')[0] === share.split('/')[1]);
  // With every label tried, a penalty that needs the reference policy, and a step in two parts.
  const options = {
    'grpo.max_steps': 2,
    'grpo.label_exploration': 2,
    'grpo.beta': 0.04,
    'optimizer.warmup_ratio': 0, // the first update counts
  };
  const whole = await run({ ...options, 'grpo.gradient_accumulation_steps': 2 });
  assert.is(whole.kept.length, 4);
  assert.ok(all(whole.kept), whole.kept.join());
  const twice = await run({ ...options, 'grpo.num_iterations': 2 });
  assert.is(twice.kept.length, 2);
  assert.ok(all(twice.kept.slice(0, 1)), twice.kept.join());
  assert.match(twice.kept[1] as string, /^0\//, 'after an update there is nothing to use');
});

test.run();
