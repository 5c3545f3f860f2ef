/** The sentence where a step does not fit a device's memory, with a smaller setting that does. */
import { problem, type VoiceGrpoError } from '../errors.js';
import { gigabytes } from './devices.js';

/** What of a configuration decides how much memory a step takes. */
export interface StepShape {
  promptsPerStep: number; // B
  numGenerations: number; // G
  maxPromptLength: number; // P, tokens
  maxCompletionLength: number; // L, tokens
}

/** Which steps may be taken: the configuration's other values bind some of them. */
export interface ShapeBounds {
  /** B stays a multiple of it: a generation is divided into parts of whole groups. */
  partsPerGeneration: number;
  /** L is not cut below it: the longest label must fit. */
  shortestCompletion: number;
}

const FLAGS: readonly [keyof StepShape, string][] = [
  ['promptsPerStep', '--prompts-per-step'],
  ['numGenerations', '--num-generations'],
  ['maxCompletionLength', '--max-completion-length'],
];

/**
 * The largest shape that fits, changing first what changes learning least: fewer prompts in a step, then shorter completions,
 * then a smaller group. The prompt's length stays: a cut transcript is another task.
 *
 * @param estimate bytes that a step of this shape takes, with model and caches; grows with each of its numbers
 * @returns null if not even the smallest fits
 */
export function fittingShape(
  shape: StepShape,
  { partsPerGeneration, shortestCompletion }: ShapeBounds,
  available: number,
  estimate: (shape: StepShape) => number,
): StepShape | null {
  const fits = (one: StepShape) => estimate(one) <= available;
  if (fits(shape)) return shape;
  let smaller = { ...shape };
  const limits: [keyof StepShape, number, number][] = [
    ['promptsPerStep', partsPerGeneration, partsPerGeneration],
    ['maxCompletionLength', shortestCompletion, 1],
    ['numGenerations', 2, 1],
  ];
  for (const [key, least, unit] of limits) {
    const most = Math.floor(smaller[key] / unit) * unit;
    const lowest = { ...smaller, [key]: Math.min(least, most) };
    if (!fits(lowest)) {
      smaller = lowest;
      continue;
    }
    // The estimate grows with the number, so the largest that fits is found by halving the range.
    let low = lowest[key] / unit;
    let high = most / unit;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (fits({ ...smaller, [key]: middle * unit })) low = middle;
      else high = middle - 1;
    }
    return { ...smaller, [key]: low * unit };
  }
  return null;
}

/** @param available bytes, of the device or of the machine */
export function memoryProblem(
  device: string,
  shape: StepShape,
  bounds: ShapeBounds,
  available: number,
  estimate: (shape: StepShape) => number,
): VoiceGrpoError {
  const fitting = fittingShape(shape, bounds, available, estimate);
  const flags = FLAGS.filter(([key]) => fitting !== null && fitting[key] !== shape[key])
    .map(([key, flag]) => `${flag} ${(fitting as StepShape)[key]}`)
    .join(' ');
  const next =
    fitting === null
      ? 'Not even one short group fits: take a smaller model, --base-type bf16, a shorter --max-prompt-length, or a device with more memory.'
      : `This fits, with ${gigabytes(estimate(fitting))}: ${flags}.`;
  return problem({
    code: 'E_MEMORY',
    where: device,
    expected: `${gigabytes(estimate(shape))} of free memory for a step (${describe(shape)})`,
    got: gigabytes(available),
    next,
  });
}

function describe({ promptsPerStep, numGenerations, maxPromptLength, maxCompletionLength }: StepShape): string {
  return `${promptsPerStep} prompts of ${maxPromptLength} tokens, ${numGenerations} completions of ${maxCompletionLength} each`;
}

/** Whether an error means that memory or the model's context was not enough, so that what was done until then is worth saving. */
export function isShortage(error: unknown): boolean {
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined;
  return code === 'E_MEMORY' || code === 'E_LIMIT';
}
