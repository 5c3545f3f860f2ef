/** The library as a user meets it: built, imported by its name from a script beside it, with its types. */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { evaluate, type GivenReward, openRun, type TrainEvent, train, VoiceGrpoError } from '../src/index.js';
import { runCli } from './cli.js';
import { fails } from './library.js';

const scratch = mkdtempSync(join(tmpdir(), 'voicegrpo-library-'));
const home = join(scratch, 'package');
const tsc = resolve('node_modules/.bin/tsc');

const settings = {
  data: { samples_per_dataset: 6, held_out_per_dataset: 2, use_text: true },
  grpo: { max_steps: 4, prompts_per_step: 3, num_generations: 4 },
  stopping: { eval_steps: 4, patience: 0 },
};

function run(command: string, args: string[]) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: home, encoding: 'utf8' });
  return { status, stdout, output: `${stdout}${stderr}` };
}

test('the built package: the example trains by its name, and its types hold', () => {
  cpSync('package.json', join(scratch, 'package', 'package.json'));
  for (const name of ['configs', 'assets', 'build', 'node_modules']) {
    symlinkSync(resolve(name), join(home, name));
  }
  const built = spawnSync(tsc, ['-p', 'tsconfig.build.json', '--outDir', join(home, 'dist')], { encoding: 'utf8' });
  assert.is(built.status, 0, built.stdout);
  cpSync('examples', join(home, 'examples'), { recursive: true });

  const { status, stdout, output } = run(process.execPath, ['examples/train.mjs', 'out']);
  assert.is(status, 0, output);
  assert.match(stdout, /before: accuracy 0\.\d\d\n.*step 1 of 4: reward \d/s);
  assert.match(stdout, /after: accuracy \d\.\d\d\n4 steps in out\n$/);
  const metrics = readFileSync(join(home, 'out', 'metrics.jsonl'), 'utf8');
  assert.match(metrics, '"rewards/lower_case/mean"');

  writeFileSync(
    join(home, 'tsconfig.json'),
    JSON.stringify({
      compilerOptions: {
        ...{ allowJs: true, checkJs: true, noEmit: true, strict: true, skipLibCheck: false },
        ...{ module: 'NodeNext', target: 'ES2022', lib: ['ES2023', 'ESNext.Disposable'], types: ['node'] },
      },
      include: ['examples'],
    }),
  );
  const checked = run(tsc, ['-p', 'tsconfig.json']);
  assert.is(checked.status, 0, checked.output);
  writeFileSync(join(home, 'examples', 'wrong.mjs'), "import { train } from 'voicegrpo';\ntrain({ confg: 'tiny' });\n");
  assert.match(run(tsc, ['-p', 'tsconfig.json']).output, "'confg'", 'the types are really there');
});

test('leaving the loop ends the work after the step, saved; the result says so', async () => {
  const run = join(scratch, 'left');
  const training = train({ config: 'tiny', settings, outputDir: run });
  const seen: TrainEvent['type'][] = [];
  for await (const event of training) {
    seen.push(event.type);
    if (event.type === 'step') {
      break;
    }
  }
  const result = await training.result;
  assert.is(result.interrupted, true);
  assert.ok(result.steps < 4, String(result.steps));
  assert.ok(existsSync(join(run, 'last', 'adapter_model.safetensors')));
  assert.is(seen[0], 'begin');
  assert.ok(seen.includes('evaluation'));
});

test('without iterating the result is enough; the iteration of a finished training has all events', async () => {
  const training = train({ config: 'tiny', settings, outputDir: join(scratch, 'whole') });
  const result = await training.result;
  assert.equal([result.steps, result.interrupted], [4, false]);
  const events: TrainEvent[] = [];
  for await (const event of training) {
    events.push(event);
  }
  assert.equal(events.filter(({ type }) => type === 'step').length, 4);
  const last = events.at(-1);
  assert.ok(last?.type === 'end' && last.result.run === result.run);
});

test('evaluate: the held-out clips as the training saw them, other texts, and a label that is none', async () => {
  const run = join(scratch, 'whole');
  const { after, before } = JSON.parse(readFileSync(join(run, 'evaluation.json'), 'utf8'));
  assert.equal(await evaluate(run), after);
  assert.is((await evaluate(run, null, { adapter: 'none' })).accuracy, before.accuracy);
  const [clip] = after.predictions;
  const texts = [{ transcript: 'Write a poem in exactly two lines.', label: clip.label }];
  const { n, predictions } = await evaluate(run, texts);
  assert.is(n, 1);
  assert.is(predictions[0]?.label, clip.label);
  try {
    await evaluate(run, [{ transcript: 'x', label: 'music' }]);
    assert.unreachable();
  } catch (error) {
    assert.ok(error instanceof VoiceGrpoError && error.code === 'E_DATA', String(error));
  }
});

test('a configuration as an object; the answers of each step come before it, as completions.jsonl has them', async () => {
  const run = join(scratch, 'object');
  const training = train({ config: { extends: 'tiny', ...settings }, settings: { seed: 5 }, outputDir: run });
  const order: string[] = [];
  const told: object[] = [];
  for await (const event of training) {
    if (event.type === 'answers' || event.type === 'step') order.push(`${event.type} ${event.step}`);
    if (event.type === 'answers') told.push(...event.answers);
  }
  assert.equal(
    order,
    [1, 2, 3, 4].flatMap((step) => [`answers ${step}`, `step ${step}`]),
  );
  const lines = readFileSync(join(run, 'completions.jsonl'), 'utf8').trim().split('\n');
  const logged = lines.map((line) => {
    const { prompt, label, transcript, completion, sampled, rewards, reward, advantage } = JSON.parse(line);
    return { prompt, label, transcript, completion, sampled, rewards, reward, advantage };
  });
  assert.equal(told, logged);
  const { origins } = openRun(run).loaded;
  assert.equal([origins.seed, origins['grpo.max_steps']], ['flag settings.seed', 'flag config.grpo.max_steps']);
  try {
    await train({ config: { extends: 'tni' } }).result;
    assert.unreachable();
  } catch (error) {
    assert.ok(error instanceof VoiceGrpoError && error.code === 'E_CONFIG', String(error));
  }
});

test('errors are VoiceGrpoErrors, from the iteration and from the result', async () => {
  const iterate = async (training: AsyncIterable<TrainEvent>) => {
    for await (const _ of training) {
      // events before the error
    }
  };
  // biome-ignore lint/suspicious/noExplicitAny: what a script without types may pass
  const wrong = { grpo: { max_step: 3 } } as any;
  await fails(() => train({ config: 'tiny', settings: wrong }).result, 'E_CONFIG', /max_step.*max_steps/s);
  await fails(() => iterate(train({ config: 'tni' })), 'E_CONFIG', /'tni'/);
  const polluting = JSON.parse('{"grpo":{"__proto__":{"polluted":1}}}');
  await fails(() => train({ config: 'tiny', settings: polluting }).result, 'E_CONFIG', /a prototype/);
  assert.is(({} as Record<string, unknown>).polluted, undefined);
  const signal = AbortSignal.abort();
  await fails(() => train({ config: 'tiny', signal }).result, 'E_ABORTED', /before its first step/);
});

const quick = {
  ...settings,
  grpo: { ...settings.grpo, max_steps: 3 },
  output: { save_steps: 1 },
  stopping: { eval_steps: 2, patience: 0 },
};
const lowerCase: GivenReward = {
  name: 'lower',
  weight: 0.5,
  reward: ({ completion }) => (/[A-Z]/.test(completion) ? 0 : 1),
};

/** Lines of a file of a run, without what a clock decides. */
function linesOf(run: string, name: string): object[] {
  const lines = readFileSync(join(run, name), 'utf8').trim().split('\n');
  return lines.map((line) =>
    Object.fromEntries(Object.entries(JSON.parse(line)).filter(([key]) => !/^(time\/|step_time)/.test(key))),
  );
}

test('a training that was left goes on by resume, to the files of one that was not', async () => {
  const [left, whole] = [join(scratch, 'resumed'), join(scratch, 'unbroken')] as const;
  const options = { config: 'tiny', settings: quick, rewards: [lowerCase] };
  await train({ ...options, outputDir: whole }).result;
  for await (const { type } of train({ ...options, outputDir: left, resume: true })) {
    if (type === 'step') break; // begun, since no run was there
  }
  const training = train({ outputDir: left, resume: true, rewards: [lowerCase], settings: { threads: 1 } });
  const seen: TrainEvent[] = [];
  for await (const event of training) seen.push(event);
  const result = await training.result;
  assert.equal([result.steps, result.interrupted, result.run], [3, false, left]);
  assert.ok(seen.some((event) => event.type === 'note' && /^Resumed after step [12] /.test(event.text)));
  assert.is(seen.find(({ type }) => type === 'begin')?.type, 'begin');
  for (const name of ['metrics.jsonl', 'completions.jsonl', 'evaluations.jsonl']) {
    assert.equal(linesOf(left, name), linesOf(whole, name));
  }
  const adapter = join('best', 'adapter_model.safetensors');
  assert.ok(readFileSync(join(left, adapter)).equals(readFileSync(join(whole, adapter))));

  const again = (more: object) => () => train({ outputDir: left, resume: true, rewards: [lowerCase], ...more }).result;
  await fails(again({ settings: { seed: 7 } }), 'E_CONFIG', /began with.*others for seed/s);
  await fails(again({ config: 'tiny' }), 'E_CONFIG', /others for .*grpo.max_steps/s);
  await fails(again({ settings: { threads: -1 } }), 'E_CONFIG', /threads/);
  await fails(again({ rewards: [] }), 'E_CONFIG', /'lower' \(weight 0.5, ramp_steps 0\).*got none/s);
  await fails(again({ rewards: [{ ...lowerCase, weight: 2 }] }), 'E_CONFIG', /weight 2/);
  await fails(again({ outputDir: undefined }), 'E_CONFIG', /outputDir/);
  const command = await runCli(['train', '--resume', '--output-dir', left]);
  assert.is(command.code, 2, command.stderr);
  assert.match(command.stderr, /a script began the run with: 'lower'.*train\(\{ resume: true/s);
});

test('device says what computes, and the manifest has it', async () => {
  const outputDir = join(scratch, 'device');
  const options = { config: 'tiny', settings: quick, outputDir };
  await fails(() => train({ ...options, device: 'gpu' }).result, 'E_CONFIG', /device/);
  const before = process.env.VOICEGRPO_CUDA_ADDON;
  process.env.VOICEGRPO_CUDA_ADDON = join(scratch, 'no-addon.node');
  try {
    await fails(() => train({ ...options, device: 'cuda' }).result, 'E_DEVICE', /expected the CUDA addon/);
    await fails(() => train({ ...options, settings: { ...quick, device: 'cuda' } }).result, 'E_DEVICE', /CUDA addon/);
    assert.not.ok(existsSync(join(outputDir, 'config.json')));
    await train({ ...options, settings: { ...quick, device: 'cuda' }, device: 'cpu' }).result;
    await fails(() => train({ outputDir, resume: true, device: 'cuda:1' }).result, 'E_DEVICE', /CUDA addon/);
  } finally {
    if (before === undefined) delete process.env.VOICEGRPO_CUDA_ADDON;
    else process.env.VOICEGRPO_CUDA_ADDON = before;
  }
  const { manifest, loaded } = openRun(outputDir);
  assert.equal([manifest.device, loaded.config.device, loaded.origins.device], ['cpu', 'cpu', 'flag device']);
});

test.run();
