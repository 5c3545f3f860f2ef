/** The rewards of a run: the built-in ones and those of the user's modules, each with its weight, which is applied here and once. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Config, moduleName } from '../config/load.js';
import { problem } from '../errors.js';
import { ramp } from '../pipeline/schedule.js';
import type { RewardInput, ScoredBatch } from '../types.js';
import { BUILT_IN_REWARDS, type BuiltInReward, type Reward } from './index.js';

export interface WeightedReward {
  name: string;
  weight: number;
  /** Steps over which the weight grows from 0. */
  rampSteps: number;
  reward: Reward;
  /** The user's file; null for a built-in reward. */
  file: string | null;
}

/**
 * The rewards with a weight other than 0.
 *
 * @throws VoiceGrpoError E_CONFIG if a module cannot be loaded or exports no function
 */
export async function loadRewards(config: Config['rewards']): Promise<WeightedReward[]> {
  const { modules, ...builtIn } = config;
  const rewards: WeightedReward[] = Object.entries(builtIn).map(([name, { weight, ramp_steps }]) => ({
    name,
    weight,
    rampSteps: ramp_steps,
    reward: BUILT_IN_REWARDS[name as BuiltInReward],
    file: null,
  }));
  for (const entry of modules) {
    const file = resolve(entry.module);
    const reward = await loadModule(file);
    rewards.push({ name: moduleName(entry), weight: entry.weight, rampSteps: entry.ramp_steps ?? 0, reward, file });
  }
  return rewards.filter(({ weight }) => weight !== 0);
}

async function loadModule(file: string): Promise<Reward> {
  const expected = 'a module whose default export is a function of one answer';
  const next = 'write: export default ({ completion, label }) => (completion.trim() === label ? 1 : 0);';
  if (!existsSync(file)) {
    throw problem({ code: 'E_CONFIG', expected, where: file, got: 'no such file', next: "correct 'rewards.modules'" });
  }
  let loaded: { default?: unknown };
  try {
    loaded = await import(pathToFileURL(file).href);
  } catch (error) {
    throw problem({
      code: 'E_CONFIG',
      expected,
      where: file,
      got: (error as Error).message,
      next: 'correct the module',
    });
  }
  if (typeof loaded.default !== 'function') {
    throw problem({
      code: 'E_CONFIG',
      expected,
      where: file,
      got: `a default export of type ${typeof loaded.default}`,
      next,
    });
  }
  return loaded.default as Reward;
}

/**
 * Scores N answers.
 *
 * @param step from 1, for weights that grow; Infinity: full weights, as in evaluation
 * @throws VoiceGrpoError E_REWARD naming the file if a reward throws or returns no finite number
 */
export async function score(
  rewards: readonly WeightedReward[],
  inputs: readonly RewardInput[],
  step: number,
): Promise<ScoredBatch> {
  const totals = new Float64Array(inputs.length);
  const values: Record<string, Float64Array> = {};
  for (const entry of rewards) {
    const weight = entry.weight * ramp(step, entry.rampSteps);
    const own = new Float64Array(inputs.length);
    for (const [n, input] of inputs.entries()) {
      const value = await call(entry, input);
      own[n] = value;
      totals[n] = (totals[n] as number) + weight * value;
    }
    values[entry.name] = own;
  }
  return { values, totals };
}

async function call({ name, file, reward }: WeightedReward, input: RewardInput): Promise<number> {
  const where = file ?? `reward '${name}'`;
  let value: unknown;
  try {
    value = await reward(input);
  } catch (error) {
    const stack =
      error instanceof Error
        ? error.stack?.split('\n').find((line) => file !== null && line.includes(file))
        : undefined;
    throw problem({
      code: 'E_REWARD',
      expected: 'a number',
      where,
      got: `an exception for the answer ${JSON.stringify(input.completion)}: ${error instanceof Error ? error.message : String(error)}${stack === undefined ? '' : ` (${stack.trim()})`}`,
      next: 'correct the reward',
    });
  }
  if (typeof value !== 'number' || !Number.isFinite(value)) {
    throw problem({
      code: 'E_REWARD',
      expected: 'a finite number',
      where,
      got: `${typeof value === 'number' ? String(value) : typeof value} for the answer ${JSON.stringify(input.completion)}`,
      next: 'return a number for every answer',
    });
  }
  return value;
}
