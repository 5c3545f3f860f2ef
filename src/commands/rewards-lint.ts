/** voicegrpo rewards lint: what the rewards would teach, from some groups sampled before training. */
import { Command, Option } from 'clipanion';
import { loadConfig } from '../config/load.js';
import type { Severity } from '../lint/findings.js';
import { type LintReport, lintRewards } from '../lint/lint.js';
import { sampleForLint } from '../lint/sample.js';
import { loadRewards } from '../rewards/weighted.js';
import { ConfigCommand } from './config-command.js';
import { wholeNumber } from './options.js';
import { textTable } from './text-table.js';

/** By the worst finding. 1, 2 and 3 are for a lint that could not be done. */
const EXIT_CODES: Record<Severity, number> = { note: 0, warning: 0, error: 1 };

export class RewardsLintCommand extends ConfigCommand {
  static override paths = [['rewards', 'lint']];
  static override usage = Command.Usage({
    category: 'Rewards',
    description: 'Sample some groups before training and say what the rewards would teach.',
    details:
      'Every value of the configuration has a flag, as for `train`. Exit code: 1 with an error among the findings, else 0.',
    examples: [
      ['The embedded example', 'voicegrpo rewards lint --config tiny'],
      ['Another weight', 'voicegrpo rewards lint --config tiny --exact-match-weight 0'],
    ],
  });

  config = Option.String('--config', { description: "A preset or a JSON file; 'default' where absent." });
  groups = Option.String('--groups', '24', { description: 'Prompts to sample answers to.' });
  words = Option.Rest();

  constructor() {
    super(null);
  }

  protected async run(signal: AbortSignal): Promise<number> {
    const count = wholeNumber('--groups', this.groups, 2, 10_000);
    const { config } = loadConfig(this.config ?? 'default', this.settings(this.words));
    const progress = this.progress();
    const rewards = await loadRewards(config.rewards);
    await using hub = this.hub(progress);
    const { groups, labels, labelShares, temperature, policy } = await sampleForLint(config, count, {
      hub,
      progress,
      signal,
    });
    const tried = config.grpo.label_exploration > 0;
    const report = await lintRewards(groups, rewards, { labels, labelShares, tried });
    this.print(
      this.json
        ? JSON.stringify({ policy, temperature, labels, ...snakeCase(report) })
        : text(report, policy, temperature),
    );
    return Math.max(0, ...report.findings.map(({ severity }) => EXIT_CODES[severity]));
  }
}

function snakeCase({ numGenerations, tried, measures, sampled, predictions, findings }: LintReport) {
  const share = ({ dead, deadShare }: Pick<LintReport['sampled'], 'dead' | 'deadShare'>) => ({
    dead_groups: dead,
    frac_reward_zero_std: deadShare,
  });
  return {
    groups: measures.groups,
    num_generations: numGenerations,
    tried,
    accuracy: sampled.accuracy,
    predictions,
    ...share(measures),
    sampled: share(sampled),
    rewards: measures.rewards.map(({ varianceWithin, advantageShare, correctness, ...rest }) => ({
      ...rest,
      variance_within: varianceWithin,
      correctness,
      advantage_share: advantageShare,
    })),
    findings,
  };
}

function text(report: LintReport, policy: string, temperature: number): string {
  const { measures, sampled, numGenerations, tried, predictions, findings } = report;
  const { groups, rewards } = measures;
  const shares = Object.entries(predictions).map(([label, share]) => `${label} ${percent(share)}`);
  const dead = (of: Pick<LintReport['sampled'], 'dead' | 'deadShare'>) =>
    `${of.dead} of ${groups} (${percent(of.deadShare.value)}; between ${percent(of.deadShare.low)} and ${percent(of.deadShare.high)} to be expected)`;
  const head = [
    'reward',
    'weight',
    'mean',
    'variance in groups',
    'varies in',
    'with being right',
    'share of advantage',
  ];
  const names = rewards.map(({ name }) => name);
  return [
    `${groups} groups of ${numGenerations} answers by ${policy} at temperature ${temperature}: ${percent(sampled.accuracy)} right; predicted ${shares.join(', ')}.`,
    tried > 0
      ? `With the ${tried} labels that are tried besides in each group; dead groups ${dead(measures)}, of the samples alone ${dead(sampled)}.`
      : `Dead groups: ${dead(measures)}.`,
    '',
    textTable(
      [
        head,
        ...rewards.map(({ name, weight, mean, varianceWithin, varies, correctness, advantageShare }) => [
          name,
          String(weight),
          mean.toFixed(3),
          varianceWithin.toFixed(4),
          percent(varies),
          figure(correctness),
          advantageShare === null ? '–' : percent(advantageShare),
        ]),
      ],
      'lrrrrrr',
    ),
    '',
    textTable(
      [
        ['correlation in groups', ...names],
        ...rewards.map(({ name, correlations }) => [
          name,
          ...names.map((other) => (other === name ? '1' : figure(correlations[other] ?? null))),
        ]),
      ],
      `l${'r'.repeat(names.length)}`,
    ),
    '',
    ...(findings.length === 0
      ? ['Nothing found.']
      : findings.map(({ severity, text, next }) => `${severity}: ${text} ${next}`)),
  ].join('\n');
}

function percent(share: number): string {
  return `${Math.round(100 * share)}%`;
}

function figure(value: number | null): string {
  return value === null ? '–' : value.toFixed(2);
}
