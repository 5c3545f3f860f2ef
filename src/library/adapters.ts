/** Adapters that PEFT, or this program, has saved. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { problem } from '../errors.js';
import type { AdapterOptions, NativeAdapter, NativePolicy } from '../native/addon.js';
import { readAdapter, restoreAdapter } from '../pipeline/checkpoint.js';

/** Kinds of LoRA that the engine does not compute, as PEFT's settings say them. */
const UNKNOWN: Readonly<Record<string, (value: unknown) => boolean>> = {
  peft_type: (value) => value !== 'LORA',
  bias: (value) => value !== 'none',
  use_rslora: (value) => value === true,
  use_dora: (value) => value === true,
  rank_pattern: hasEntries,
  alpha_pattern: hasEntries,
  modules_to_save: hasEntries,
};

/**
 * @param folder with adapter_config.json and adapter_model.safetensors
 * @throws VoiceGrpoError E_MODEL if it has none, or one of another kind or another model
 */
export function loadAdapterFolder(policy: NativePolicy, folder: string): NativeAdapter {
  const options = { ...readConfig(join(folder, 'adapter_config.json')), seed: 0 };
  const snapshot = readAdapter(folder);
  const adapter = policy.createAdapter(options);
  try {
    restoreAdapter(adapter, snapshot, folder);
    return adapter;
  } catch (error) {
    adapter.close();
    throw error;
  }
}

function readConfig(file: string): Omit<AdapterOptions, 'seed'> {
  const refused = (expected: string, got: string) =>
    problem({
      code: 'E_MODEL',
      expected,
      where: file,
      got,
      next: 'name a folder such as RUN/best, or one that PEFT saved',
    });
  let config: Record<string, unknown>;
  try {
    config = { peft_type: 'LORA', bias: 'none', ...JSON.parse(readFileSync(file, 'utf8')) };
  } catch (error) {
    throw refused('the settings of an adapter', (error as Error).message);
  }
  const unknown = Object.keys(UNKNOWN).find((key) => UNKNOWN[key]?.(config[key]));
  if (unknown !== undefined) {
    throw refused('plain LoRA', `${unknown} ${JSON.stringify(config[unknown])}`);
  }
  const { r, lora_alpha: alpha, target_modules: targetModules } = config;
  const isNames = Array.isArray(targetModules) && targetModules.every((name) => typeof name === 'string');
  if (typeof r !== 'number' || typeof alpha !== 'number' || !isNames) {
    throw refused(
      'the numbers r and lora_alpha and a list of target_modules',
      JSON.stringify([r, alpha, targetModules]),
    );
  }
  return { rank: r, alpha, targetModules };
}

function hasEntries(value: unknown): boolean {
  return value !== null && typeof value === 'object' && Object.keys(value).length > 0;
}
