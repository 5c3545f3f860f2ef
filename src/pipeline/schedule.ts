/** The learning rate and the sampling temperature of a step. */

export interface Schedule {
  type: 'cosine' | 'linear' | 'constant';
  maxSteps: number;
  warmupRatio: number;
}

/**
 * The factor of the learning rate at an update, as transformers' get_{cosine,linear,constant}_schedule_with_warmup give it.
 *
 * @param update updates done before this one, from 0
 */
export function learningRateFactor(update: number, { type, maxSteps, warmupRatio }: Schedule): number {
  const warmup = Math.ceil(maxSteps * warmupRatio);
  if (update < warmup) {
    return update / Math.max(1, warmup);
  }
  if (type === 'constant') {
    return 1;
  }
  const progress = (update - warmup) / Math.max(1, maxSteps - warmup);
  return type === 'linear' ? Math.max(0, 1 - progress) : Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)));
}

/** @param step from 1 */
export function temperatureAt(
  step: number,
  {
    temperature,
    temperature_end,
    temperature_steps,
  }: { temperature: number; temperature_end: number | null; temperature_steps: number },
): number {
  if (temperature_end === null || temperature_steps === 0) {
    return temperature;
  }
  const progress = Math.min(1, (step - 1) / temperature_steps);
  return temperature + (temperature_end - temperature) * progress;
}

/** The share of its weight a reward has at a step that counts from 1. */
export function ramp(step: number, rampSteps: number): number {
  return rampSteps === 0 ? 1 : Math.min(1, step / rampSteps);
}
