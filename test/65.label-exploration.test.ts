import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { tryEveryLabel } from '../src/pipeline/rollout.js';
import { StepMetrics, samplingGapMetrics } from '../src/run/metrics.js';
import type { Group } from '../src/types.js';

const LABELS = ['north', 'south'];
const answerTokens = (label: string) => Int32Array.from(label === 'north' ? [5, 1] : [6, 7, 1]);
const group = (text: string): Group => ({
  prompt: {
    clip: { id: text, file: '', label: 'north', transcript: text },
    key: 1,
    text,
    tokens: Int32Array.of(2),
    truncated: false,
  },
  rollouts: [{ text, tokens: Int32Array.of(9, 1), logProbs: Float32Array.of(-1, -2), truncated: false }],
});

test('every group gets every label once, after its samples, and keeps the samples', () => {
  const groups = tryEveryLabel([group('a'), group('b')], LABELS, answerTokens, 8);
  assert.equal(
    groups.map(({ rollouts }) => rollouts.map(({ text }) => text)),
    [
      ['a', 'north', 'south'],
      ['b', 'north', 'south'],
    ],
  );
  assert.equal(Array.from(groups[0]?.rollouts[2]?.tokens ?? []), [6, 7, 1]);
  assert.is(groups[0]?.rollouts[0]?.logProbs?.length, 2);
  assert.is(groups[0]?.rollouts[1]?.logProbs, null, 'a tried answer has no probability of sampling');
});

test('a label longer than the limit is cut and marked as truncated', () => {
  const [only] = tryEveryLabel([group('a')], LABELS, answerTokens, 2);
  assert.equal(
    only?.rollouts.map(({ tokens, truncated }) => [tokens.length, truncated]),
    [
      [2, false],
      [2, false],
      [2, true],
    ],
  );
});

test('tried answers do not enter the gap between sampling and training', () => {
  const metrics = new StepMetrics();
  samplingGapMetrics(metrics, [Float32Array.of(-1), null], [Float32Array.of(-1.5), Float32Array.of(-9)]);
  const stats = JSON.stringify(metrics.result());
  assert.match(stats, /"sampling\/sampling_logp_difference\/max":0\.5/);
});

test.run();
