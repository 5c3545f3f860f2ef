/** What a model card and a Modelfile say of a run. */
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { problem } from '../errors.js';
import { GgufEntries } from '../formats/gguf-entries.js';
import type { Native } from '../native/addon.js';
import { readJsonOf } from '../run/folder.js';
import type { ModelFiles } from '../run/inputs.js';
import type { TrainedRun } from '../run/trained.js';
import type { Evaluation } from '../types.js';
import type { CardContents } from './model-card.js';
import { PLACEHOLDER } from './modelfile.js';

export type RunDescription = Omit<CardContents, 'title' | 'format' | 'type' | 'agreement'>;

/** @param baseModel the base model's name on the hub, where the run does not know it */
export async function describeRun(
  run: TrainedRun,
  native: Native,
  { adapter, baseModel }: { adapter: 'best' | 'last'; baseModel: string | undefined },
): Promise<RunDescription> {
  using file = await native.openGguf(run.policyFile);
  const entries = new GgufEntries(file.entries);
  const { manifest, config, dataset } = run;
  const { info } = run.policy;
  const evaluation = evaluationOf(run);
  return {
    baseModel: baseModel ?? repositoryOf(run, entries),
    base: {
      name: info.name,
      file: shortName(config.policy.model),
      sha256: (manifest.sha256 as { policy: string }).policy,
      stored: info.baseType,
      license: entries.string('general.license'),
    },
    config,
    data: {
      source: shortName(config.data.source),
      labels: dataset.labels,
      train: dataset.train.length,
      heldOut: dataset.heldOut.length,
      usedText: run.usedText,
      whisper: shortName(config.whisper.model),
    },
    rewardModules: config.rewards.modules.map(({ module, weight }) => ({ name: shortName(module), weight })),
    adapter: { choice: adapter, step: adapter === 'best' ? (evaluation?.best_step ?? null) : null },
    evaluation: { before: evaluation?.before ?? null, after: evaluation?.after ?? null },
    ...promptOf(run),
    versions: (manifest.versions ?? {}) as Record<string, string>,
  };
}

/** A name of the hub as it is, of a path the last part: a card is made to be passed on, and says nothing of folders here. */
function shortName(name: string): string {
  return name.startsWith('.') || name.startsWith('~') || name.startsWith('/') || existsSync(name)
    ? basename(name)
    : name;
}

/** The repository of the weights as transformers loads them; null where nothing says it. */
function repositoryOf({ manifest, config }: TrainedRun, entries: GgufEntries): string | null {
  const origin = (manifest.models as ModelFiles['origins'] | undefined)?.policy;
  if (origin !== undefined && basename(origin.file) === 'config.json') return origin.repository;
  // A name without GGUF files, for which those of the repository beside it were taken.
  if (origin?.repository === `${config.policy.model}-GGUF`) return config.policy.model;
  const url = entries.string('general.base_model.0.repo_url') ?? '';
  return /^https:\/\/huggingface\.co\/([\w.-]+\/[\w.-]+)$/.exec(url)?.[1] ?? null;
}

interface StoredEvaluation {
  best_step: number | null;
  before: Evaluation;
  after: Evaluation | null;
}

/** Null for a run that has not come to its end. */
function evaluationOf(run: TrainedRun): StoredEvaluation | null {
  const name = 'evaluation.json';
  if (!existsSync(join(run.folder.path, name))) return null;
  return readJsonOf(run.folder, name, (value): value is StoredEvaluation => {
    const { before, after } = (value ?? {}) as Partial<StoredEvaluation>;
    const isWhole = (e: Evaluation): boolean =>
      [e.n, e.accuracy, e.macro_f1, e.reward].every(Number.isFinite) &&
      Array.isArray(e.confusion) &&
      Array.isArray(e.labels);
    return before !== undefined && isWhole(before) && (after === null || (after !== undefined && isWhole(after)));
  });
}

/** The prompt of any clip, and what ends its answer. A base model's worked examples are drawn once. */
function promptOf({
  evaluation: { prompts, policy },
  config,
}: TrainedRun): Pick<RunDescription, 'prompt' | 'workedExamples' | 'stops'> {
  const clip = { id: PLACEHOLDER, file: '', label: '', transcript: PLACEHOLDER };
  const begin = policy.info.bosToken?.text ?? '';
  const { text } = prompts.build(clip, null);
  if (!text.includes(PLACEHOLDER)) {
    throw problem({
      code: 'E_CONFIG',
      expected: 'a prompt with room for a transcript',
      where: 'prompt.max_prompt_length',
      got: `${config.prompt.max_prompt_length} tokens, which the rest of it fills`,
      next: 'train with a larger --max-prompt-length or a shorter instruction',
    });
  }
  const tokens = [...prompts.stopTokens].map((token) => policy.detokenize(Int32Array.of(token), { special: true }));
  return {
    prompt: begin !== '' && text.startsWith(begin) ? text.slice(begin.length) : text,
    workedExamples: prompts.mode === 'completion',
    stops: [...new Set([...prompts.stopStrings, ...tokens])].filter((stop) => stop !== ''),
  };
}
