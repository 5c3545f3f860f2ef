/** voicegrpo train: from clips to a tuned policy. */
import { Command, Option } from 'clipanion';
import { type LoadedConfig, loadConfig, PRESETS } from '../config/load.js';
import { problem } from '../errors.js';
import { type TrainResult, train } from '../grpo.js';
import { loadNative } from '../native/load.js';
import { hashFile } from '../pipeline/data.js';
import { findDataset } from '../pipeline/sources.js';
import { type SuspectCounts, transcribeDataset } from '../pipeline/transcripts.js';
import { reportObserver } from '../report/observer.js';
import { loadRewards } from '../rewards/weighted.js';
import { prepareDevice } from '../run/device.js';
import { checkNewRun, createRun, isRun, openRun, runFolder, type StoredDataset } from '../run/folder.js';
import { findModels, threadCount } from '../run/inputs.js';
import type { Progress } from '../run/progress.js';
import { checkGivenRewards, modelsOfRun, resumedConfig, suspectOf } from '../run/resume.js';
import type { Evaluation, StepStats } from '../types.js';
import { ConfigCommand } from './config-command.js';

export class TrainCommand extends ConfigCommand {
  static override paths = [['train']];
  static override usage = Command.Usage({
    description: 'Tune a policy with GRPO on spoken prompts.',
    details: `Presets: ${PRESETS.join(', ')}. Every value of the configuration has a flag; the value's name stands in brackets.`,
    examples: [
      ['The embedded example, a minute on two cores', 'voicegrpo train --config tiny'],
      ['Your own clips', 'voicegrpo train --config tiny --data DIR --whisper ggml-base.bin'],
    ],
  });

  config = Option.String('--config', {
    description: `A preset (${PRESETS.join(', ')}) or a JSON file; 'default' where absent.`,
  });
  resume = Option.Boolean('--resume', false, { description: 'Go on with the run in --output-dir.' });
  words = Option.Rest();

  constructor() {
    super(null);
  }

  protected async run(signal: AbortSignal): Promise<number> {
    const progress = this.progress();
    const settings = this.settings(this.words);
    const loaded = this.resume ? this.resumed(settings) : loadConfig(this.config ?? 'default', settings);
    const { config } = loaded;
    const path = config.output.dir ?? `runs/${loaded.name}-${timestamp()}`;
    const resume = this.resume && isRun(runFolder(path).path);
    if (resume) {
      checkGivenRewards(path, openRun(path).manifest, []);
    } else {
      checkNewRun(path);
    }

    const rewards = await loadRewards(config.rewards);
    await using hub = this.hub(progress);
    const context = { hub, progress, signal };
    // What is named wrongly is told before anything large is fetched.
    const fetchModels = resume ? null : await findModels(config, context);
    const fetchDataset = resume ? null : await findDataset(config.data, config.seed, context);
    const { files, origins } =
      fetchModels === null ? await modelsOfRun(openRun(path).manifest, context) : await fetchModels();
    const threads = threadCount(config);
    const device = prepareDevice(config.device, ['policy', 'whisper'], (line) => progress.line(line));
    const native = loadNative();
    // Before the clips, so that a bad model file is known at once and not after minutes of listening.
    using policy = await native.openPolicy(files.policy, { type: config.policy.base_type, threads });
    let transcribeSeconds = 0;
    let dataset: StoredDataset;
    let dataOrigin: Record<string, unknown> = {};
    let suspect: SuspectCounts = { dropped: 0, heldOut: 0 };
    if (fetchDataset === null) {
      const stored = openRun(path);
      dataset = stored.dataset;
      suspect = suspectOf(stored.manifest);
    } else {
      // clip
      const { labels, duplicates, origin, ...sides } = await fetchDataset();
      dataOrigin = origin;
      if (duplicates > 0) {
        progress.line(`Left out ${duplicates} clips with the same audio as another one.`);
      }
      // transcript
      const start = performance.now();
      const heard = await transcribeDataset(sides, config, files.whisper, threads, progress, signal);
      dataset = { labels, train: heard.train, heldOut: heard.heldOut, unheard: heard.unheard };
      suspect = heard.suspect;
      transcribeSeconds = (performance.now() - start) / 1000;
    }

    const folder = runFolder(path);
    if (!resume) {
      const hashes = {
        policy: await hashFile(files.policy),
        whisper: files.whisper === null ? null : await hashFile(files.whisper),
      };
      const manifest = {
        versions: { node: process.versions.node, ...native.version() },
        device,
        threads,
        seed: config.seed,
        files,
        sha256: hashes,
        models: origins,
        data: {
          source: config.data.source,
          ...dataOrigin,
          train: dataset.train.length,
          held_out: dataset.heldOut.length,
          suspect: { dropped: suspect.dropped, held_out: suspect.heldOut },
        },
        started: new Date().toISOString(),
      };
      createRun(folder, { loaded, manifest, dataset });
    }
    progress.line(
      `${dataset.train.length} training and ${dataset.heldOut.length} held-out clips of ${dataset.labels.join(', ')}; ${policy.info.name}, ${(policy.info.parameters / 1e6).toFixed(1)} M parameters, ${policy.info.baseType}.`,
    );

    const result = await train({
      config,
      policy,
      dataset,
      rewards,
      folder,
      resume,
      signal,
      observer: { ...this.observer(progress), ...reportObserver(folder, dataset, (text) => progress.line(text)) },
    });
    progress.end();
    this.report(result, path, transcribeSeconds, suspect, progress);
    return 0;
  }

  /** The configuration of the run that is to go on: the stored one; what is given again must agree with it. */
  private resumed(settings: ReturnType<ConfigCommand['settings']>): LoadedConfig {
    const directory = settings.find(({ path }) => path === 'output.dir')?.value;
    if (typeof directory !== 'string') {
      throw problem({
        code: 'E_USAGE',
        expected: '--output-dir RUN',
        where: '--resume',
        got: 'no run to resume',
        next: 'name the folder of the run: --resume --output-dir runs/…',
      });
    }
    const wanted = () => loadConfig(this.config ?? 'default', settings);
    if (!isRun(runFolder(directory).path)) {
      return wanted(); // killed before the folder was made: begin
    }
    return resumedConfig(directory, settings, this.config === undefined ? null : wanted());
  }

  private observer(progress: Progress) {
    return {
      step: (stats: StepStats, maxSteps: number) => {
        progress.update(stepLine(stats, maxSteps), true);
        if (this.verbose) {
          progress.line(`  ${detailLine(stats)}`);
        }
      },
      evaluated: (name: string, evaluation: Evaluation, step: number) =>
        progress.line(
          `${name === 'held-out' ? `held out, step ${step}` : `${name} training, held out`}: accuracy ${evaluation.accuracy.toFixed(3)}, macro-F1 ${evaluation.macro_f1.toFixed(3)}, reward ${evaluation.reward.toFixed(3)} (n ${evaluation.n})`,
        ),
      note: (text: string) => progress.line(text),
    };
  }

  private report(
    result: TrainResult,
    path: string,
    transcribeSeconds: number,
    suspect: SuspectCounts,
    progress: Progress,
  ): void {
    const { before, after } = result;
    if (result.stopReason !== null) {
      progress.line(`Stopped at step ${result.steps}: ${result.stopReason}.`);
    }
    if (result.truncatedPrompts > 0) {
      progress.line(`${result.truncatedPrompts} prompts were longer than the limit; their transcripts were cut.`);
    }
    if (result.interrupted) {
      progress.line(
        `Interrupted after step ${result.steps}; saved. Go on with: voicegrpo train --resume --output-dir ${path}`,
      );
    }
    if (this.json) {
      this.print(
        JSON.stringify({
          run: path,
          steps: result.steps,
          stopped_early: result.stoppedEarly,
          stop_reason: result.stopReason,
          best_step: result.bestStep,
          truncated_prompts: result.truncatedPrompts,
          suspect: { dropped: suspect.dropped, held_out: suspect.heldOut },
          seconds: { transcribe: transcribeSeconds, ...result.seconds },
          before: scores(before),
          after: after === null ? null : scores(after),
        }),
      );
    } else if (after !== null) {
      progress.line(
        `Accuracy ${before.accuracy.toFixed(3)} → ${after.accuracy.toFixed(3)} on ${after.n} held-out clips. Run: ${path}`,
      );
    }
  }
}

/** The scores that --json shows of an evaluation. */
export function scores({ accuracy, macro_f1, reward, n }: Evaluation): {
  accuracy: number;
  macro_f1: number;
  reward: number;
  n: number;
} {
  return { accuracy, macro_f1, reward, n };
}

function stepLine(stats: StepStats, maxSteps: number): string {
  const number = (name: string, digits: number) => stats[name]?.toFixed(digits) ?? '–';
  const seconds = stats.step_time ?? 0;
  const left = Math.round((maxSteps - stats.step) * seconds);
  return `step ${stats.step}/${maxSteps}  reward ${number('reward', 2)} ± ${number('reward_std', 2)}  dead groups ${Math.round(100 * (stats.frac_reward_zero_std ?? 0))}%  grad ${number('grad_norm', 2)}  ${number('step_time', 2)} s/step  ${left} s left`;
}

/** What --verbose adds to a step: the parts of the reward, what was predicted, and where the time went. */
function detailLine(stats: StepStats): string {
  const shown = Object.entries(stats).filter(([name]) =>
    /^(rewards\/.*\/mean|predictions\/.*|entropy|kl|time\/.*)$/.test(name),
  );
  return shown
    .map(([name, value]) => `${name.replace(/^rewards\/(.*)\/mean$/, '$1')} ${value?.toFixed(3) ?? '–'}`)
    .join('  ');
}

function timestamp(): string {
  return new Date().toISOString().slice(0, 19).replaceAll(':', '').replace('T', '-');
}
