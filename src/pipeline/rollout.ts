/** Rollouts: prompts → groups of G sampled answers, and the same answers packed for the training pass. */
import {
  FINISH_LENGTH,
  type NativeAdapter,
  type NativePolicy,
  type PackedRequest,
  type RolloutResult,
} from '../native/addon.js';
import type { Group, Prompt, Rollout } from '../types.js';
import type { PromptBuilder } from './prompt.js';

export interface SamplingOptions {
  numGenerations: number; // G
  maxCompletionLength: number; // L
  temperature: number; // 0: greedy
  topK: number;
  topP: number;
  seed: number;
  step: number;
  /** Answers that each prompt gets besides. */
  tried?: readonly Rollout[];
  /** Whether a gradient on these answers follows; it then spares its forward pass. */
  keep?: boolean;
}

/** Samples G answers to each prompt. Equal arguments give equal answers, whatever the layout of the batch. */
export async function sampleGroups(
  policy: NativePolicy,
  adapter: NativeAdapter | null,
  prompts: readonly Prompt[],
  { stopTokens, stopStrings }: Pick<PromptBuilder, 'stopTokens' | 'stopStrings'>,
  { tried = [], ...options }: SamplingOptions,
  signal?: AbortSignal,
): Promise<{ groups: Group[]; seconds: RolloutResult['seconds'] }> {
  const { promptTokens, promptLengths } = packPrompts(prompts);
  const result = await policy.rollout(
    {
      ...options,
      adapter,
      promptTokens,
      promptLengths,
      stopTokens,
      stopStrings: [...stopStrings],
      promptKeys: Uint32Array.from(prompts, ({ key }) => key),
      answers: Int32Array.from(tried.flatMap(({ tokens }) => [...tokens])),
      answerLengths: Int32Array.from(tried, ({ tokens }) => tokens.length),
    },
    signal,
  );
  const { numGenerations: G, maxCompletionLength: L } = options;
  const groups = prompts.map((prompt, b) => {
    const sampled = Array.from({ length: G }, (_, g) => {
      const n = b * (G + tried.length) + g;
      const row = [n * L, n * L + (result.lengths[n] as number)] as const;
      return {
        text: result.texts[n] as string,
        tokens: result.tokens.slice(...row),
        logProbs: result.logProbs.slice(...row),
        truncated: result.finish[n] === FINISH_LENGTH,
      };
    });
    return { prompt, rollouts: [...sampled, ...tried] };
  });
  return { groups, seconds: result.seconds };
}

/**
 * Label exploration: each group gets every label as a further answer, as if the policy had given it.
 *
 * A policy that prefers one label seldom samples the others, so the preferred one is reinforced before they have been tried,
 * and all groups die on it. With every label in every group each prompt says which label was right; over prompts of all labels
 * the pushes on the labels' general likelihood cancel. The tried answers count as on-policy (ratio 1), like the off-policy
 * guidance of Yan et al. 2025 (LUFFY) without its reshaping of the ratio.
 */
export function everyLabel(
  labels: readonly string[],
  answerTokens: (label: string) => Int32Array,
  maxCompletionLength: number,
): Rollout[] {
  return labels.map((label) => {
    const tokens = answerTokens(label);
    return {
      text: label,
      tokens: tokens.slice(0, maxCompletionLength),
      logProbs: null,
      truncated: tokens.length > maxCompletionLength,
    };
  });
}

/** [sum of P] tokens and [B] lengths. */
export function packPrompts(prompts: readonly Prompt[]): { promptTokens: Int32Array; promptLengths: Int32Array } {
  const promptLengths = Int32Array.from(prompts, ({ tokens }) => tokens.length);
  const promptTokens = new Int32Array(promptLengths.reduce((sum, length) => sum + length, 0));
  let at = 0;
  for (const { tokens } of prompts) {
    promptTokens.set(tokens, at);
    at += tokens.length;
  }
  return { promptTokens, promptLengths };
}

/** [prompt | answer 1 | … | answer G] for each group, answers padded with 0 to the longest. */
export function packGroups(
  groups: readonly { prompt: Prompt; answers: readonly Int32Array[] }[],
): Omit<PackedRequest, 'adapter' | 'temperature'> {
  const answers = groups.flatMap((group) => group.answers);
  const lengths = Int32Array.from(answers, (answer) => answer.length);
  const maxCompletionLength = Math.max(1, ...lengths);
  const tokens = new Int32Array(answers.length * maxCompletionLength);
  for (const [n, answer] of answers.entries()) {
    tokens.set(answer, n * maxCompletionLength);
  }
  return {
    ...packPrompts(groups.map(({ prompt }) => prompt)),
    numGenerations: groups[0]?.answers.length ?? 0,
    tokens,
    lengths,
    maxCompletionLength,
  };
}

/** Rows of a packed [N, L] array, each cut to its answer's length. */
export function unpackRows(packed: Float32Array, lengths: Int32Array, rowLength: number): Float32Array[] {
  return Array.from(lengths, (length, n) => packed.slice(n * rowLength, n * rowLength + length));
}

/** [N, L] from rows of different lengths, padded with 0. */
export function packRows(rows: readonly Float32Array[], rowLength: number): Float32Array {
  const packed = new Float32Array(rows.length * rowLength);
  for (const [n, row] of rows.entries()) {
    packed.set(row, n * rowLength);
  }
  return packed;
}
