/** A run's folder without a training: what the report and its viewers read. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadConfig } from '../src/config/load.js';
import { json } from '../src/run/files.js';
import { appendLines, createRun, runFolder } from '../src/run/folder.js';
import type { Evaluation, TranscribedClip } from '../src/types.js';

export const LABELS = ['a', 'b'];

export function evaluationOf(accuracy: number): Evaluation {
  const ids = Array.from({ length: 10 }, (_, i) => `clip-${i}`);
  const predictions = ids.map((id, i) => {
    const label = LABELS[i % 2] as string;
    const predicted = i < 10 * accuracy ? label : (LABELS[(i + 1) % 2] as string);
    const probabilities = Object.fromEntries(LABELS.map((one) => [one, one === predicted ? 0.8 : 0.2]));
    return { id, label, answer: predicted, predicted, reward: 1, probabilities, label_mass: 1 };
  });
  const confusion = [
    [1, 2, 0],
    [3, 4, 0],
  ];
  return { n: 10, accuracy, macro_f1: accuracy, reward: accuracy, labels: LABELS, confusion, predictions };
}

/** @param sounds recordings of the first held-out clips */
export function makeRun(
  path: string,
  settings: Record<string, unknown> = {},
  manifest: object = {},
  sounds: readonly string[] = [],
): void {
  const flags = Object.entries({ 'output.dir': path, ...settings });
  const loaded = loadConfig(
    'tiny',
    flags.map(([setting, value]) => ({ flag: `--${setting}`, path: setting, value })),
  );
  const heldOut = evaluationOf(1).predictions.map(
    ({ id, label }, i): TranscribedClip => ({
      id,
      label,
      file: sounds[i] ?? join(path, `${id}.ogg`),
      transcript: `spoken ${i}`,
    }),
  );
  const dataset = { labels: LABELS, train: [], heldOut, unheard: [] };
  createRun(runFolder(path), { loaded, manifest: { device: 'cpu', ...manifest }, dataset });
  appendLines(join(path, 'metrics.jsonl'), [{ step: 0, eval_accuracy: 0.5 }]);
  addEvaluation(path, 0, 'before', 0.5);
}

/** What the loop writes at a step: its line of metrics, four completions. */
export function addStep(path: string, step: number, reward = step): void {
  const metrics = { step, reward, grad_norm: 0.1, 'rewards/format/mean': reward / 10 };
  const completions = [0, 1, 2, 3].map((n) => ({
    ...{ step, prompt: n >> 1, label: LABELS[n >> 1], transcript: `asked ${step}`, completion: `answer ${n}` },
    ...{ rewards: { format: n }, reward, advantage: 0 },
  }));
  appendLines(join(path, 'metrics.jsonl'), [metrics]);
  appendLines(join(path, 'completions.jsonl'), completions);
}

export function addEvaluation(path: string, step: number, name: 'before' | 'held-out' | 'after', accuracy: number) {
  appendLines(join(path, 'evaluations.jsonl'), [{ step, name, ...evaluationOf(accuracy) }]);
}

export function finish(path: string, before: number, after: number): void {
  const contents = { best_step: 1, before: evaluationOf(before), after: evaluationOf(after) };
  writeFileSync(join(path, 'evaluation.json'), json(contents));
}

export function removeRun(path: string): void {
  rmSync(path, { recursive: true, force: true });
}
