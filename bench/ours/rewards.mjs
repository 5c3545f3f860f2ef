/**
 * Our rewards for another trainer: one line in, one line out.
 *
 *   in:  {"step": 1, "answers": [{"completion": " ifeval", "label": "ifeval"}, …]}
 *   out: {"rewards": [6.5, …]}
 *
 * Argument: {"run": DIR}, a run folder whose configuration, labels and shares are taken. The recent predictions that the
 * balance reward looks at are kept here, as the loop keeps them.
 */
import { createInterface } from 'node:readline';
import { labelShares } from '../../dist/pipeline/data.js';
import { BALANCE_WINDOW_PER_LABEL, predictedLabel } from '../../dist/rewards/index.js';
import { loadRewards, score } from '../../dist/rewards/weighted.js';
import { openRun } from '../../dist/run/folder.js';

const { loaded, dataset } = openRun(JSON.parse(process.argv[2]).run);
const { labels } = dataset;
const rewards = await loadRewards(loaded.config.rewards);
const shares = labelShares(dataset.train, labels);
let recentPredictions = [];
for await (const line of createInterface({ input: process.stdin })) {
  const { step, answers } = JSON.parse(line);
  const inputs = answers.map((answer) => ({
    ...answer,
    labels,
    transcript: '',
    prompt: '',
    labelShares: shares,
    recentPredictions,
  }));
  const { totals } = await score(rewards, inputs, step);
  const predicted = answers
    .map(({ completion }) => predictedLabel(completion, labels))
    .filter((label) => label !== null);
  recentPredictions = [...recentPredictions, ...predicted].slice(-BALANCE_WINDOW_PER_LABEL * labels.length);
  process.stdout.write(`${JSON.stringify({ rewards: [...totals] })}\n`);
}
