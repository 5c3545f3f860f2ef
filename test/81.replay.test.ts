/** Replay: one group of a run again, byte for byte, from a checkpoint or from the start; and what it says where it cannot be. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { compare } from '../src/run/replay.js';
import { runCli } from './cli.js';

const scratch = mkdtempSync(join(tmpdir(), 'voicegrpo-replay-test-'));
const env = { VOICEGRPO_CACHE: join(scratch, 'cache') };
const run = join(scratch, 'run');

const replay = async (path: string, step: number, prompt: number, more: string[] = []) => {
  const args = ['replay', path, '--step', String(step), '--prompt', String(prompt), '--json', ...more];
  const { code, stdout, stderr } = await runCli(args, env);
  return { code, stderr, result: stdout === '' ? null : JSON.parse(stdout) };
};

/** Every file of the run with its time and size. */
const state = () =>
  readdirSync(run, { recursive: true })
    .map(String)
    .sort()
    .map((name) => {
      const { size, mtimeMs } = statSync(join(run, name));
      return `${name} ${size} ${mtimeMs}`;
    });

interface Line {
  step: number;
  prompt: number;
  completion: string;
  reward: number;
  advantage: number;
}

test('a run to look at', async () => {
  const { code, stderr } = await runCli(
    [
      ...['train', '--config', 'tiny', '--output-dir', run, '--threads', '2', '--max-steps', '5', '--save-steps', '3'],
      ...['--prompts-per-step', '4', '--num-generations', '4', '--patience', '0', '--label-exploration', '1'],
      ...['--samples-per-dataset', '8', '--held-out-per-dataset', '2', '--use-text'],
    ],
    env,
  );
  assert.is(code, 0, stderr);
});

test('from a checkpoint: the bytes of completions.jsonl, with another number of threads, and the run is only read', async () => {
  const before = state();
  const { code, stderr, result } = await replay(run, 5, 2, ['--threads', '1']);
  assert.is(code, 0, stderr);
  assert.equal([result.exact, result.checkpoint, result.steps_repeated], [true, 'step-000003', 1]);
  assert.equal(state(), before);
  const lines = readFileSync(join(run, 'completions.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line)
    .filter((line) => line.step === 5 && line.prompt === 2);
  assert.is(result.answers.length, lines.length);
  assert.is(result.compared_lines, lines.length);
  for (const [i, line] of lines.entries()) {
    const answer = result.answers[i];
    assert.equal([answer.text, answer.reward, answer.advantage], [line.completion, line.reward, line.advantage]);
    assert.is(answer.rewards.at(-1).running, line.reward, 'the arithmetic ends at the reward');
    assert.ok(answer.rewards.every(({ reason }: { reason: unknown }) => typeof reason === 'string'));
    const joined = answer.tokens.map(({ text }: { text: string }) => text).join('');
    assert.ok(joined.startsWith(line.completion), `${joined} does not begin with ${line.completion}`);
    assert.ok(answer.tokens.every(({ log_prob }: { log_prob: number }) => log_prob <= 0 && Number.isFinite(log_prob)));
  }
  const probabilities = result.answers.flatMap(({ tokens }: { tokens: object[] }) => tokens);
  assert.ok(
    probabilities.some(({ log_prob, base_log_prob }: Record<string, number>) => log_prob !== base_log_prob),
    'after four updates the policy is not the base model',
  );
  const mean = lines.reduce((sum, { reward }) => sum + reward, 0) / lines.length;
  assert.ok(Math.abs(result.mean - mean) < 1e-12);
});

test('the first step, where labels are tried besides and the policy is still the base model', async () => {
  const { code, result, stderr } = await replay(run, 1, 0);
  assert.is(code, 0, stderr);
  assert.equal([result.exact, result.checkpoint, result.steps_repeated], [true, null, 0]);
  assert.equal(
    result.answers.map(({ sampled }: { sampled: boolean }) => sampled),
    [true, true, true, true, false, false, false],
  );
  for (const { tokens } of result.answers) {
    for (const { log_prob, base_log_prob } of tokens) {
      assert.ok(Math.abs(log_prob - base_log_prob) < 1e-4, `${log_prob} and ${base_log_prob}`);
    }
  }
});

test('without a checkpoint the steps before are repeated from the start', async () => {
  const copy = join(scratch, 'bare');
  cpSync(run, copy, { recursive: true });
  rmSync(join(copy, 'checkpoints'), { recursive: true });
  const { result } = await replay(copy, 4, 3);
  assert.equal([result.exact, result.checkpoint, result.steps_repeated], [true, null, 3]);
});

test('lines that differ are told with their fields, and the exit code is 1', async () => {
  const copy = join(scratch, 'changed');
  cpSync(run, copy, { recursive: true });
  const file = join(copy, 'completions.jsonl');
  const lines = readFileSync(file, 'utf8').split('\n');
  const at = lines.findIndex((line) => line.startsWith('{"step":4,"prompt":0,'));
  const entry = JSON.parse(lines[at] as string);
  lines[at] = JSON.stringify({ ...entry, reward: entry.reward + 1 });
  writeFileSync(file, lines.join('\n'));
  const { code, result } = await replay(copy, 4, 0);
  assert.is(code, 1);
  assert.equal([result.exact, result.differences], [false, ['answer 0: reward']]);
});

test('another kernel is said; another model is refused; a step or a prompt that is not there', async () => {
  const copy = join(scratch, 'elsewhere');
  cpSync(run, copy, { recursive: true });
  const file = join(copy, 'manifest.json');
  const manifest = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(file, JSON.stringify({ ...manifest, versions: { ...manifest.versions, cpu: 'other' } }));
  const other = await replay(copy, 4, 0);
  assert.match(other.stderr, 'It may not be exact: the run was made with the kernel other');
  assert.is(other.result.caveats.length, 1);

  writeFileSync(file, JSON.stringify({ ...manifest, sha256: { ...manifest.sha256, policy: '0'.repeat(64) } }));
  const refused = await replay(copy, 4, 0);
  assert.is(refused.code, 3);
  assert.match(refused.stderr, 'expected the model that the run was made with');

  const prompt = await replay(run, 4, 9);
  assert.is(prompt.code, 3);
  assert.match(prompt.stderr, 'expected a prompt from 0 to 3, got prompt 9');
  const step = await replay(run, 50, 0);
  assert.is(step.code, 3);
  assert.match(step.stderr, 'expected a step that generated answers');
});

test('as text: arithmetic with reasons, and tokens', async () => {
  const { stdout } = await runCli(['replay', run, '--step', '4'], env);
  assert.match(stdout, /Exact: \d+ lines are byte for byte those of completions\.jsonl\./);
  assert.match(stdout, / exact_match +[\d.]+ +3 +[\d.]+ +[\d.]+ +/);
  assert.match(stdout, 'log-probability');
});

test('comparison: nothing to compare with, and lines that are missing', () => {
  assert.equal(compare(null, ['{}']), { exact: null, lines: 0, differences: [] });
  assert.equal(compare(['{"a":1}'], ['{"a":1}', '{"a":2}']).differences, ['answer 1: no line']);
  assert.equal(compare(['{"a":1,"b":2}'], ['{"b":2,"a":1}']).differences, ['answer 0: the order of its fields']);
});

test.run();
