/** The two files that PeftModel.from_pretrained loads. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { problem } from '../errors.js';
import type { PolicyInfo } from '../native/addon.js';
import { adapterFiles, readAdapter, restoreAdapter, snapshotAdapter } from '../pipeline/checkpoint.js';
import { writeFileSynced } from '../run/files.js';
import { type Format, probeAdapter } from './format.js';

export const peft: Format<'f32'> = {
  types: ['f32'],

  async write(folder, { policy, adapter, baseModel, targetModules }) {
    refuseVision(policy.info);
    const files = adapterFiles(snapshotAdapter(adapter), {
      base_model_name_or_path: baseModel,
      r: adapter.rank,
      lora_alpha: adapter.alpha,
      target_modules: targetModules,
    });
    for (const [name, content] of files) writeFileSynced(join(folder, name), content);
  },

  async readBack(folder, source, probe, signal) {
    const config = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as {
      r: number;
      lora_alpha: number;
      target_modules: string[];
    };
    const { r: rank, lora_alpha: alpha, target_modules: targetModules } = config;
    const fill = (adapter: typeof source.adapter) => restoreAdapter(adapter, readAdapter(folder), folder);
    return probeAdapter(source, { rank, alpha, targetModules }, fill, probe, signal);
  },
};

/** Layers of the sizes that the hub has with a vision part: 4B, 12B, 27B. */
const VISION_LAYERS = [34, 48, 62];

/**
 * transformers loads those sizes as a model whose text part has other names, and PEFT leaves out an adapter whose names it does not
 * find, with a warning only.
 *
 * @throws VoiceGrpoError E_EXPORT
 */
function refuseVision({ layers, name }: PolicyInfo): void {
  if (!VISION_LAYERS.includes(layers)) return;
  throw problem({
    code: 'E_EXPORT',
    expected: 'a text model, 270M or 1B',
    where: '--format peft',
    got: `${name} with ${layers} layers, which PEFT would load as a model with a vision part, without the adapter`,
    next: 'use --format merged, or gguf-lora',
  });
}
