/** Rewards: the table of the design, and the traps that its predecessor fell into. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadConfig } from '../src/config/load.js';
import {
  answeredLabel,
  confidence,
  datasetBalance,
  exactMatch,
  formatCompliance,
  HEDGES,
  lengthPenalty,
  mentionedLabels,
  type RewardInput,
} from '../src/rewards/index.js';
import { loadRewards, score } from '../src/rewards/weighted.js';

const labels = ['ifeval', 'commoneval', 'wildvoice'];
const labelShares = { ifeval: 1 / 3, commoneval: 1 / 3, wildvoice: 1 / 3 };

function input(completion: string, more: Partial<RewardInput> = {}): RewardInput {
  return {
    completion,
    label: 'ifeval',
    labels,
    transcript: 'hello',
    prompt: '',
    labelShares,
    recentPredictions: [],
    ...more,
  };
}

test('exact_match', () => {
  const cases: [string, number][] = [
    ['ifeval', 1],
    ['  IfEval\n', 1],
    ['the dataset is ifeval', 0.5],
    ['ifeval.', 0.5],
    ['wildvoice', 0],
    ['ifeval or wildvoice', 0],
    ['ifeval commoneval wildvoice', 0],
    ['xifevaly', 0],
    ['', 0],
  ];
  for (const [completion, value] of cases) {
    assert.is(exactMatch(input(completion)), value, JSON.stringify(completion));
  }
});

test('format_compliance', () => {
  const cases: [string, number][] = [
    ['wildvoice', 1],
    [' COMMONEVAL ', 1],
    ['it is wildvoice', 0.5],
    ['no idea', 0],
    ['', 0],
    ['one two three four five six seven eight nine ten', 0],
    ['one two three four five six seven eight nine ten eleven', -0.25],
    ['one two three four five six seven eight nine ten eleven ifeval', 0.5],
  ];
  for (const [completion, value] of cases) {
    assert.is(formatCompliance(input(completion)), value, JSON.stringify(completion));
  }
});

test('confidence', () => {
  assert.is(confidence(input('ifeval')), 1);
  assert.is(confidence(input('')), 0);
  assert.is(confidence(input('Maybe ifeval')), 0.5);
  assert.is(confidence(input('I think  it is maybe ifeval')), 0);
  assert.is(confidence(input('maybe, perhaps, probably')), 0);
  assert.is(confidence(input('uncertain')), 0.5, "'certain' inside a word is one phrase");
  assert.is(HEDGES.length, 10);
  for (const hedge of HEDGES) {
    assert.is(confidence(input(`${hedge} ifeval`)), 0.5, hedge);
  }
});

test('length_penalty', () => {
  const cases: [string, number][] = [
    ['', 0],
    ['a', 1],
    ['a b', 0.8],
    ['a b c', 0.8],
    ['a b c d', 0.5],
    ['a b c d e f g h i j', 0.5],
    ['a b c d e f g h i j k', 0],
  ];
  for (const [completion, value] of cases) {
    assert.is(lengthPenalty(input(completion)), value, completion);
  }
});

test('dataset_balance pays for what was rare lately, and differs between the answers of one group', () => {
  const recentPredictions = [...new Array(6).fill('ifeval'), ...new Array(3).fill('commoneval')];
  const of = (completion: string) => datasetBalance(input(completion, { recentPredictions }));
  assert.is(of('wildvoice'), 1);
  assert.ok(Math.abs(of('commoneval')) < 1e-12);
  assert.ok(Math.abs(of('ifeval') + 1) < 1e-12);
  assert.is(of('nothing'), 0);
  assert.is(of('ifeval wildvoice'), 0);
  assert.is(datasetBalance(input('ifeval')), 0, 'nothing is known before the first prediction');
  const all = new Array(9).fill('ifeval');
  assert.is(datasetBalance(input('ifeval', { recentPredictions: all })), -1, 'clamped at -1');
});

test('labels inside other labels and inside words', () => {
  assert.equal(mentionedLabels('open-book', ['open', 'open-book']), ['open-book']);
  assert.equal(mentionedLabels('reopened', ['open']), []);
  assert.equal(mentionedLabels('open, close', ['close', 'open']), ['close', 'open']);
  assert.is(answeredLabel(' Hello World ', ['hello world']), 'hello world');
});

test('naming every label never pays more than naming a wrong one', async () => {
  const rewards = await loadRewards(loadConfig('default').config.rewards);
  const { totals } = await score(rewards, [input('wildvoice'), input(labels.join(' ')), input(labels.join(', '))], 1);
  assert.ok((totals[0] as number) > (totals[1] as number));
  assert.ok((totals[0] as number) > (totals[2] as number));
});

test('weights are applied once', async () => {
  const rewards = await loadRewards(loadConfig('default').config.rewards);
  const recentPredictions = ['ifeval', 'commoneval', 'wildvoice'];
  const { values, totals } = await score(rewards, [input('ifeval', { recentPredictions })], 1);
  assert.is(totals[0], 3 + 2 + 1 + 0 + 0.5);
  assert.equal(Object.fromEntries(Object.entries(values).map(([name, [value]]) => [name, value])), {
    exact_match: 1,
    format_compliance: 1,
    confidence: 1,
    dataset_balance: 0,
    length_penalty: 1,
  });
});

test('a weight may grow over the first steps; a weight of 0 is not computed', async () => {
  const { rewards } = loadConfig('default', [
    { flag: '', path: 'rewards.format_compliance.ramp_steps', value: 4 },
    { flag: '', path: 'rewards.confidence.weight', value: 0 },
  ]).config;
  const loaded = await loadRewards(rewards);
  assert.not(loaded.some(({ name }) => name === 'confidence'));
  const total = async (step: number) => (await score(loaded, [input('ifeval')], step)).totals[0];
  assert.is(await total(1), 3 + 0.5 + 0.5);
  assert.is(await total(2), 3 + 1 + 0.5);
  assert.is(await total(9), 3 + 2 + 0.5);
});

const folder = mkdtempSync(join(tmpdir(), 'voicegrpo-'));
async function withModule(name: string, source: string, use: (module: string) => Promise<void>) {
  const file = join(folder, name);
  writeFileSync(file, source);
  await use(file);
}
const only = (module: string) => ({ ...loadConfig('default').config.rewards, modules: [{ module, weight: 2 }] });

test("a user's reward, plain and asynchronous", async () => {
  await withModule(
    'vowels.mjs',
    'export default async ({ completion, label }) => completion.length + (label === "ifeval" ? 0.5 : 0);',
    async (file) => {
      const rewards = await loadRewards(only(file));
      const { values, totals } = await score(rewards, [input('abc')], 1);
      assert.is(values.vowels?.[0], 3.5);
      assert.is(totals[0], 7 + 1 + 0.5);
    },
  );
});

test("a user's reward that throws, or gives no number, is named by its file", async () => {
  const failing: [string, string, RegExp][] = [
    [
      'throws.mjs',
      'export default () => { throw new Error("no such word"); };',
      /throws\.mjs.*exception.*no such word/s,
    ],
    ['nan.mjs', 'export default () => NaN;', /nan\.mjs.*finite number.*NaN/s],
    ['text.mjs', 'export default () => "1";', /text\.mjs.*finite number.*string/s],
    ['nothing.mjs', 'export default () => {};', /nothing\.mjs.*finite number.*undefined/s],
  ];
  for (const [name, source, pattern] of failing) {
    await withModule(name, source, async (file) => {
      const rewards = await loadRewards(only(file));
      let message = '';
      try {
        await score(rewards, [input('x')], 1);
      } catch (error) {
        message = (error as Error).message;
      }
      assert.match(message, pattern);
    });
  }
});

test("a user's module that is missing, broken or exports no function", async () => {
  const message = async (file: string) => {
    try {
      await loadRewards(only(file));
      return '';
    } catch (error) {
      return (error as Error).message;
    }
  };
  assert.match(await message(join(folder, 'absent.mjs')), 'no such file');
  await withModule('syntax.mjs', 'export default (', async (file) => assert.match(await message(file), 'syntax.mjs'));
  await withModule('number.mjs', 'export default 1;', async (file) =>
    assert.match(await message(file), 'default export of type number'),
  );
});

test('importing the rewards loads no addon', () => {
  const script = `
    import { createRequire } from 'node:module';
    await import(${JSON.stringify(new URL('../src/rewards/index.ts', import.meta.url).href)});
    const addons = process.report.getReport().sharedObjects.filter((file) => file.endsWith('voicegrpo.node'));
    console.log(addons.length);`;
  const output = execFileSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
    encoding: 'utf8',
  });
  assert.is(output.trim(), '0');
});

test.run();
