/**
 * The named records that the stages exchange, in the order of the data:
 * clip → transcript → prompt → rollouts → rewards → advantages → update → checkpoint → evaluation.
 *
 * Letters: B prompts in a step, G completions of one prompt, N = B·G, P prompt tokens, L completion tokens.
 */

/** One recording with the name of the dataset it belongs to. */
export interface Clip {
  /** SHA-256 of the file's bytes, hexadecimal: the clip's identity, whatever its name. */
  id: string;
  /** Path of the audio file. */
  file: string;
  /** The dataset's name, which is the answer that the policy should give. */
  label: string;
  /** What was said, where the data says so. */
  reference?: string;
}

/** A clip and what Whisper heard in it. */
export interface TranscribedClip extends Clip {
  transcript: string;
  /** Why the transcript may be wrong, see transcription/doubt.ts; absent where nothing speaks against it. */
  suspect?: string[];
}

/** The tokens the policy reads for one clip. */
export interface Prompt {
  clip: TranscribedClip;
  /** Distinguishes the prompts of one step in the counted random numbers. */
  key: number;
  text: string;
  tokens: Int32Array; // [P]
  /** True if the transcript was cut to keep P within `prompt.max_prompt_length`. */
  truncated: boolean;
}

/** One answer that the policy sampled. */
export interface Rollout {
  /** The answer without its stop. */
  text: string;
  tokens: Int32Array; // [length], stop included
  /** [length], at the rollout's temperature; null for an answer that was tried and not sampled. */
  logProbs: Float32Array | null;
  /** True if the answer ran into `grpo.max_completion_length` without a stop. */
  truncated: boolean;
}

/** The G answers to one prompt. */
export interface Group {
  prompt: Prompt;
  rollouts: Rollout[]; // [G]
}

/** What a reward is told about one answer. */
export interface RewardInput {
  /** The answer without its stop. */
  completion: string;
  /** The clip's label. */
  label: string;
  /** All labels, in the order of the configuration. */
  labels: readonly string[];
  transcript: string;
  prompt: string;
  /** Clip label → its share among the training clips; sums to 1. */
  labelShares: Readonly<Record<string, number>>;
  /** The labels predicted lately, oldest first, at most 64 × labels. */
  recentPredictions: readonly string[];
}

/** Rewards of N answers, before and after weights. */
export interface ScoredBatch {
  /** Reward name → value of each answer, unweighted. */
  values: Record<string, Float64Array>; // each [N]
  /** Σ weight · value. */
  totals: Float64Array; // [N]
}

/** Advantages of N answers and what is worth knowing about their groups. */
export interface Advantages {
  advantages: Float64Array; // [N]
  /** True for a group whose rewards are all equal: it teaches nothing. */
  dead: boolean[]; // [B]
}

/** One line of metrics.jsonl: TRL's names, numbers or null where a number does not exist. */
export type StepStats = { step: number } & Record<string, number | null>;

/** The answers to a set of clips and how good they are. */
export interface Evaluation {
  /** Clips evaluated. */
  n: number;
  accuracy: number;
  macro_f1: number;
  /** Mean weighted reward of the greedy answers. */
  reward: number;
  labels: string[];
  /** confusion[target][predicted]; the last column is 'other': an answer that is no label. */
  confusion: number[][];
  predictions: Prediction[];
}

export interface Prediction {
  id: string;
  label: string;
  /** The greedy answer, trimmed. */
  answer: string;
  /** The label the answer is, or null. */
  predicted: string | null;
  reward: number;
  /** Label → probability, normalised over the labels. */
  probabilities: Record<string, number>;
  /** Share of the policy's whole probability that lies on the labels. */
  label_mass: number;
}
