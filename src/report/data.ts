/** What a page shows of a run, read from its folder. Bounded: however long the run, the page stays a page. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { openRun } from '../run/folder.js';
import type { Evaluation, Prediction, StepStats } from '../types.js';
import { type ReliabilityBin, reliability } from './reliability.js';

/** Points of a curve; of more, evenly spaced ones are shown. */
export const MAX_POINTS = 2000;
/** The last completions. */
export const MAX_COMPLETIONS = 600;
/** Held-out clips in the table. */
export const MAX_CLIPS = 500;
/** Bytes of audio in one page. */
export const MAX_AUDIO = 1_000_000;

export interface StoredEvaluation extends Evaluation {
  step: number;
  name: 'before' | 'held-out' | 'after';
}

type EvaluationSummary = Omit<StoredEvaluation, 'predictions'> & { reliability: ReliabilityBin[] };

export interface RunData {
  kind: 'run';
  name: string;
  state: 'waiting' | 'running' | 'finished';
  maxSteps: number;
  labels: string[];
  /** Lines of metrics.jsonl, at most MAX_POINTS. */
  metrics: StepStats[];
  steps: number;
  evaluations: Omit<StoredEvaluation, 'predictions' | 'confusion' | 'labels'>[];
  before: EvaluationSummary | null;
  /** The best adapter's, or the newest there is. */
  after: EvaluationSummary | null;
  clips: object[];
  clipsTotal: number;
  completions: object[];
  completionsTotal: number;
  influence: object[];
  settings: { setting: string; value: string; origin: string }[];
  environment: { name: string; value: string }[];
  audio: { embedded: number; of: number; limit: number };
}

/** @throws VoiceGrpoError E_DATA for a folder that is no run */
export function readRun(path: string): RunData {
  const { folder, loaded, manifest, dataset } = openRun(path);
  const metrics = readLines<StepStats>(join(folder.path, 'metrics.jsonl'));
  const evaluations = readLines<StoredEvaluation>(join(folder.path, 'evaluations.jsonl'));
  const completions = readLines<object>(join(folder.path, 'completions.jsonl'));
  const before = evaluations.findLast(({ name }) => name === 'before') ?? null;
  const after = evaluations.findLast(({ name }) => name !== 'before') ?? null;
  const clips = new Map(dataset.heldOut.map((clip) => [clip.id, clip]));
  const shown = (after ?? before)?.predictions.slice(0, MAX_CLIPS) ?? [];
  const old = new Map(before?.predictions.map((prediction) => [prediction.id, prediction]));
  const player = audioPlayers(manifest);
  const finished = existsSync(join(folder.path, 'evaluation.json'));
  return {
    kind: 'run',
    name: basename(folder.path),
    state: finished ? 'finished' : 'running',
    maxSteps: loaded.config.grpo.max_steps,
    labels: dataset.labels,
    metrics: thinned(metrics, MAX_POINTS),
    steps: metrics.at(-1)?.step ?? 0,
    evaluations: evaluations.map(({ predictions: _, confusion: __, labels: ___, ...rest }) => rest),
    before: before && summary(before),
    after: after && summary(after),
    clips: shown.map((now) => clipRow(now, old.get(now.id), clips.get(now.id), player)),
    clipsTotal: (after ?? before)?.predictions.length ?? 0,
    completions: completions.slice(-MAX_COMPLETIONS),
    completionsTotal: completions.length,
    influence: readInfluence(join(folder.path, 'influence.json')),
    settings: flat(loaded.config).map(([setting, value]) => ({
      setting,
      value,
      origin: (loaded.origins as Record<string, string>)[setting] ?? 'default',
    })),
    environment: flat(manifest).map(([name, value]) => ({ name, value })),
    audio: player.count,
  };
}

/** A run that has not begun. */
export function waitingRun(path: string): RunData {
  return {
    kind: 'run',
    name: basename(path),
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
    audio: { embedded: 0, of: 0, limit: MAX_AUDIO },
  };
}

/** Objects of a file of lines; ends at a line that is not whole. None where there is no file. */
export function readLines<T>(path: string): T[] {
  if (!existsSync(path)) return [];
  const values: T[] = [];
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    try {
      values.push(JSON.parse(line));
    } catch {
      break;
    }
  }
  return values;
}

/** At most `limit`, evenly spaced, the first and last among them; evaluated steps are kept before others. */
export function thinned<T extends object>(values: readonly T[], limit: number): T[] {
  if (values.length <= limit) return [...values];
  const every = (values.length - 1) / (limit - 1);
  return Array.from({ length: limit }, (_, i) => {
    const from = Math.round(i * every);
    const span = values.slice(from, i === limit - 1 ? from + 1 : Math.max(from + 1, Math.round((i + 1) * every)));
    return (
      span.find((value) => (value as { eval_accuracy?: number | null }).eval_accuracy != null) ?? (values[from] as T)
    );
  });
}

function summary({ predictions, ...rest }: StoredEvaluation): EvaluationSummary {
  return { ...rest, reliability: reliability(predictions) };
}

function clipRow(
  now: Prediction,
  old: Prediction | undefined,
  clip: { file: string; transcript: string } | undefined,
  player: ReturnType<typeof audioPlayers>,
): object {
  const likely = (p: Prediction) => Math.max(...Object.values(p.probabilities));
  return {
    id: now.id,
    label: now.label,
    transcript: clip?.transcript ?? '',
    before: old?.answer ?? '',
    after: now.answer,
    right: now.predicted === now.label ? 'right' : 'wrong',
    probability: likely(now),
    audio: clip === undefined ? null : player.of(clip.file),
  };
}

/** Bundled clips go into the page; recordings of the user stay where they are. */
function audioPlayers(manifest: Record<string, unknown>): {
  of(file: string): string | null;
  count: { embedded: number; of: number; limit: number };
} {
  const bundled = (manifest.data as { source?: string } | undefined)?.source === 'bundled';
  const count = { embedded: 0, of: 0, limit: MAX_AUDIO };
  let bytes = 0;
  return {
    count,
    of(file) {
      count.of++;
      if (!bundled || !file.endsWith('.ogg') || !existsSync(file)) return null;
      const { size } = statSync(file);
      if (bytes + size > MAX_AUDIO) return null;
      bytes += size;
      count.embedded++;
      return `data:audio/ogg;base64,${readFileSync(file).toString('base64')}`;
    },
  };
}

function readInfluence(path: string): object[] {
  try {
    return (JSON.parse(readFileSync(path, 'utf8')) as { clips: object[] }).clips;
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
