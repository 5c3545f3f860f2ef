/** voicegrpo replay RUN --step N --prompt I: the answers of one group again, with all that was made of them. */
import { Command, Option } from 'clipanion';
import { loadNative } from '../native/load.js';
import { loadRewards } from '../rewards/weighted.js';
import { openRun } from '../run/folder.js';
import { policyOfRun, threadCount } from '../run/inputs.js';
import { type Replay, replayGroup } from '../run/replay.js';
import { ConfigCommand } from './config-command.js';
import { wholeNumber } from './options.js';
import { textTable } from './text-table.js';

export class ReplayCommand extends ConfigCommand {
  static override paths = [['replay']];
  static override usage = Command.Usage({
    description: 'Regenerate the answers to one prompt of a run and show what became of them.',
    details:
      'The loop runs again from the newest checkpoint before the step (or from the start) in a temporary folder; the run is only read. Exit code 1 if the regenerated lines differ from completions.jsonl.',
    examples: [['The first prompt of step 12', 'voicegrpo replay runs/tiny --step 12 --prompt 0']],
  });

  directory = Option.String({ required: true, name: 'RUN' });
  step = Option.String('--step', { required: true, description: 'The step, from 1.' });
  prompt = Option.String('--prompt', '0', { description: 'The prompt among those of the step, from 0.' });

  constructor() {
    super(['threads']);
  }

  protected async run(signal: AbortSignal): Promise<number> {
    const step = wholeNumber('--step', this.step, 1, 10_000_000);
    const prompt = wholeNumber('--prompt', this.prompt, 0, 1_000_000);
    const progress = this.progress();
    const { folder, loaded, manifest, dataset } = openRun(this.directory);
    const { config } = loaded;
    const rewards = await loadRewards(config.rewards);
    await using hub = this.hub(progress);
    const file = await policyOfRun(manifest, null, { hub, progress, signal });
    const native = loadNative();
    const given = this.settings().find(({ path }) => path === 'threads')?.value;
    const threads = typeof given === 'number' ? threadCount({ threads: given }) : threadCount(config);
    using policy = await native.openPolicy(file, { type: config.policy.base_type, threads });
    const caveats = otherVersions(manifest, native.version());
    for (const caveat of caveats) {
      progress.line(`It may not be exact: ${caveat}.`);
    }
    const replay = await replayGroup(
      { folder, config, dataset, policy, rewards },
      step,
      prompt,
      (at, first) => progress.update(`repeated step ${at} of ${first} to ${step - 1}`, at % 25 === 0),
      signal,
    );
    progress.end();
    this.print(this.json ? JSON.stringify(snakeCase(this.directory, replay, caveats)) : text(replay));
    return replay.comparison.exact === false ? 1 : 0;
  }
}

/** Versions and kernels in which this machine is not the one that the run was made on. */
function otherVersions(manifest: Record<string, unknown>, now: Record<string, string>): string[] {
  const then = (manifest.versions ?? {}) as Record<string, string>;
  return Object.entries(now)
    .filter(([name, value]) => then[name] !== undefined && then[name] !== value)
    .map(
      ([name, value]) =>
        `the run was made with ${name === 'cpu' ? 'the kernel' : name} ${then[name]}, this is ${name === 'cpu' ? 'the kernel ' : ''}${value}`,
    );
}

function snakeCase(run: string, replay: Replay, caveats: readonly string[]) {
  const { stepsRepeated, promptText, answers, comparison, ...rest } = replay;
  return {
    run,
    ...rest,
    steps_repeated: stepsRepeated,
    prompt_text: promptText,
    exact: comparison.exact,
    compared_lines: comparison.lines,
    differences: comparison.differences,
    caveats,
    answers: answers.map(({ lossWeight, tokens, ...answer }) => ({
      ...answer,
      loss_weight: lossWeight,
      tokens: tokens.map(({ id, text, logProb, baseLogProb }) => ({
        id,
        text,
        log_prob: logProb,
        base_log_prob: baseLogProb,
      })),
    })),
  };
}

function text(replay: Replay): string {
  const { step, prompt, checkpoint, stepsRepeated, label, transcript, temperature, dead, mean, std } = replay;
  return [
    `Step ${step}, prompt ${prompt}: '${label}', ${JSON.stringify(transcript)}; temperature ${temperature}.`,
    `From ${checkpoint ?? 'the start'}, ${stepsRepeated} step${stepsRepeated === 1 ? '' : 's'} repeated. ${verdict(replay)}`,
    `Group: mean ${mean.toFixed(4)}, standard deviation ${std.toFixed(4)}${dead ? '; dead: all rewards are equal, the advantages are 0' : ''}.`,
    ...replay.answers.map((answer, i) => {
      const { rewards, reward, advantage, lossWeight, tokens, sampled, truncated } = answer;
      const note = `${sampled ? '' : ', tried'}${truncated ? ', cut off' : ''}`;
      const sum = tokens.reduce((total, { logProb }) => total + logProb, 0);
      return [
        '',
        `answer ${i}${note}: ${JSON.stringify(answer.text)}`,
        textTable(
          [
            ['  reward', 'value', 'weight', 'product', 'sum', ''],
            ...rewards.map(({ name, value, weight, product, running, reason }) => [
              `  ${name}`,
              figure(value),
              figure(weight),
              figure(product),
              figure(running),
              reason ?? '',
            ]),
          ],
          'lrrrrl',
        ),
        `  advantage ${advantage.toFixed(4)} = (${figure(reward)} − ${figure(mean)}) scaled; loss weight of a token ${lossWeight.toPrecision(4)}; log-probability ${sum.toFixed(4)}`,
        textTable(
          [
            ['  token', '', 'log-probability', 'base model'],
            ...tokens.map(({ id, text, logProb, baseLogProb }) => [
              `  ${id}`,
              JSON.stringify(text),
              logProb.toFixed(4),
              baseLogProb.toFixed(4),
            ]),
          ],
          'rlrr',
        ),
      ].join('\n');
    }),
  ].join('\n');
}

function verdict({ comparison: { exact, lines, differences } }: Replay): string {
  if (exact === null) {
    return 'The run logged no answers of this step: there is nothing to compare with.';
  }
  return exact
    ? `Exact: ${lines} lines are byte for byte those of completions.jsonl.`
    : `NOT exact: completions.jsonl differs in ${differences.join('; ')}. Rewards alone differ where a module was changed since; answers differ where the program, the kernel or the run's files are others.`;
}

function figure(value: number): string {
  return Number(value.toFixed(4)).toString();
}
