/** voicegrpo eval RUN: how good a run's policy is on its held-out clips, or on others. */
import { Command, Option } from 'clipanion';
import { type FlagSetting, loadConfig } from '../config/load.js';
import { problem, VoiceGrpoError } from '../errors.js';
import { evaluate } from '../pipeline/evaluate.js';
import { type RecognitionCost, recognitionCost } from '../pipeline/recognition-cost.js';
import { clipsForLabels, type DataConfig, type SourceContext } from '../pipeline/sources.js';
import { type TranscribedClips, transcribeClips } from '../pipeline/transcripts.js';
import { loadRewards } from '../rewards/weighted.js';
import { type AdapterChoice, openTrainedRun, type TrainedRun } from '../run/trained.js';
import type { Evaluation, TranscribedClip } from '../types.js';
import { ConfigCommand, SOURCE_PATHS } from './config-command.js';
import { scores } from './train.js';

const FLAGS = [
  ...SOURCE_PATHS,
  'policy.model',
  'whisper.model',
  'whisper.language',
  'threads',
  'device',
  'evaluation.batch_size',
];

export class EvalCommand extends ConfigCommand {
  static override paths = [['eval']];
  static override usage = Command.Usage({
    description: 'Evaluate a run on its held-out clips, or on other clips.',
    examples: [
      ['The best adapter on the held-out clips', 'voicegrpo eval runs/tiny'],
      ['The base model', 'voicegrpo eval runs/tiny --adapter none'],
      ['Other clips', 'voicegrpo eval runs/tiny --data DIR'],
      ['What recognition errors cost, against the texts of the data', 'voicegrpo eval runs/tiny --references'],
    ],
  });

  directory = Option.String({ required: true, name: 'RUN' });
  adapter = Option.String('--adapter', 'best', { description: "'best', 'last', or 'none' for the base model." });
  references = Option.Boolean('--references', false, {
    description:
      'Compare the transcripts with the texts of the data: word error rate of each label, and the accuracy that recognition errors cost. A clip in which nothing was heard counts as an empty transcript and a wrong answer.',
  });

  constructor() {
    super(FLAGS);
  }

  protected async run(signal: AbortSignal): Promise<number> {
    const progress = this.progress();
    const settings = this.settings();
    await using hub = this.hub(progress);
    const context = { hub, progress, signal };
    using run = await openTrainedRun(this.directory, adapterChoice(this.adapter), settings, context);
    const elsewhere = settings.some(({ path }) => path === 'data.source');
    const stray = settings.filter(({ path }) => path.startsWith('data.'));
    if (!elsewhere && stray.length > 0) {
      throw problem({
        code: 'E_USAGE',
        expected: '--data, which the other flags of data are for',
        where: stray.map(({ flag }) => flag).join(', '),
        got: "none: the run's own held-out clips are evaluated",
        next: 'add --data SOURCE',
      });
    }
    if (this.references) {
      checkTranscribed(run, elsewhere);
    }
    const { clips, unheard } = elsewhere
      ? await this.others(run, this.dataOf(run, settings), context)
      : { clips: run.dataset.heldOut, unheard: run.dataset.unheard };
    const rewards = await loadRewards(run.config.rewards);
    const start = performance.now();
    const answer = (of: readonly TranscribedClip[]) =>
      evaluate(run.evaluation, run.adapter, of, rewards, run.shares, signal);
    const result = await answer(clips);
    const cost = this.references ? await recognitionCost(clips, result, answer, unheard) : null;
    const seconds = (performance.now() - start) / 1000;
    const suspect = clips.filter((clip) => clip.suspect !== undefined).length;
    progress.end();
    this.print(
      this.json
        ? JSON.stringify({
            run: this.directory,
            adapter: this.adapter,
            ...scores(result),
            suspect,
            ...(cost !== null && { references: cost }),
            seconds,
            labels: result.labels,
            confusion: result.confusion,
            predictions: result.predictions,
          })
        : [table(result), ...(cost === null ? [] : [costTable(cost)])].join('\n\n'),
    );
    if (suspect > 0) {
      progress.line(`${suspect} of ${clips.length} clips have a suspect transcript.`);
    }
    return 0;
  }

  /** The run's settings of data under these flags: what says how to read another source does not carry over. */
  private dataOf({ config }: TrainedRun, settings: readonly FlagSetting[]): DataConfig {
    const { revision, split, audio_column, text_column, label_column } = loadConfig('default', settings).config.data;
    return { ...config.data, revision, split, audio_column, text_column, label_column };
  }

  /** Clips of another source, of the run's labels: of a folder all, of a parquet dataset `samples_per_dataset` of each label. */
  private async others(run: TrainedRun, config: DataConfig, context: SourceContext): Promise<TranscribedClips> {
    const { progress, signal } = context;
    const { source } = config;
    const trained = new Set(run.dataset.train.map(({ id }) => id));
    // A text has another identity than the recording of it: then the words tell.
    const byText = config.use_text || run.usedText;
    const texts = new Set(run.dataset.train.flatMap(({ reference }) => (byText && reference ? [reference] : [])));
    const { clips, passedOver } = await clipsForLabels(
      config,
      run.dataset.labels,
      run.config.seed,
      ({ id, reference }) => trained.has(id) || (reference !== undefined && texts.has(reference)),
      context,
    );
    if (passedOver > 0) {
      progress.line(`${passedOver} of ${clips.length + passedOver} clips are left out: the run was trained on them.`);
    }
    if (clips.length === 0) {
      throw new VoiceGrpoError(`${source}: every clip was used for training.`, {
        code: 'E_DATA',
        hint: 'Evaluate on other clips.',
      });
    }
    return transcribeClips(clips, run.config, await run.whisper(), run.threads, progress, signal);
  }
}

/** @throws VoiceGrpoError E_USAGE where the texts themselves are what the policy read */
function checkTranscribed(run: TrainedRun, elsewhere: boolean): void {
  if (elsewhere ? run.config.data.use_text : run.usedText) {
    throw problem({
      code: 'E_USAGE',
      expected: 'transcripts, to compare with the texts',
      where: '--references',
      got: elsewhere ? 'texts alone (--use-text, or a run that was made with it)' : 'a run whose clips are texts',
      next: `add ${elsewhere ? '' : '--data SOURCE '}--no-use-text, and --whisper MODEL where the run had none`,
    });
  }
}

export function adapterChoice(value: string): AdapterChoice {
  if (value === 'best' || value === 'last' || value === 'none') {
    return value;
  }
  throw problem({
    code: 'E_USAGE',
    expected: 'best, last or none',
    where: '--adapter',
    got: `'${value}'`,
    next: 'use --adapter best',
  });
}

/** Scores and the confusion matrix as text. */
export function table({ labels, confusion, accuracy, macro_f1, reward, n, predictions }: Evaluation): string {
  const columns = [...labels, 'other'];
  const width = Math.max(...columns.map(({ length }) => length)) + 2;
  const row = (name: string, cells: (string | number)[]) =>
    `${name.padEnd(width)}${cells.map((cell) => String(cell).padStart(width)).join('')}`;
  const sure = predictions.reduce((sum, { label, probabilities }) => sum + (probabilities[label] ?? 0), 0) / n;
  return [
    `accuracy ${accuracy.toFixed(3)}  macro-F1 ${macro_f1.toFixed(3)}  reward ${reward.toFixed(3)}  n ${n}`,
    `mean probability of the right label ${sure.toFixed(3)}`,
    '',
    row('said \\ answered', columns).trimEnd(),
    ...labels.map((label, i) => row(label, confusion[i] as number[])),
  ].join('\n');
}

/** Word errors of each label and what they cost, as text. */
export function costTable({ labels, total, transcripts, references, cost, lost, gained }: RecognitionCost): string {
  const rows = [...Object.entries(labels), ['all', total] as const];
  const width = Math.max(...rows.map(([name]) => name.length), 'label'.length) + 2;
  const columns = ['clips', 'words', 'WER', 'substituted', 'inserted', 'deleted', 'suspect', 'unheard'];
  const line = (name: string, cells: readonly (string | number)[]) =>
    name.padEnd(width) + cells.map((cell, i) => String(cell).padStart((columns[i] as string).length + 2)).join('');
  const accuracy = (value: { accuracy: number; macro_f1: number }) =>
    `accuracy ${value.accuracy.toFixed(3)}, macro-F1 ${value.macro_f1.toFixed(3)}`;
  return [
    line('label', columns),
    ...rows.map(([name, errors]) =>
      line(name, [
        errors.n,
        errors.words,
        errors.word_error_rate === null ? '–' : `${(100 * errors.word_error_rate).toFixed(1)}%`,
        errors.substitutions,
        errors.insertions,
        errors.deletions,
        errors.suspect,
        errors.unheard,
      ]),
    ),
    '',
    `with the transcripts:      ${accuracy(transcripts)} (n ${total.n})`,
    `with the reference texts:  ${accuracy(references)}`,
    `recognition errors cost ${cost.accuracy.toFixed(3)} of accuracy: ${lost} answers are right with the text alone, ${gained} with the transcript alone`,
  ].join('\n');
}
