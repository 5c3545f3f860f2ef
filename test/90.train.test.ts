/** The main job as a user runs it: clips to a tuned policy, then eval and classify; resume after a kill; refusals. */
import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { runCli } from './cli.js';

const scratch = mkdtempSync(join(tmpdir(), 'voicegrpo-train-'));

const voicegrpo = (args: string[], watch?: (child: ChildProcess, stderr: string) => void) =>
  runCli(args, { VOICEGRPO_CACHE: join(scratch, 'cache'), HF_HOME: join(scratch, 'hf') }, watch);

const train = (seed: number, out: string, more: string[] = []) => [
  ...['train', '--config', 'tiny', '--seed', String(seed), '--output-dir', out, '--json'],
  ...more,
];

/** metrics.jsonl without what a clock decides. */
function timeless(run: string): object[] {
  const lines = readFileSync(join(run, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
  return lines.map((line) =>
    Object.fromEntries(
      Object.entries(JSON.parse(line)).filter(([name]) => !name.startsWith('time/') && name !== 'step_time'),
    ),
  );
}

const first = join(scratch, 'seed-42');

for (const seed of [42, 1, 2]) {
  test(`tiny, seed ${seed}: held-out accuracy from at most 0.5 to at least 0.9 on at least 60 clips`, async () => {
    const out = join(scratch, `seed-${seed}`);
    const { code, stdout, stderr } = await voicegrpo(train(seed, out));
    assert.is(code, 0, stderr);
    const result = JSON.parse(stdout);
    assert.ok(result.before.accuracy <= 0.5, `before ${result.before.accuracy}`);
    assert.ok(result.after.accuracy >= 0.9, `after ${result.after.accuracy}`);
    for (const side of ['before', 'after']) {
      assert.ok(result[side].n >= 60);
      assert.type(result[side].macro_f1, 'number');
      assert.type(result[side].reward, 'number');
    }
    assert.is(result.run, out);
    assert.equal(result.suspect, { dropped: 0, held_out: 0 }, 'no bundled clip is suspect');
    assert.equal(JSON.parse(readFileSync(join(out, 'manifest.json'), 'utf8')).data.suspect, result.suspect);
    assert.type(result.steps, 'number');
    assert.type(result.stopped_early, 'boolean');
    assert.equal(Object.keys(result.seconds).sort(), ['eval', 'train', 'transcribe']);
    for (const file of [
      'config.json',
      'manifest.json',
      'metrics.jsonl',
      'completions.jsonl',
      'dataset.jsonl',
      'evaluation.json',
    ]) {
      assert.ok(existsSync(join(out, file)), file);
    }
    for (const adapter of ['best', 'last']) {
      assert.equal(readdirSync(join(out, adapter)).sort(), ['adapter_config.json', 'adapter_model.safetensors']);
    }
    assert.ok(readdirSync(join(out, 'checkpoints')).every((name) => /^step-\d{6}$/.test(name)));
  });
}

test('eval says what train said; the base model is what it was before', async () => {
  const { before, after } = JSON.parse(readFileSync(join(first, 'evaluation.json'), 'utf8'));
  const tuned = await voicegrpo(['eval', first, '--json']);
  assert.is(tuned.code, 0, tuned.stderr);
  const result = JSON.parse(tuned.stdout);
  assert.is(result.accuracy, after.accuracy);
  assert.equal(result.confusion, after.confusion);
  const base = JSON.parse((await voicegrpo(['eval', first, '--adapter', 'none', '--json'])).stdout);
  assert.is(base.accuracy, before.accuracy);
  assert.ok(Math.abs(base.reward - before.reward) < 1e-9);
});

test('eval --references: word errors of each label, and what they cost on the same clips', async () => {
  const { code, stdout, stderr } = await voicegrpo(['eval', first, '--references', '--json']);
  assert.is(code, 0, stderr);
  const { n, accuracy, macro_f1, suspect, references: cost } = JSON.parse(stdout);
  assert.equal([suspect, cost.without_text, cost.total.suspect], [0, 0, 0]);
  assert.equal(Object.keys(cost.labels).sort(), ['commoneval', 'ifeval', 'wildvoice']);
  const labels = Object.values<{ n: number; words: number; word_error_rate: number }>(cost.labels);
  assert.is(
    labels.reduce((sum, label) => sum + label.n, 0),
    n,
  );
  assert.is(
    labels.reduce((sum, label) => sum + label.words, 0),
    cost.total.words,
  );
  assert.ok(cost.total.words > 500 && cost.total.word_error_rate < 0.02, JSON.stringify(cost.total));
  assert.equal(cost.transcripts, { accuracy, macro_f1 });
  assert.ok(Math.abs(cost.cost.accuracy - (cost.lost - cost.gained) / n) < 1e-9, JSON.stringify(cost));
  const plain = await voicegrpo(['eval', first, '--references']);
  assert.match(
    plain.stdout,
    /label +clips +words +WER[\s\S]*all +72[\s\S]*recognition errors cost -?\d\.\d{3} of accuracy/,
  );
});

test('classify: audio and texts to labels with probabilities; a missing file does not stop the others', async () => {
  const held = readFileSync(join(first, 'dataset.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
    .filter(({ side }) => side === 'held_out');
  const picked = ['ifeval', 'commoneval', 'wildvoice'].map((label) => held.find((clip) => clip.label === label));
  const files = picked.map(({ file }) => file);
  const { code, stdout } = await voicegrpo([
    'classify',
    first,
    ...files,
    '/no/such.wav',
    '--text',
    'What is the capital of France?',
    '--json',
  ]);
  assert.is(code, 1);
  const results = JSON.parse(stdout);
  assert.is(results.length, 5);
  assert.ok(
    results.slice(0, 3).filter((entry: { label: string }, i: number) => entry.label === picked[i].label).length >= 2,
  );
  for (const entry of [...results.slice(0, 3), results[4]]) {
    const total = Object.values<number>(entry.probabilities).reduce((sum, value) => sum + value, 0);
    assert.ok(Math.abs(total - 1) < 1e-9);
    assert.is(entry.probability, Math.max(...Object.values<number>(entry.probabilities)));
  }
  assert.is(results[3].file, '/no/such.wav');
  assert.match(results[3].error, 'no such file');
  const plain = await voicegrpo(['classify', first, '/no/such.wav', '--text', 'What is the capital of France?']);
  assert.is(plain.code, 1);
  assert.is(plain.stderr.split('/no/such.wav').length, 2, `the file is named once:\n${plain.stderr}`);
});

test('a run that is killed goes on by --resume to the same bytes', async () => {
  const out = join(scratch, 'killed');
  const killed = await voicegrpo(train(42, out), (child, stderr) => {
    if (/^step 14\//m.test(stderr)) {
      child.kill('SIGKILL');
    }
  });
  assert.is(killed.code, null);
  assert.not(existsSync(join(out, 'evaluation.json')));
  const resumed = await voicegrpo(train(42, out, ['--resume']));
  assert.is(resumed.code, 0, resumed.stderr);
  assert.match(resumed.stderr, 'Resumed after step 10');
  assert.equal(timeless(out), timeless(first));
  for (const file of [
    'best/adapter_model.safetensors',
    'last/adapter_model.safetensors',
    'completions.jsonl',
    'evaluation.json',
  ]) {
    assert.ok(readFileSync(join(out, file)).equals(readFileSync(join(first, file))), file);
  }
});

test('Ctrl-C finishes the step, saves, says how to go on, and exits with 130', async () => {
  const out = join(scratch, 'interrupted');
  let sent = false;
  const { code, stdout, stderr } = await voicegrpo(train(42, out), (child, text) => {
    if (!sent && /^step 3\//m.test(text)) {
      sent = true;
      child.kill('SIGINT');
    }
  });
  assert.is(code, 130, stderr);
  assert.match(stderr, `--resume --output-dir ${out}`);
  assert.is(JSON.parse(stdout).after, null);
  assert.is(readdirSync(join(out, 'checkpoints')).length, 1);
  const other = await voicegrpo(train(43, out, ['--resume']));
  assert.is(other.code, 2);
  assert.match(other.stderr, 'others for seed');
});

test('refusals: exit code, one sentence, no stack, nothing written', async () => {
  const fresh = join(scratch, 'fresh');
  const cases: [string[], number, RegExp][] = [
    [train(1, first), 2, /which has files in it/],
    [
      ['train', '--config', 'small', '--offline', '--output-dir', fresh],
      1,
      /gemma-3-270m-it: expected it on this machine/,
    ],
    [
      train(1, fresh, ['--learning-rate', 'much', '--num-generations', '1']),
      2,
      /2 problems[\s\S]*num_generations[\s\S]*learning_rate/,
    ],
    [train(1, fresh, ['--datasets', 'ifeval', 'poetry']), 3, /'poetry'/],
    [train(1, fresh, ['--datasets', 'ifeval']), 3, /at least two labels/],
    [train(1, fresh, ['--samples-per-dataset', '5000']), 3, /--samples-per-dataset \d+/],
    [train(1, fresh, ['--model', 'absent.gguf']), 3, /absent\.gguf/],
    [train(1, fresh, ['--model', 'package.json']), 3, /package\.json/],
    [train(1, '/proc/run'), 2, /cannot be written/],
    [train(1, fresh, ['stray']), 2, /'stray'/],
    [['train', '--num-generation', '4'], 2, /'--num-generation': did you mean '--num-generations'\?/],
    [['train', '--zzzzzzzzzzz'], 2, /'--zzzzzzzzzzz'\.\n.*--help/],
    [['train', '--seed'], 2, /--seed/],
    [['trian'], 2, /did you mean 'train'\?/],
    [['eval'], 2, /positional/],
    [['eval', fresh], 3, /expected a run folder/],
    [['classify', first], 2, /--text/],
    [
      ['eval', first, '--references', '--data', 'assets/clips', '--use-text'],
      2,
      /expected transcripts[\s\S]*--no-use-text/,
    ],
  ];
  for (const [args, exitCode, pattern] of cases) {
    const { code, stdout, stderr } = await voicegrpo(args);
    assert.is(code, exitCode, `${args.join(' ')}: ${stderr}`);
    assert.is(stdout, '');
    assert.match(stderr, pattern, args.join(' '));
    assert.not.match(stderr, /^\s+at .*:\d+/m, 'a stack');
    assert.not(existsSync(fresh), `${args.join(' ')} left a folder`);
  }
});

test.run();
