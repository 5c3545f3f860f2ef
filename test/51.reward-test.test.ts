/** Canned answers, the arithmetic of a reward with its reasons, and `voicegrpo rewards test`. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadConfig } from '../src/config/load.js';
import { rewardParts } from '../src/rewards/arithmetic.js';
import { cannedAnswers } from '../src/rewards/canned.js';
import { mentionedLabels, REWARD_REASONS, type RewardInput, words } from '../src/rewards/index.js';
import { loadRewards, score } from '../src/rewards/weighted.js';
import { runCli } from './cli.js';

const scratch = mkdtempSync(join(tmpdir(), 'voicegrpo-rewards-'));
const LABELS = ['commoneval', 'ifeval', 'wildvoice'];

function input(completion: string, more: Partial<RewardInput> = {}): RewardInput {
  return {
    completion,
    label: 'ifeval',
    labels: LABELS,
    transcript: 'Name three rivers.',
    prompt: '',
    labelShares: { commoneval: 0.5, ifeval: 0.25, wildvoice: 0.25 },
    recentPredictions: [],
    ...more,
  };
}

test('canned answers are what they are called, for labels of any kind', () => {
  for (const labels of [LABELS, ['a', 'b'], ['order status', 'übrige', '日本']]) {
    for (const label of labels) {
      const canned = cannedAnswers(label, labels, 'Name three rivers.');
      assert.is(new Set(canned.map(({ name }) => name)).size, canned.length, 'names differ');
      for (const { name, answer, verdict } of canned) {
        const mentioned = mentionedLabels(answer, labels);
        const exact = answer.trim().toLowerCase() === label.toLowerCase();
        assert.is(exact, verdict === 'right' || (label.length === 1 && name === 'part of the label'), name);
        if (verdict === 'partly') {
          assert.ok(mentioned.includes(label) && !exact, `${name}: ${answer}`);
        }
      }
      const all = canned.find(({ name }) => name === 'all labels named');
      assert.equal(mentionedLabels(all?.answer ?? '', labels), labels);
      assert.ok(words(canned.find(({ name }) => name.startsWith('long'))?.answer ?? '').length > 30);
    }
  }
});

test('the arithmetic adds up to the very bits that the loop computes, ramps included', async () => {
  const { config } = loadConfig('tiny', [
    { flag: '', path: 'rewards.confidence.weight', value: 0.1 },
    { flag: '', path: 'rewards.confidence.ramp_steps', value: 7 },
  ]);
  const rewards = await loadRewards(config.rewards);
  const inputs = cannedAnswers('ifeval', LABELS, 'Name three rivers.').map(({ answer }) =>
    input(answer, { recentPredictions: ['ifeval', 'commoneval', 'ifeval'] }),
  );
  for (const step of [1, 3, Number.POSITIVE_INFINITY]) {
    const { values, totals } = await score(rewards, inputs, step);
    for (const [n, each] of inputs.entries()) {
      const parts = rewardParts(rewards, each, (name) => values[name]?.[n] as number, step);
      assert.is(parts.at(-1)?.running, totals[n]);
      assert.is(parts.find(({ name }) => name === 'confidence')?.weight, 0.1 * Math.min(1, step / 7));
      assert.ok(parts.every(({ value, weight, product }) => product === weight * value));
    }
  }
});

test('reasons say which phrases, how many words, and which labels', () => {
  const reason = (name: keyof typeof REWARD_REASONS, completion: string, more: Partial<RewardInput> = {}) =>
    REWARD_REASONS[name](input(completion, more));
  assert.is(reason('confidence', 'I  THINK it is maybe ifeval'), "2 hedging phrases: 'maybe' and 'i think'");
  assert.is(reason('confidence', 'perhaps'), "1 hedging phrase: 'perhaps'");
  assert.is(reason('confidence', 'ifeval'), 'no hedging phrase');
  assert.is(reason('confidence', ' \n'), 'an empty answer');
  assert.is(reason('length_penalty', 'it is ifeval'), '3 words');
  assert.is(reason('length_penalty', 'ifeval'), '1 word');
  assert.is(reason('length_penalty', ''), 'an empty answer');
  assert.is(reason('exact_match', ' IFEVAL'), "the answer is the target 'ifeval'");
  assert.match(reason('exact_match', 'ifeval or commoneval'), "names 'commoneval' and 'ifeval'");
  assert.is(reason('exact_match', 'so wildvoice'), "names 'wildvoice'; the target is 'ifeval'");
  assert.match(reason('exact_match', 'so ifeval'), 'but the answer is longer');
  assert.is(reason('exact_match', 'banana'), 'no label stands in the answer');
  assert.is(reason('format_compliance', 'Wildvoice'), "the answer is the label 'wildvoice'");
  assert.is(reason('format_compliance', 'so wildvoice'), "'wildvoice' among 2 words");
  assert.is(reason('format_compliance', 'a b c d e f g h i j k'), '11 words without a label, more than 10');
  assert.is(reason('dataset_balance', 'ifeval'), 'nothing was predicted yet');
  assert.is(
    reason('dataset_balance', 'ifeval', { recentPredictions: ['ifeval', 'ifeval', 'wildvoice'] }),
    "'ifeval' is 25.0% of the clips and 66.7% of the last 3 predictions",
  );
  assert.match(reason('dataset_balance', 'ifeval, wildvoice'), 'so it predicts none');
});

test("a reward of the user's that has a built-in one's name is not explained as that", () => {
  const own = { name: 'confidence', weight: 1, rampSteps: 0, reward: () => 0.25, file: null };
  assert.is(rewardParts([own], input('maybe'), () => 0.25, 1)[0]?.reason, null);
});

test('rewards test: a table of weighted values; the right label earns most', async () => {
  const { code, stdout, stderr } = await runCli(['rewards', 'test', '--config', 'tiny']);
  assert.is(code, 0, stderr);
  assert.match(stdout, /right +right label +"commoneval" +3\.00 +2\.00 +1\.00 +0\.00 +0\.50 +6\.50\n/);
  assert.match(stdout, /wrong +all labels named .* 2\.40\n/);
  assert.match(stdout, 'No wrong answer earns as much');
});

test('rewards test --json: a given answer, its parts and reasons, weights from flags', async () => {
  const { code, stdout, stderr } = await runCli([
    ...['rewards', 'test', '--config', 'tiny', '--json', '--label', 'ifeval', '--answer', 'Maybe ifeval'],
    ...['--confidence-weight', '4', '--length-penalty-weight', '0', '--recent', 'ifeval'],
  ]);
  assert.is(code, 0, stderr);
  const { answers, label, labels, paid } = JSON.parse(stdout);
  assert.equal([label, labels, paid], ['ifeval', LABELS, []]);
  const [given] = answers;
  assert.equal([given.name, given.answer, given.verdict], ['given', 'Maybe ifeval', null]);
  assert.is(given.reward, 3 * 0.5 + 2 * 0.5 + 4 * 0.5 + 0.5 * -1);
  assert.equal(
    given.rewards.map((part: { name: string; product: number }) => [part.name, part.product]),
    [
      ['exact_match', 1.5],
      ['format_compliance', 1],
      ['confidence', 2],
      ['dataset_balance', -0.5],
    ],
  );
  assert.is(given.rewards[2].reason, "1 hedging phrase: 'maybe'");
});

test('rewards test: a module that pays for naming the label anywhere is caught, and its error named', async () => {
  const module = join(scratch, 'includes.mjs');
  writeFileSync(module, 'export default ({ completion, label }) => (completion.includes(label) ? 1 : 0);');
  const config = join(scratch, 'own.json');
  const off = Object.fromEntries(Object.keys(REWARD_REASONS).map((name) => [name, { weight: 0 }]));
  writeFileSync(config, JSON.stringify({ extends: 'tiny', rewards: { ...off, modules: [{ module, weight: 2 }] } }));
  const { code, stdout } = await runCli(['rewards', 'test', '--config', config]);
  assert.is(code, 1);
  assert.match(stdout, /these wrong answers as much or more: .*all labels named \(2\.00\)/);
  assert.match(stdout, 'includes ×2');

  writeFileSync(module, "export default () => 'high';");
  const broken = await runCli(['rewards', 'test', '--config', config]);
  assert.is(broken.code, 1);
  assert.match(broken.stderr, 'includes.mjs: expected a finite number, got string');
});

test('rewards test: a label that is none', async () => {
  const { code, stderr } = await runCli(['rewards', 'test', '--config', 'tiny', '--label', 'music']);
  assert.is(code, 2);
  assert.match(stderr, "--label: expected one of commoneval, ifeval, wildvoice, got 'music'");
});

test.run();
