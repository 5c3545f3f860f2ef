/** Reward lint: figures by hand, each finding where it belongs and nowhere else, and the command on the bundled policy. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadConfig } from '../src/config/load.js';
import type { Finding } from '../src/lint/findings.js';
import { lintRewards, type SampledGroup } from '../src/lint/lint.js';
import { measureGroups } from '../src/lint/measures.js';
import { BUILT_IN_REWARDS, type Reward } from '../src/rewards/index.js';
import { loadRewards, type WeightedReward } from '../src/rewards/weighted.js';
import { runCli } from './cli.js';

const scratch = mkdtempSync(join(tmpdir(), 'voicegrpo-lint-'));
const LABELS = ['alpha', 'beta', 'gamma'];
const SHARES = { alpha: 1 / 3, beta: 1 / 3, gamma: 1 / 3 };

const close = (actual: number | null, expected: number, what: string) =>
  assert.ok(actual !== null && Math.abs(actual - expected) < 1e-12, `${what}: ${actual}, expected ${expected}`);

test('measures by hand: variance within groups, correlation, shares of the advantage that add up to 1', () => {
  // Two groups of two. Centred: a ±0.5, 0; b ±1, ±1 with opposite signs. Weighted total: ±(1 − 1) … by hand below.
  const measures = measureGroups({
    size: 2,
    rewards: [
      { name: 'a', weight: 2, values: [1, 0, 5, 5] },
      { name: 'b', weight: 1, values: [0, 2, 1, -1] },
    ],
    correct: [true, false, true, false],
  });
  const [a, b] = measures.rewards;
  close(a?.mean ?? null, 11 / 4, 'mean');
  close(a?.varianceWithin ?? null, (0.5 + 0) / 2, 'variance of a within'); // 0.5² + 0.5² over G − 1, mean of two groups
  close(b?.varianceWithin ?? null, 2, 'variance of b within');
  close(a?.varies ?? null, 0.5, 'a varies in');
  close(b?.varies ?? null, 1, 'b varies in');
  // a: [.5, −.5, 0, 0], b: [−1, 1, 1, −1]: dot −1, norms √.5 and 2.
  close(a?.correlations.b ?? null, -1 / (Math.sqrt(0.5) * 2), 'correlation');
  close(b?.correlations.a ?? null, a?.correlations.b as number, 'symmetric');
  // right: [.5, −.5, .5, −.5]
  close(a?.correctness ?? null, 0.5 / (Math.sqrt(0.5) * 1), 'a with being right');
  close(b?.correctness ?? null, 0, 'b with being right');
  // total: 2a + b = [0, 0, 1, −1]; var 2; cov(2a, total) = 0; cov(b, total) = 2.
  close(a?.advantageShare ?? null, 0, 'share of a');
  close(b?.advantageShare ?? null, 1, 'share of b');
  assert.is(measures.dead, 1, 'the first group has equal totals');
  assert.is(measures.deadShare.value, 0.5);
  assert.ok(measures.deadShare.low > 0.05 && measures.deadShare.low < 0.5 && measures.deadShare.high < 0.95);
  assert.is(measures.accuracy, 0.5);
});

test('where nothing varies there is no correlation and no share', () => {
  const { rewards, dead } = measureGroups({
    size: 2,
    rewards: [{ name: 'a', weight: 1, values: [0.1, 0.1, 0.7, 0.7] }],
    correct: [true, true, false, false],
  });
  assert.is(dead, 2);
  assert.equal([rewards[0]?.advantageShare, rewards[0]?.correctness, rewards[0]?.varies], [null, null, 0]);
});

/** Groups of a policy that is right in 3 of 8, over all labels. */
function sampled(answersOf?: (label: string) => string[]): SampledGroup[] {
  return Array.from({ length: 12 }, (_, b) => {
    const label = LABELS[b % 3] as string;
    const [next, last] = [LABELS[(b + 1) % 3] as string, LABELS[(b + 2) % 3] as string];
    const transcript = `Request number ${b} about the weather in the mountains`;
    const clip = { id: String(b), file: '', label, transcript };
    const answers = [label, label, label, next, next, last, `it is ${label}`, 'maybe'];
    return { clip, prompt: `${transcript}\n`, answers: answersOf?.(label) ?? answers };
  });
}

const weighted = (rewards: Record<string, [number, Reward]>): WeightedReward[] =>
  Object.entries(rewards).map(([name, [weight, reward]]) => ({ name, weight, rampSteps: 0, reward, file: null }));

const { exact_match: exact, format_compliance: format, dataset_balance: balance } = BUILT_IN_REWARDS;

async function lint(
  rewards: Record<string, [number, Reward]>,
  options: { groups?: SampledGroup[]; tried?: boolean } = {},
): Promise<Finding[]> {
  const task = { labels: LABELS, labelShares: SHARES, tried: options.tried ?? false };
  return (await lintRewards(options.groups ?? sampled(), weighted(rewards), task)).findings;
}

const kinds = (findings: readonly Finding[]) =>
  findings.map(({ severity, kind, reward }) => `${severity} ${kind} ${reward ?? '–'}`);

const has = (findings: readonly Finding[], line: string) =>
  assert.ok(kinds(findings).includes(line), `${line} is missing among: ${kinds(findings).join('; ') || 'nothing'}`);

test('the built-in rewards with their weights have no fault', async () => {
  const rewards = await loadRewards(loadConfig('tiny').config.rewards);
  const { findings } = await lintRewards(sampled(), rewards, { labels: LABELS, labelShares: SHARES, tried: false });
  // Every label is predicted equally often here, so the balance reward is 0 in the samples: a note, no fault.
  assert.equal(kinds(findings), ['note silent dataset_balance']);
});

test('a constant reward', async () => {
  const findings = await lint({ exact: [1, exact], format: [1, format], fixed: [1, () => 0.5] });
  assert.equal(
    kinds(findings).filter((line) => line.includes('fixed')),
    ['warning constant fixed'],
  );
  assert.match(findings.find(({ kind }) => kind === 'constant')?.text ?? '', 'teaches nothing');
});

test('a balance reward that is one constant for each group', async () => {
  const flat: Reward = ({ label, recentPredictions }) =>
    1 - (3 * recentPredictions.filter((other) => other === label).length) / recentPredictions.length;
  const groups = sampled().filter(({ clip }) => clip.label !== 'gamma'); // so that the predictions are not even
  has(await lint({ exact: [1, exact], balance: [1, flat] }, { groups }), 'warning cancels balance');
  const sound = await lint({ exact: [1, exact], balance: [1, balance] }, { groups });
  assert.not.ok(
    kinds(sound).some((line) => /cancels|constant/.test(line)),
    kinds(sound).join('; '),
  );
});

test('a reward that did not vary in the samples is only a note', async () => {
  const shouting: Reward = ({ completion }) => (completion !== '' && completion === completion.toUpperCase() ? -1 : 0);
  const findings = await lint({ exact: [1, exact], format: [1, format], shouting: [1, shouting] });
  assert.equal(
    kinds(findings).filter((line) => line.includes('shouting')),
    ['note silent shouting'],
  );
});

test('an inverted reward, by its value or by its weight, and the sum that it turns', async () => {
  const inverted: Reward = ({ completion, label }) => (completion === label ? 0 : 1);
  const findings = await lint({ exact: [1, exact], inverted: [3, inverted] });
  has(findings, 'error inverted inverted');
  has(findings, 'error inverted –');
  has(await lint({ exact: [-1, exact], format: [1, format] }), 'error inverted exact');
  has(await lint({ exact: [3, exact], inverted: [0.1, inverted] }), 'error inverted inverted');
  assert.not.ok(kinds(await lint({ exact: [3, exact], inverted: [0.1, inverted] })).includes('error inverted –'));
});

test('a reward that goes against being right in the samples alone', async () => {
  const longer: Reward = ({ completion }) => Math.min(1, completion.length / 20);
  const answers = (label: string) => [label, label, ...LABELS.map((other) => `surely this is ${other} or not`)];
  has(await lint({ exact: [1, exact], longer: [1, longer] }, { groups: sampled(answers) }), 'warning against longer');
});

test('gameable rewards: naming all labels, empty answers, long answers, the prompt', async () => {
  const including: Reward = ({ completion, label }) => (completion.includes(label) ? 0.5 : 0);
  const all = await lint({ exact: [3, exact], including: [1, including] });
  has(all, 'warning gameable including');
  assert.match(all.find(({ kind }) => kind === 'gameable')?.text ?? '', 'naming all labels');
  assert.not.ok(kinds(all).includes('error gameable –'), 'the sum still pays honest answers more');

  const short: Reward = ({ completion }) => 1 - Math.min(1, completion.length / 10);
  const empty = await lint({ exact: [3, exact], short: [1, short] });
  assert.ok(empty.some(({ kind, text }) => kind === 'gameable' && text.includes('empty answers')));

  const long: Reward = ({ completion }) => Math.min(1, completion.length / 100);
  const gamed = await lint({ exact: [0.5, exact], long: [2, long] });
  has(gamed, 'warning gameable long');
  has(gamed, 'error gameable –');
  assert.ok(gamed.some(({ text }) => text.startsWith('The weighted sum can be gamed by long answers')));

  const echo: Reward = ({ completion, transcript }) => (completion.includes(transcript) ? 1 : 0);
  assert.ok(
    (await lint({ exact: [3, exact], echo: [1, echo] })).some(({ text }) => text.includes('repeating the prompt')),
  );
});

test('one reward that dominates: a warning, or a note where it is what is meant', async () => {
  const words: Reward = ({ completion }) => (completion.includes(' ') ? 0 : 1);
  has(await lint({ exact: [0.1, exact], words: [10, words] }), 'warning dominates words');
  has(await lint({ exact: [10, exact], words: [0.1, words] }), 'note dominates exact');
  const even = await lint({ exact: [1, exact], words: [1, words] });
  assert.not.ok(
    kinds(even).some((line) => line.includes('dominates')),
    kinds(even).join('; '),
  );
});

test('two rewards that say the same', async () => {
  has(await lint({ exact: [1, exact], again: [1, exact], format: [1, format] }), 'note redundant exact');
});

test('values out of range, and a reward that is no function of its input', async () => {
  const scale: Reward = (input) => 5 * exact(input);
  has(await lint({ scale: [1, scale], format: [1, format] }), 'warning range scale');
  let calls = 0;
  const counting: Reward = () => (calls++ % 7) / 7;
  has(await lint({ exact: [3, exact], counting: [1, counting] }), 'warning impure counting');
});

test('dead groups, and what the tried labels save', async () => {
  const same = sampled(() => Array(8).fill('alpha'));
  const findings = await lint({ exact: [1, exact], format: [1, format] }, { groups: same });
  has(findings, 'error dead_groups –');
  const saved = await lint({ exact: [1, exact], format: [1, format] }, { groups: same, tried: true });
  assert.not.ok(kinds(saved).includes('error dead_groups –'));
  has(saved, 'note dead_groups –');
  const mostly = sampled().map((group, b) => (b < 10 ? { ...group, answers: Array(8).fill('alpha') } : group));
  has(await lint({ exact: [1, exact], format: [1, format] }, { groups: mostly }), 'warning dead_groups –');
});

test('never right', async () => {
  const groups = sampled(() => ['yes', 'no', 'maybe so', 'a b c d e f g h i j k l']);
  has(await lint({ exact: [1, exact], format: [1, format] }, { groups }), 'warning never_right –');
});

test('rewards lint on the bundled policy: a table, exit codes by severity, JSON', async () => {
  const env = { VOICEGRPO_CACHE: join(scratch, 'cache') };
  const sound = await runCli(['rewards', 'lint', '--config', 'tiny', '--threads', '2'], env);
  assert.is(sound.code, 0, sound.stdout + sound.stderr);
  assert.match(sound.stdout, /^24 groups of 8 answers by voicegrpo tiny policy at temperature 1: \d+% right/);
  assert.match(sound.stdout, /exact_match +3 +0\.\d{3} +0\.\d{4} +\d+% +0\.\d\d +\d+%\n/);
  assert.match(sound.stdout, 'Nothing found.');

  const module = join(scratch, 'long.mjs');
  writeFileSync(module, 'export default ({ completion }) => Math.min(1, completion.length / 60);');
  const config = join(scratch, 'long.json');
  const loadable = { extends: 'tiny', rewards: { modules: [{ module, weight: 12 }] } };
  writeFileSync(config, JSON.stringify(loadable));
  const gamed = await runCli(['rewards', 'lint', '--config', config, '--groups', '6', '--json'], env);
  assert.is(gamed.code, 1, gamed.stderr);
  const report = JSON.parse(gamed.stdout);
  assert.is(report.groups, 6);
  assert.ok(report.findings.some(({ severity }: Finding) => severity === 'error'));
  const shares = report.rewards.map((reward: { advantage_share: number }) => reward.advantage_share);
  close(
    shares.reduce((sum: number, share: number) => sum + share, 0),
    1,
    'shares',
  );
  assert.type(report.frac_reward_zero_std.value, 'number');

  writeFileSync(config, JSON.stringify({ ...loadable, rewards: { modules: [{ module, weight: 0.5 }] } }));
  const warned = await runCli(['rewards', 'lint', '--config', config, '--groups', '6'], env);
  assert.match(warned.stdout, /warning/);
  assert.is(warned.code, 0, warned.stdout);
});

test.run();
