/** Going on with a run: with its settings, its policy, its transcripts and its rewards, whatever these names stand for today. */
import { checkStoredConfig, type FlagSetting, type LoadedConfig, setAt, valueAt } from '../config/load.js';
import { problem } from '../errors.js';
import type { SuspectCounts } from '../pipeline/transcripts.js';
import type { WeightedReward } from '../rewards/weighted.js';
import { deviceOfManifest } from './device.js';
import { differingSettings, FREE_SETTINGS, openRun } from './folder.js';
import { type ModelContext, type ModelFiles, policyOfRun } from './inputs.js';

/**
 * The stored configuration with the free settings as they are given now. What else is given again must agree with it.
 *
 * @param given settings of flags or of a script
 * @param wanted the configuration that is named besides, with `given` in it; null: none is, and what is not given is the run's own
 * @throws VoiceGrpoError E_CONFIG
 */
export function resumedConfig(run: string, given: readonly FlagSetting[], wanted: LoadedConfig | null): LoadedConfig {
  const { loaded: stored, manifest } = openRun(run);
  const free = given.filter(({ path }) => FREE_SETTINGS.has(path));
  const different =
    wanted === null
      ? given
          .filter(({ path }) => !FREE_SETTINGS.has(path))
          .filter(({ path, value }) => JSON.stringify(value) !== JSON.stringify(valueAt(tree(stored), path)))
          .map(({ path }) => path)
      : differingSettings(wanted.config, stored.config);
  if (different.length > 0) {
    throw problem({
      code: 'E_CONFIG',
      expected: 'the settings that the run began with',
      where: run,
      got: `others for ${different.join(', ')}`,
      next: 'leave these out, or begin a new run in another folder (--output-dir)',
    });
  }
  const config = structuredClone(stored.config);
  config.device = deviceOfManifest(manifest);
  for (const { path, value } of free) {
    setAt(config as unknown as Record<string, unknown>, path, value);
  }
  config.output.dir = run;
  return { ...stored, config: checkStoredConfig(config, 'the settings to resume with') };
}

function tree({ config }: LoadedConfig): Record<string, unknown> {
  return config as unknown as Record<string, unknown>;
}

/** What the manifest keeps of rewards that a script gave: no file has them. */
export interface GivenRewardRecord {
  name: string;
  weight: number;
  ramp_steps: number;
}

export function recordOfGiven(rewards: readonly WeightedReward[]): GivenRewardRecord[] {
  return rewards.map(({ name, weight, rampSteps }) => ({ name, weight, ramp_steps: rampSteps }));
}

/**
 * A run that a script gave rewards to cannot go on without them. That they are the same functions cannot be known.
 *
 * @throws VoiceGrpoError E_CONFIG
 */
export function checkGivenRewards(run: string, manifest: Record<string, unknown>, given: readonly WeightedReward[]) {
  const stored = (manifest.given_rewards ?? []) as GivenRewardRecord[];
  const text = (rewards: readonly GivenRewardRecord[]) =>
    rewards
      .map(({ name, weight, ramp_steps }) => `'${name}' (weight ${weight}, ramp_steps ${ramp_steps})`)
      .join(', ') || 'none';
  const [wanted, got] = [text(stored), text(recordOfGiven(given))];
  if (wanted !== got) {
    throw problem({
      code: 'E_CONFIG',
      expected: `the rewards that a script began the run with: ${wanted}`,
      where: run,
      got,
      next: 'resume it from that script: train({ resume: true, rewards, … })',
    });
  }
}

/** A run goes on with the file it began with, whatever its name stands for today. Its clips have their transcripts. */
export async function modelsOfRun(manifest: Record<string, unknown>, context: ModelContext): Promise<ModelFiles> {
  return { files: { policy: await policyOfRun(manifest, null, context), whisper: null }, origins: {} };
}

/** What the manifest says of suspect transcripts; a run from before they were looked for had none left out. */
export function suspectOf(manifest: Record<string, unknown>): SuspectCounts {
  const { suspect } = (manifest.data ?? {}) as { suspect?: { dropped: number; held_out: number } };
  return { dropped: suspect?.dropped ?? 0, heldOut: suspect?.held_out ?? 0 };
}
