/** Reads what a page shows from a run's folder, again and again: each look reads what is new. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { openRun } from '../run/folder.js';
import type { Evaluation, Prediction, StepStats } from '../types.js';
import { LineFile } from './line-file.js';
import { withoutMachinePaths } from './paths.js';
import { reliability } from './reliability.js';
import type {
  ClipInfluence,
  ClipRow,
  CompletionRow,
  EvaluationScores,
  EvaluationSummary,
  RunData,
  StoredEvaluation,
} from './run-data.js';

/** Points of a curve; of more, evenly spaced ones are shown. */
export const MAX_POINTS = 2000;
/** The last completions. */
export const MAX_COMPLETIONS = 600;
/** Held-out clips in the table. */
export const MAX_CLIPS = 500;
/** Bytes of audio in one page. */
export const MAX_AUDIO = 1_000_000;

/** Whatever a page is made of. */
const FILES = [
  'config.json',
  'manifest.json',
  'dataset.jsonl',
  'metrics.jsonl',
  'evaluations.jsonl',
  'completions.jsonl',
  'influence.json',
  'evaluation.json',
];

/** Changes with every write, cut and replacement of these files of a run. */
export function runTag(run: string, files: readonly string[] = FILES): string {
  return files
    .map((name) => {
      try {
        const { ino, size, mtimeMs } = statSync(join(run, name));
        return `${ino.toString(36)}.${size.toString(36)}.${Math.round(mtimeMs).toString(36)}`;
      } catch {
        return '-';
      }
    })
    .join('_');
}

/** @throws VoiceGrpoError E_DATA for a folder that is no run */
export function readRun(path: string): RunData {
  return new RunReader(path).read();
}

/** A part that is made anew only where something that it is made of is another object. */
class Remembered<T> {
  #of: readonly unknown[] | null = null;
  #value!: T;

  get(of: readonly unknown[], make: () => T): T {
    if (this.#of === null || this.#of.length !== of.length || of.some((one, i) => one !== this.#of?.[i])) {
      this.#value = make();
      this.#of = of;
    }
    return this.#value;
  }
}

interface Fixed extends Pick<RunData, 'maxSteps' | 'labels' | 'settings' | 'environment'> {
  heldOut: Map<string, { file: string; transcript: string }>;
  /** The recordings are those of this package. */
  bundled: boolean;
}

export class RunReader {
  readonly #path: string;
  readonly #metrics: LineFile<StepStats>;
  readonly #evaluations: LineFile<StoredEvaluation>;
  readonly #completions: LineFile<CompletionRow>;
  readonly #fixed = new Remembered<Fixed>();
  readonly #last = new Remembered<{ before: Evaluation; after: Evaluation } | null>();
  readonly #whole = new Remembered<readonly StoredEvaluation[]>();
  readonly #influence = new Remembered<ClipInfluence[]>();
  readonly #scores = new WeakMap<StoredEvaluation, EvaluationScores>();
  readonly #before = new Remembered<EvaluationSummary | null>();
  readonly #after = new Remembered<EvaluationSummary | null>();
  readonly #clips = new Remembered<ClipRow[]>();
  readonly #sounds = new Remembered<Pick<RunData, 'sounds' | 'audio'>>();

  constructor(path: string) {
    this.#path = resolve(path);
    this.#metrics = new LineFile(join(this.#path, 'metrics.jsonl'));
    this.#evaluations = new LineFile(join(this.#path, 'evaluations.jsonl'));
    this.#completions = new LineFile(join(this.#path, 'completions.jsonl'), MAX_COMPLETIONS);
  }

  /**
   * What did not change since the look before is the same object.
   *
   * @throws VoiceGrpoError E_DATA for a folder that is no run
   */
  read(): RunData {
    const fixed = this.#fixed.get([runTag(this.#path, FILES.slice(0, 3))], () => fixedParts(this.#path));
    const metrics = this.#metrics.read();
    const steps = metrics.at(-1)?.step ?? 0;
    const evaluations = this.#withLast(this.#evaluations.read(), steps);
    const before = evaluations.findLast(({ name }) => name === 'before') ?? null;
    const after = evaluations.findLast(({ name }) => name !== 'before') ?? null;
    for (const one of evaluations) {
      if (one !== before && one !== after) one.predictions = []; // of a long run too many to keep
    }
    const shown = (after ?? before)?.predictions.slice(0, MAX_CLIPS) ?? [];
    const completions = this.#completions.read();
    return {
      kind: 'run',
      name: basename(this.#path),
      state: existsSync(join(this.#path, 'evaluation.json')) ? 'finished' : 'running',
      maxSteps: fixed.maxSteps,
      labels: fixed.labels,
      metrics: thinned(metrics, MAX_POINTS),
      steps,
      evaluations: evaluations.map((one) => this.#scoresOf(one)),
      before: this.#before.get([before], () => before && summary(before)),
      after: this.#after.get([after], () => after && summary(after)),
      clips: this.#clips.get([fixed, before, after], () => {
        const old = new Map(before?.predictions.map((prediction) => [prediction.id, prediction]));
        return shown.map((now) => clipRow(now, old.get(now.id), fixed.heldOut.get(now.id)?.transcript));
      }),
      clipsTotal: (after ?? before)?.predictions.length ?? 0,
      completions: [...completions],
      completionsTotal: this.#completions.count,
      influence: this.#influence.get([runTag(this.#path, ['influence.json'])], () => readInfluence(this.#path)),
      settings: fixed.settings,
      environment: fixed.environment,
      ...this.#sounds.get([fixed, shown.map(({ id }) => id).join()], () =>
        embeddedSounds(
          shown.map(({ id }) => ({ id, file: fixed.heldOut.get(id)?.file })),
          fixed.bundled,
        ),
      ),
    };
  }

  /** Where lines are missing at the end or all of them, a run that is finished has its first and its last evaluation elsewhere. */
  #withLast(lines: readonly StoredEvaluation[], step: number): readonly StoredEvaluation[] {
    const last = this.#last.get([runTag(this.#path, ['evaluation.json'])], () => readEvaluation(this.#path));
    return this.#whole.get([lines, last, step], () => {
      const whole = [...lines];
      if (last === null) return whole;
      if (!lines.some(({ name }) => name === 'before')) whole.unshift({ step: 0, name: 'before', ...last.before });
      if (!lines.some(({ name }) => name === 'after')) whole.push({ step, name: 'after', ...last.after });
      return whole;
    });
  }

  #scoresOf(evaluation: StoredEvaluation): EvaluationScores {
    const known = this.#scores.get(evaluation);
    if (known !== undefined) return known;
    const { predictions: _, confusion: __, labels: ___, ...scores } = evaluation;
    this.#scores.set(evaluation, scores);
    return scores;
  }
}

/** A run that has not begun. */
export function waitingRun(path: string): RunData {
  return {
    kind: 'run',
    name: basename(resolve(path)),
    state: 'waiting',
    maxSteps: 0,
    labels: [],
    metrics: [],
    steps: 0,
    evaluations: [],
    before: null,
    after: null,
    clips: [],
    clipsTotal: 0,
    completions: [],
    completionsTotal: 0,
    influence: [],
    settings: [],
    environment: [],
    sounds: {},
    audio: { embedded: 0, of: 0, limit: MAX_AUDIO },
  };
}

function fixedParts(path: string): Fixed {
  const { folder, loaded, manifest, dataset } = openRun(path);
  const shown = withoutMachinePaths({ config: loaded.config, origins: loaded.origins, manifest }, folder.path);
  shown.config.prompt = loaded.config.prompt; // texts, whatever they begin with
  return {
    maxSteps: loaded.config.grpo.max_steps,
    labels: dataset.labels,
    settings: flat(shown.config).map(([setting, value]) => ({
      setting,
      value,
      origin: (shown.origins as Record<string, string>)[setting] ?? 'default',
    })),
    environment: flat(shown.manifest).map(([name, value]) => ({ name, value })),
    heldOut: new Map(dataset.heldOut.map((clip) => [clip.id, clip])),
    bundled: (manifest.data as { source?: string } | undefined)?.source === 'bundled',
  };
}

/**
 * At most `limit`, the first and the last among them: of each stretch of equal length one, the evaluated one if there is one. The
 * length is a power of two, so that what is shown of a growing list changes at its end, and seldom as a whole.
 */
export function thinned<T extends object>(values: readonly T[], limit: number): T[] {
  let stretch = 1;
  while (Math.ceil(values.length / stretch) > (stretch === 1 ? limit : limit - 1)) stretch *= 2;
  if (stretch === 1) return [...values];
  const shown: T[] = [];
  for (let from = 0; from < values.length; from += stretch) {
    const part = values.slice(from, from + stretch);
    const evaluated = from === 0 ? undefined : part.find((one) => isEvaluated(one));
    shown.push(evaluated ?? (part[0] as T));
  }
  const last = values.at(-1) as T;
  return shown.at(-1) === last ? shown : [...shown, last];
}

function isEvaluated(line: object): boolean {
  return (line as { eval_accuracy?: number | null }).eval_accuracy != null;
}

function summary({ predictions, ...rest }: StoredEvaluation): EvaluationSummary {
  return { ...rest, reliability: reliability(predictions) };
}

function clipRow(now: Prediction, old: Prediction | undefined, transcript = ''): ClipRow {
  return {
    id: now.id,
    label: now.label,
    transcript,
    before: old?.answer ?? '',
    after: now.answer,
    right: now.predicted === now.label ? 'right' : 'wrong',
    probability: Math.max(...Object.values(now.probabilities)),
  };
}

/** Bundled clips go into the page; recordings of the user stay where they are. */
function embeddedSounds(
  clips: readonly { id: string; file: string | undefined }[],
  bundled: boolean,
): Pick<RunData, 'sounds' | 'audio'> {
  const sounds: Record<string, string> = {};
  let bytes = 0;
  for (const { id, file } of clips) {
    if (!bundled || file === undefined || !file.endsWith('.ogg') || !existsSync(file)) continue;
    const { size } = statSync(file);
    if (bytes + size > MAX_AUDIO) continue;
    bytes += size;
    sounds[id] = `data:audio/ogg;base64,${readFileSync(file).toString('base64')}`;
  }
  return { sounds, audio: { embedded: Object.keys(sounds).length, of: clips.length, limit: MAX_AUDIO } };
}

/** Null where there is none, or one that is not whole. */
function readEvaluation(run: string): { before: Evaluation; after: Evaluation } | null {
  try {
    const read = JSON.parse(readFileSync(join(run, 'evaluation.json'), 'utf8'));
    return Array.isArray(read.before.predictions) && Array.isArray(read.after.predictions) ? read : null;
  } catch {
    return null;
  }
}

function readInfluence(run: string): ClipInfluence[] {
  try {
    return (JSON.parse(readFileSync(join(run, 'influence.json'), 'utf8')) as { clips: ClipInfluence[] }).clips;
  } catch {
    return []; // not computed yet
  }
}

/** Dotted path and text of each leaf. */
export function flat(value: unknown, path = ''): [string, string][] {
  return value !== null && typeof value === 'object' && !Array.isArray(value)
    ? Object.entries(value).flatMap(([key, child]) => flat(child, path === '' ? key : `${path}.${key}`))
    : [[path, typeof value === 'string' ? value : JSON.stringify(value)]];
}
