/** voicegrpo bench on the bundled policy: what is reported, not how fast it is. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openStepBench } from '../src/bench/step.js';
import { loadNative } from '../src/native/load.js';
import { BUNDLED_POLICY } from '../src/run/inputs.js';

const cli = fileURLToPath(new URL('../src/cli.ts', import.meta.url));
const bench = (...args: string[]) =>
  spawnSync(process.execPath, ['--import', 'tsx', cli, 'bench', ...args], { encoding: 'utf8' });

test('85.1 bench step reports every step, where the time went, the bound and the memory', () => {
  const shape = ['--prompts', '2', '--generations', '4', '--prompt-tokens', '20', '--completion-tokens', '6'];
  const { status, stdout, stderr } = bench(
    'step',
    ...shape,
    '--lora-r',
    '4',
    '--threads',
    '1',
    '--steps',
    '3',
    '--json',
  );
  assert.is(status, 0, stderr);
  const result = JSON.parse(stdout);
  assert.is(result.seconds_per_step.length, 3);
  assert.is(result.rss_bytes.length, 3);
  assert.is(result.median_seconds_per_step, result.seconds_per_step.toSorted((a: number, b: number) => a - b)[1]);
  const { total, within_passes, ...parts } = result.breakdown;
  assert.is(total, result.median_seconds_per_step);
  const sum = Object.values(parts as Record<string, number>).reduce((a, b) => a + b, 0);
  assert.ok(Math.abs(sum - total) < 1e-6, `the parts add up to ${sum}, the step took ${total}`);
  assert.is(parts.forward, 0, 'the rollout is the forward pass');
  for (const name of ['prefill', 'decode_body', 'decode_head', 'backward', 'optimizer']) {
    assert.ok(parts[name] > 0, name);
  }
  assert.ok(within_passes.linear > 0 && within_passes.lora > 0 && within_passes.attention > 0);
  assert.ok(Math.abs(result.bound_seconds - result.flops / result.peak_gflops / 1e9) < 1e-12);
  assert.ok(result.peak_rss_bytes >= Math.max(...result.rss_bytes));
});

test('85.2 the products counted are those of one step', async () => {
  const shape = { prompts: 2, generations: 3, promptTokens: 10, completionTokens: 4, loraR: 2 };
  const step = await openStepBench({ model: BUNDLED_POLICY, type: 'auto', threads: 1, seed: 1, ...shape });
  const policy = await loadNative().openPolicy(BUNDLED_POLICY, { type: 'auto', threads: 1 });
  const { layers, width, vocab, linearParameters } = policy.info;
  policy.close();
  const tokens = 2 * (10 + 3 * 3);
  const headRows = 2 * (1 + 3 * 3);
  const { flops } = step;
  step.close();
  // forward and backward of W, logits and their expectation; the rest is LoRA, small and a multiple of r·layers
  const rest = flops / 2 - 2 * linearParameters * tokens - 2 * vocab * width * headRows;
  assert.ok(rest > 0 && rest % (3 * tokens * 2 * layers) === 0, String(rest));
});

test('85.3 a group of one is compared with the other prompts, so that it has a gradient', () => {
  const shape = ['--prompts', '3', '--generations', '1', '--prompt-tokens', '8', '--completion-tokens', '4'];
  const { status, stdout, stderr } = bench('step', ...shape, '--threads', '1', '--steps', '1', '--json');
  assert.is(status, 0, stderr);
  assert.ok(JSON.parse(stdout).breakdown.backward > 0);
});

test('85.4 bench ops names type, shape, rate and share of the peak', () => {
  const { status, stdout, stderr } = bench('ops', '--type', 'q8_0', '--threads', '1', '--json');
  assert.is(status, 0, stderr);
  const rows = JSON.parse(stdout) as { type: string; direction: string; gflops: number; share_of_peak: number }[];
  assert.is(rows.length, 30);
  assert.ok(rows.every(({ type }) => type === 'q8_0'));
  assert.is(rows.filter(({ direction }) => direction === 'backward').length, 15);
  assert.ok(rows.every(({ gflops, share_of_peak }) => gflops > 0 && share_of_peak > 0 && share_of_peak <= 1));
});

test('85.5 wrong options are told in a line', () => {
  for (const [args, message] of [
    [['step', '--prompts', '0'], /--prompts/],
    [['step', '--type', 'f64'], /--type/],
    [['ops', '--threads', 'two'], /--threads/],
    [['step', '--model', 'missing.gguf'], /missing\.gguf/],
  ] as const) {
    const { status, stderr } = bench(...args);
    assert.is.not(status, 0);
    assert.match(stderr, message);
    assert.ok(!stderr.includes('    at '), 'no stack');
  }
});

test.run();
