/** voicegrpo rewards test: what the configured rewards pay for answers that are known to be good or bad. */
import { Command, Option } from 'clipanion';
import { CONFIG_FLAGS } from '../config/flags.js';
import { loadConfig } from '../config/load.js';
import { problem } from '../errors.js';
import { labelsOf } from '../pipeline/labels.js';
import { type RewardPart, rewardParts } from '../rewards/arithmetic.js';
import { cannedAnswers, type Verdict } from '../rewards/canned.js';
import { loadRewards, score } from '../rewards/weighted.js';
import type { RewardInput } from '../types.js';
import { ConfigCommand, SOURCE_PATHS } from './config-command.js';
import { beginning, textTable } from './text-table.js';

/** The values that say which rewards there are and which labels. */
export const REWARD_PATHS = CONFIG_FLAGS.map(({ path }) => path).filter((path) => path.startsWith('rewards.'));

const TRANSCRIPT = 'What is the difference between a lake and a pond?';

interface TestedAnswer {
  name: string;
  answer: string;
  /** Null for an answer that was given: nobody said what it is worth. */
  verdict: Verdict | null;
  reward: number;
  rewards: RewardPart[];
}

export class RewardsTestCommand extends ConfigCommand {
  static override paths = [['rewards', 'test']];
  static override usage = Command.Usage({
    category: 'Rewards',
    description: 'Score good and bad answers with the configured rewards.',
    details:
      'Each reward is shown times its weight at full weight. Where an answer that chooses no label, or a wrong one, earns as much as the right label, that is said and the exit code is 1. With -v also why each built-in reward pays what it pays.',
    examples: [
      ['The rewards of a preset', 'voicegrpo rewards test --config tiny'],
      ['Your own answer', 'voicegrpo rewards test --config tiny --label ifeval --answer "I think it is ifeval"'],
      ['Another weight', 'voicegrpo rewards test --config tiny --confidence-weight 0'],
    ],
  });

  config = Option.String('--config', { description: "A preset or a JSON file; 'default' where absent." });
  label = Option.String('--label', { description: "The right label; the configuration's first where absent." });
  answers = Option.Array('--answer', [], { description: 'An answer to score besides; may be given several times.' });
  transcript = Option.String('--transcript', TRANSCRIPT, { description: 'What the speaker said.' });
  recent = Option.Array('--recent', [], {
    description:
      'A label that was predicted lately, for the balance reward; may be given several times. Without it each label was predicted equally often.',
  });
  words = Option.Rest();

  constructor() {
    super([...SOURCE_PATHS, 'data.datasets', ...REWARD_PATHS]);
  }

  protected async run(signal: AbortSignal): Promise<number> {
    const { config } = loadConfig(this.config ?? 'default', this.settings(this.words));
    const progress = this.progress();
    const rewards = await loadRewards(config.rewards);
    await using hub = this.hub(progress);
    const labels = await labelsOf(config.data, { hub, progress, signal });
    const label = this.labelOf('--label', this.label ?? (labels[0] as string), labels);
    const recent = this.recent.map((name) => this.labelOf('--recent', name, labels));
    const answers = [
      ...this.answers.map((answer) => ({ name: 'given', answer, verdict: null })),
      ...cannedAnswers(label, labels, this.transcript),
    ];
    const inputs = answers.map(
      ({ answer }): RewardInput => ({
        completion: answer,
        label,
        labels,
        transcript: this.transcript,
        prompt: this.transcript,
        labelShares: Object.fromEntries(labels.map((name) => [name, 1 / labels.length])),
        recentPredictions: recent.length > 0 ? recent : labels,
      }),
    );
    const { values, totals } = await score(rewards, inputs, Number.POSITIVE_INFINITY);
    const tested = answers.map(
      (entry, n): TestedAnswer => ({
        ...entry,
        reward: totals[n] as number,
        rewards: rewardParts(
          rewards,
          inputs[n] as RewardInput,
          (name) => values[name]?.[n] as number,
          Number.POSITIVE_INFINITY,
        ),
      }),
    );
    const honest = tested.find(({ name }) => name === 'right label') as TestedAnswer;
    const paid = tested.filter(({ verdict, reward }) => verdict === 'wrong' && reward >= honest.reward);
    if (this.json) {
      this.print(
        JSON.stringify({
          label,
          labels,
          transcript: this.transcript,
          answers: tested,
          paid: paid.map(({ name }) => name),
        }),
      );
    } else {
      this.print(this.table(tested, label));
      if (this.verbose) {
        this.print(`\n${tested.map(reasons).join('\n')}`);
      }
      this.print(verdictLine(paid, honest));
    }
    return paid.length > 0 ? 1 : 0;
  }

  private labelOf(option: string, name: string, labels: readonly string[]): string {
    if (labels.includes(name)) {
      return name;
    }
    throw problem({
      code: 'E_USAGE',
      expected: `one of ${labels.join(', ')}`,
      where: option,
      got: `'${name}'`,
      next: 'Correct it, or name the labels by --datasets.',
    });
  }

  private table(tested: readonly TestedAnswer[], label: string): string {
    const names = tested[0]?.rewards.map(({ name, weight }) => `${name} ×${weight}`) ?? [];
    const rows = tested.map(({ name, answer, verdict, reward, rewards }) => [
      verdict ?? '',
      name,
      beginning(JSON.stringify(answer), 40),
      ...rewards.map(({ product }) => number(product)),
      number(reward),
    ]);
    const head = ['', `the label is '${label}'`, 'answer', ...names, 'reward'];
    return textTable([head, ...rows], `lll${'r'.repeat(names.length + 1)}`);
  }
}

function verdictLine(paid: readonly TestedAnswer[], honest: TestedAnswer): string {
  return paid.length === 0
    ? `\nNo wrong answer earns as much as the right label (${number(honest.reward)}).`
    : `\nThe right label earns ${number(honest.reward)}, and these wrong answers as much or more: ${paid.map(({ name, reward }) => `${name} (${number(reward)})`).join(', ')}.`;
}

/** Why each built-in reward pays what it pays for one answer. */
function reasons({ name, answer, rewards }: TestedAnswer): string {
  const lines = rewards.map(
    ({ name: reward, value, weight, product, reason }) =>
      `  ${reward}: ${value} × ${weight} = ${number(product)}${reason === null ? '' : ` (${reason})`}`,
  );
  return [`${name}: ${JSON.stringify(answer)}`, ...lines].join('\n');
}

function number(value: number): string {
  return Object.is(value, -0) ? '0.00' : value.toFixed(2);
}
