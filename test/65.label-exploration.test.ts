import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadNative } from '../src/native/load.js';
import { everyLabel, sampleGroups } from '../src/pipeline/rollout.js';
import { BUNDLED_POLICY } from '../src/run/inputs.js';
import { StepMetrics, samplingGapMetrics } from '../src/run/metrics.js';

const LABELS = ['north', 'south'];
const answerTokens = (label: string) => Int32Array.from(label === 'north' ? [5, 1] : [6, 7, 1]);

test('every label is an answer once, as the policy would give it', () => {
  const tried = everyLabel(LABELS, answerTokens, 8);
  assert.equal(
    tried.map(({ text }) => text),
    ['north', 'south'],
  );
  assert.equal(Array.from(tried[1]?.tokens ?? []), [6, 7, 1]);
  assert.is(tried[0]?.logProbs, null, 'a tried answer has no probability of sampling');
});

test('a label longer than the limit is cut and marked as truncated', () => {
  assert.equal(
    everyLabel(LABELS, answerTokens, 2).map(({ tokens, truncated }) => [tokens.length, truncated]),
    [
      [2, false],
      [2, true],
    ],
  );
});

test('every group gets the tried answers after its samples, and keeps the samples', async () => {
  const policy = await loadNative().openPolicy(BUNDLED_POLICY, { type: 'auto', threads: 1 });
  const adapter = policy.createAdapter({ rank: 2, alpha: 4, targetModules: ['q_proj'], seed: 1 });
  const prompts = ['a', 'b'].map((text, key) => ({
    clip: { id: text, file: '', label: 'north', transcript: text },
    key,
    text,
    tokens: Int32Array.of(2, 30 + key),
    truncated: false,
  }));
  const sampling = {
    numGenerations: 3,
    maxCompletionLength: 8,
    temperature: 1,
    topK: 0,
    topP: 1,
    seed: 1,
    step: 1,
  };
  const stops = { stopTokens: Int32Array.of(1), stopStrings: [] };
  const plain = await sampleGroups(policy, adapter, prompts, stops, sampling);
  const tried = everyLabel(LABELS, answerTokens, 8);
  const { groups } = await sampleGroups(policy, adapter, prompts, stops, { ...sampling, tried, keep: true });
  for (const [b, { rollouts }] of groups.entries()) {
    assert.equal(rollouts.slice(3), tried);
    assert.equal(
      rollouts.slice(0, 3).map(({ text, tokens }) => [text, ...tokens]),
      plain.groups[b]?.rollouts.map(({ text, tokens }) => [text, ...tokens]),
    );
  }
  adapter.close();
  policy.close();
});

test('tried answers do not enter the gap between sampling and training', () => {
  const metrics = new StepMetrics();
  samplingGapMetrics(metrics, [Float32Array.of(-1), null], [Float32Array.of(-1.5), Float32Array.of(-9)]);
  const stats = JSON.stringify(metrics.result());
  assert.match(stats, /"sampling\/sampling_logp_difference\/max":0\.5/);
});

test.run();
