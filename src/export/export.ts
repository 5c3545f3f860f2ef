/**
 * Exports of a trained run, for PEFT, transformers, llama.cpp and Ollama.
 *
 * An export is written aside, read back, and compared with the trained policy; only then it gets its place.
 */
import { statSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { GgufOptions } from '../formats/gguf.js';
import { loadNative } from '../native/load.js';
import { writeFileSynced } from '../run/files.js';
import type { AdapterChoice, TrainedRun } from '../run/trained.js';
import { describeRun } from './describe.js';
import type { ExportSource, Format } from './format.js';
import { ggufLora } from './gguf-lora.js';
import { GGUF_FILE, type GgufType, gguf } from './gguf-model.js';
import { type MergedType, merged } from './merged.js';
import { modelCard } from './model-card.js';
import { modelfile } from './modelfile.js';
import { peft } from './peft.js';
import { CARD, placeFolder, requireFree } from './place.js';
import { type Agreement, compare, probeLogProbs, probeOf, requireAgreement, requireChange } from './verify.js';

export type ExportType = MergedType | GgufType;

export const EXPORT_FORMATS = { peft, 'gguf-lora': ggufLora, merged, gguf } as const;
export type ExportFormat = keyof typeof EXPORT_FORMATS;

/**
 * Largest |Δ log-probability| that rounding to the type may cost: two to three times what was measured on Gemma 3 270M, where the
 * largest is that of an answer the policy would hardly give. All tokens together are held to what verify.ts asks.
 */
const TOLERANCE: Readonly<Record<ExportType, number>> = { f32: 1e-3, f16: 2e-2, bf16: 3e-1, q8_0: 3, q4_k_m: 8 };

export interface ExportOptions extends GgufOptions {
  format: ExportFormat;
  type: ExportType;
  /** The folder to write. */
  output: string;
  /** Replace an export that is there. */
  overwrite: boolean;
  adapter: Exclude<AdapterChoice, 'none'>;
  /** The base model's name on the hub; undefined: as far as run and model say it. */
  baseModel?: string | undefined;
  /** Lets go of the run's policy, before a second model is loaded to be compared; undefined: it stays open. */
  release?: () => void;
  /** Told of what begins. */
  note?: (text: string) => void;
}

export interface ExportResult {
  output: string;
  format: ExportFormat;
  type: ExportType;
  /** Null where nothing says it. */
  baseModel: string | null;
  files: string[];
  /** Bytes of all files. */
  bytes: number;
  agreement: Agreement;
}

/**
 * @throws VoiceGrpoError E_USAGE for a place where something else is, E_DATA for an adapter that changes nothing, E_EXPORT if what
 *   was written is not the trained policy; nothing is left behind then
 */
export async function exportRun(run: TrainedRun, options: ExportOptions): Promise<ExportResult> {
  const { format, type, output, overwrite, signal, note } = options;
  requireFree(output, overwrite);
  const { adapter } = run;
  if (adapter === null) throw new RangeError('an export needs an adapter');
  const probe = probeOf(run.evaluation.prompts, run.dataset.labels, run.dataset.heldOut, run.folder.path);
  const base = await probeLogProbs(run.policy, null, probe, signal);
  const trained = await probeLogProbs(run.policy, adapter, probe, signal);
  requireChange(base, trained, `${run.folder.path}, adapter '${options.adapter}'`);

  const native = loadNative();
  const description = await describeRun(run, native, { adapter: options.adapter, baseModel: options.baseModel });
  const { baseModel, base: info, prompt, stops } = description;
  const title = `${info.name}, tuned: ${basename(run.folder.path)}`;
  const source: ExportSource = {
    native,
    policy: run.policy,
    policyFile: run.policyFile,
    baseType: run.config.policy.base_type,
    adapter,
    targetModules: run.config.lora.target_modules,
    name: title,
    baseModel,
    threads: run.threads,
    release: options.release ?? (() => undefined),
  };
  const { write, readBack } = EXPORT_FORMATS[format] as Format<ExportType>;
  let agreement: Agreement | undefined;
  const files = await placeFolder(output, overwrite, async (folder) => {
    await write(folder, source, type, options);
    note?.('Reading it back.');
    const exported = await readBack(folder, source, probe, signal);
    agreement = compare(base, trained, exported, { prompts: probe.prompts.length, tolerance: TOLERANCE[type] });
    requireAgreement(agreement, `${output} (${format}, ${type})`, type === 'f32');
    if (format === 'gguf') {
      const { max_completion_length: maxCompletionLength } = run.config.grpo;
      const { max_prompt_length: maxPromptLength } = run.config.prompt;
      const lines = modelfile({ model: GGUF_FILE, prompt, stops, maxCompletionLength, maxPromptLength });
      writeFileSynced(join(folder, 'Modelfile'), lines);
    }
    writeFileSynced(join(folder, CARD), modelCard({ ...description, title, format, type, agreement }));
    signal?.throwIfAborted();
  });
  const bytes = files.reduce((sum, name) => sum + statSync(join(output, name)).size, 0);
  return { output, format, type, baseModel, files, bytes, agreement: agreement as Agreement };
}
