/** What a page shows of a run, or of several. Types alone: the page in the browser shares them. */
import type { Evaluation, StepStats } from '../types.js';

export interface StoredEvaluation extends Evaluation {
  step: number;
  name: 'before' | 'held-out' | 'after';
}

/** Of a diagram of reliability: clips whose most probable label has a probability in [from, to). */
export interface ReliabilityBin {
  from: number;
  to: number;
  n: number;
  /** Mean probability of the most probable label; null for an empty bin. */
  confidence: number | null;
  /** Share of clips of which that label is the right one. */
  accuracy: number | null;
}

export type EvaluationScores = Omit<StoredEvaluation, 'predictions' | 'confusion' | 'labels'>;
export type EvaluationSummary = Omit<StoredEvaluation, 'predictions'> & { reliability: ReliabilityBin[] };

/** A held-out clip. */
export interface ClipRow {
  id: string;
  label: string;
  transcript: string;
  /** Answers. */
  before: string;
  after: string;
  right: 'right' | 'wrong';
  /** Of the most probable label. */
  probability: number;
}

/** A line of completions.jsonl, as far as the page shows it. */
export interface CompletionRow {
  step: number;
  prompt: number;
  label: string;
  transcript: string;
  completion: string;
  reward: number;
  advantage: number;
  rewards?: Record<string, number>;
}

export interface ClipInfluence {
  id: string;
  label: string;
  probability: number;
  words: { word: string; influence: number }[];
}

export interface RunData {
  kind: 'run';
  name: string;
  state: 'waiting' | 'running' | 'finished';
  maxSteps: number;
  labels: string[];
  /** Lines of metrics.jsonl; of many, evenly spaced ones. */
  metrics: StepStats[];
  steps: number;
  evaluations: EvaluationScores[];
  before: EvaluationSummary | null;
  /** The best adapter's, or the newest there is. */
  after: EvaluationSummary | null;
  clips: ClipRow[];
  clipsTotal: number;
  /** The last ones. */
  completions: CompletionRow[];
  completionsTotal: number;
  influence: ClipInfluence[];
  settings: { setting: string; value: string; origin: string }[];
  environment: { name: string; value: string }[];
  /** Id of a clip → its recording as a data: address. */
  sounds: Record<string, string>;
  audio: { embedded: number; of: number; limit: number };
}

export interface Comparison {
  kind: 'comparison';
  name: string;
  runs: Pick<RunData, 'name' | 'metrics' | 'evaluations' | 'state'>[];
  /** Settings in which the runs differ: a value for each run. */
  differing: { setting: string; values: string[] }[];
}
