/**
 * Whether an export is the trained policy: log-probabilities of every label as the answer to a fixed set of prompts, of the
 * export, the trained policy and the base model.
 */
import { problem } from '../errors.js';
import type { NativeAdapter, NativePolicy } from '../native/addon.js';
import type { PromptBuilder } from '../pipeline/prompt.js';
import { packGroups, unpackRows } from '../pipeline/rollout.js';
import type { Prompt, TranscribedClip } from '../types.js';

/** The fixed set: as many held-out clips, taken evenly from all. */
const PROMPTS = 12;
/** Of the prompts that go through the model at once. */
const AT_ONCE = 4;
/** An adapter that moves no log-probability by more than this has taught nothing. */
const LEAST_CHANGE = 1e-4;
/** The share of what was learned that an export has to show: without the adapter it is 0, with alpha applied twice 2. */
const SHARE = { least: 0.7, most: 1.3 };
/** What rounding may add, as a share of what was learned; as much as this would be another policy. */
const MOST_ERROR = 0.5;

export interface Probe {
  prompts: readonly Prompt[];
  answers: readonly Int32Array[];
}

export interface Agreement {
  prompts: number;
  /** Tokens compared. */
  tokens: number;
  /** Largest |Δ log-probability| between export and trained policy. */
  maxDifference: number;
  /** What it may be. */
  tolerance: number;
  /** Largest |Δ log-probability| between base model and trained policy. */
  change: number;
  /** (export − base) · (trained − base) / |trained − base|²: 1 if the export has all that was learned, 0 if nothing. */
  share: number;
  /** |export − trained|² / |trained − base|². */
  error: number;
}

/** @throws VoiceGrpoError E_DATA for a run without held-out clips */
export function probeOf(
  prompts: PromptBuilder,
  labels: readonly string[],
  clips: readonly TranscribedClip[],
  where: string,
): Probe {
  if (clips.length === 0) {
    throw problem({
      code: 'E_DATA',
      expected: 'held-out clips, on which an export is compared with the trained policy',
      where,
      got: 'none',
      next: 'train with --held-out-per-dataset 1 or more',
    });
  }
  const chosen = Array.from(
    { length: Math.min(PROMPTS, clips.length) },
    (_, i) => clips[Math.floor(i * Math.max(1, clips.length / PROMPTS))] as TranscribedClip,
  );
  return {
    prompts: chosen.map((clip) => prompts.build(clip, null)),
    answers: labels.map((label) => prompts.answerTokens(label)),
  };
}

/** [tokens]: of each answer's tokens after each prompt. */
export async function probeLogProbs(
  policy: NativePolicy,
  adapter: NativeAdapter | null,
  { prompts, answers }: Probe,
  signal?: AbortSignal,
): Promise<Float64Array> {
  const all: number[] = [];
  for (let i = 0; i < prompts.length; i += AT_ONCE) {
    const packed = packGroups(prompts.slice(i, i + AT_ONCE).map((prompt) => ({ prompt, answers })));
    const { logProbs } = await policy.logProbs({ ...packed, adapter, temperature: 1 }, signal);
    for (const row of unpackRows(logProbs, packed.lengths, packed.maxCompletionLength)) all.push(...row);
  }
  return Float64Array.from(all);
}

/** @throws VoiceGrpoError E_DATA if the adapter changes nothing, so that there is nothing to export */
export function requireChange(base: Float64Array, trained: Float64Array, where: string): void {
  const change = maxDifference(base, trained);
  if (change > LEAST_CHANGE) return;
  throw problem({
    code: 'E_DATA',
    expected: 'an adapter that changes the model',
    where,
    got: Number.isNaN(change)
      ? 'one with which log-probabilities are no numbers'
      : `one that moves no log-probability by more than ${change.toExponential(1)}`,
    next: 'train longer or with a larger --learning-rate, or choose the other one of --adapter best and last',
  });
}

export function compare(
  base: Float64Array,
  trained: Float64Array,
  exported: Float64Array,
  { prompts, tolerance }: { prompts: number; tolerance: number },
): Agreement {
  let shared = 0;
  let missed = 0;
  let size = 0;
  for (let i = 0; i < base.length; i++) {
    const learned = (trained[i] as number) - (base[i] as number);
    shared += learned * ((exported[i] as number) - (base[i] as number));
    missed += ((exported[i] as number) - (trained[i] as number)) ** 2;
    size += learned * learned;
  }
  return {
    prompts,
    tokens: base.length,
    maxDifference: maxDifference(trained, exported),
    tolerance,
    change: maxDifference(base, trained),
    share: shared / size,
    error: missed / size,
  };
}

/**
 * @param exact whether the type holds every float32, so that rounding cannot be the reason
 * @throws VoiceGrpoError E_EXPORT with the figures if the export is not the trained policy
 */
export function requireAgreement(agreement: Agreement, where: string, exact: boolean): void {
  const { maxDifference: difference, tolerance, share, error } = agreement;
  if (difference <= tolerance && share >= SHARE.least && share <= SHARE.most && error <= MOST_ERROR) return;
  const percent = (value: number): string => `${(100 * value).toFixed(0)}%`;
  throw problem({
    code: 'E_EXPORT',
    expected: `log-probabilities within ${tolerance} of the trained policy's, and what it learned in them`,
    where,
    got: `a difference of ${difference.toPrecision(3)}, ${percent(share)} of what was learned and an error of ${percent(error)} of it; nothing was kept`,
    next: exact
      ? 'this is a defect of voicegrpo: please report it with the name of the base model'
      : 'choose a larger type by --type, or --format gguf-lora, which leaves the base model as it is',
  });
}

/** NaN if a number is missing or is none. */
function maxDifference(a: Float64Array, b: Float64Array): number {
  if (a.length !== b.length) return Number.NaN;
  return a.reduce((most, value, i) => {
    const difference = Math.abs(value - (b[i] as number));
    return difference > most || Number.isNaN(difference) ? difference : most;
  }, 0);
}
