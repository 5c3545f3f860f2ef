/** Regenerates one group of a run: the loop again from a checkpoint in a temporary folder, up to the step in question. The run is only read. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../config/load.js';
import { problem } from '../errors.js';
import { type Generated, train } from '../grpo.js';
import type { NativeAdapter, NativePolicy } from '../native/addon.js';
import { standardDeviation } from '../pipeline/advantages.js';
import { checkpointFault, listCheckpoints } from '../pipeline/checkpoint.js';
import { packGroups, unpackRows } from '../pipeline/rollout.js';
import { type RewardPart, rewardParts } from '../rewards/arithmetic.js';
import type { WeightedReward } from '../rewards/weighted.js';
import type { Group, RewardInput } from '../types.js';
import { type RunFolder, runFolder, type StoredDataset } from './folder.js';

/** One token of an answer. */
export interface ReplayedToken {
  id: number;
  text: string;
  /** Under the policy of that step, at the rollout's temperature. */
  logProb: number;
  /** Under the base model, without the adapter. */
  baseLogProb: number;
}

/** One answer with all that became of it. */
export interface ReplayedAnswer {
  text: string;
  /** False for a label that was tried besides. */
  sampled: boolean;
  truncated: boolean;
  rewards: RewardPart[];
  reward: number;
  advantage: number;
  /** Of each of its tokens in the loss; 0: it is left out. */
  lossWeight: number;
  tokens: ReplayedToken[];
}

/** How the regenerated lines compare with those of completions.jsonl. */
export interface ReplayComparison {
  /** Null: the run has no lines to compare with. */
  exact: boolean | null;
  /** Lines compared. */
  lines: number;
  /** What differs, in words: 'answer 3: completion'. */
  differences: string[];
}

/** A group as it was at its step. */
export interface Replay {
  step: number;
  prompt: number;
  /** The checkpoint that the replay began at; null: the start. */
  checkpoint: string | null;
  stepsRepeated: number;
  clip: string;
  label: string;
  transcript: string;
  promptText: string;
  temperature: number;
  dead: boolean;
  mean: number;
  /** With Bessel's correction. */
  std: number;
  answers: ReplayedAnswer[];
  comparison: ReplayComparison;
}

/** What a replay needs: the run as it is stored, with its policy loaded. */
export interface ReplaySource {
  folder: RunFolder;
  config: Config;
  dataset: StoredDataset;
  policy: NativePolicy;
  rewards: readonly WeightedReward[];
}

/** Ends the loop once the group is there. */
class Found extends Error {
  constructor(readonly replay: Replay) {
    super('found');
  }
}

/**
 * @param prompt from 0, among the prompts of the step
 * @param onProgress is told of each step that is repeated
 * @throws VoiceGrpoError E_DATA for a step or a prompt that the run does not have, E_ABORTED
 */
export async function replayGroup(
  source: ReplaySource,
  step: number,
  prompt: number,
  onProgress: (step: number, first: number) => void = () => undefined,
  signal?: AbortSignal,
): Promise<Replay> {
  const { folder, config, dataset, policy, rewards } = source;
  const stored = storedLines(folder, step);
  const checkpoint = checkpointBefore(folder, step);
  const first = checkpoint === null ? 1 : Number(checkpoint.slice('step-'.length)) + 1;
  const temporary = mkdtempSync(join(tmpdir(), 'voicegrpo-replay-'));
  try {
    const copy = runFolder(temporary);
    mkdirSync(copy.checkpoints);
    if (checkpoint !== null) {
      cpSync(join(folder.checkpoints, checkpoint), join(copy.checkpoints, checkpoint), { recursive: true });
    }
    // Evaluations change no adapter, and that the run reached the step is known: neither they nor early stopping are needed.
    const own = structuredClone(config);
    own.stopping = { ...own.stopping, patience: 0, target_accuracy: null };
    own.output = { ...own.output, log_completions: true, save_steps: own.grpo.max_steps + 1 };
    let before = 0;
    await train({
      config: own,
      policy,
      dataset: { ...dataset, heldOut: [], unheard: [] },
      rewards,
      folder: copy,
      resume: true,
      observer: {
        step: (stats) => {
          if (stats.step >= step) {
            throw noSuch(step, prompt, before, folder);
          }
          onProgress(stats.step, first);
        },
        evaluated: () => undefined,
        note: () => undefined,
        generated: async (generation) => {
          signal?.throwIfAborted();
          if (generation.step !== step) {
            return;
          }
          const b = prompt - before;
          before += generation.groups.length;
          if (b >= 0 && b < generation.groups.length) {
            const group = await groupOf(generation, b, policy, rewards);
            const size = group.answers.length;
            const lines = generation.lines.slice(b * size, (b + 1) * size).map((line) => JSON.stringify(line));
            const at = prompt * size;
            const comparison = compare(stored === null ? null : stored.slice(at, at + size), lines);
            throw new Found({ ...group, step, prompt, checkpoint, stepsRepeated: step - first, comparison });
          }
        },
      },
    });
    throw noSuch(step, prompt, before, folder);
  } catch (error) {
    if (error instanceof Found) {
      return error.replay;
    }
    throw error;
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** Name of the newest whole checkpoint from before a step. */
function checkpointBefore({ checkpoints }: RunFolder, step: number): string | null {
  return (
    listCheckpoints(checkpoints)
      .filter((name) => Number(name.slice('step-'.length)) < step && checkpointFault(join(checkpoints, name)) === null)
      .at(-1) ?? null
  );
}

/** The lines of completions.jsonl of a step; null where the run logged none. */
function storedLines({ path }: RunFolder, step: number): string[] | null {
  const file = join(path, 'completions.jsonl');
  if (!existsSync(file)) {
    return null;
  }
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith(`{"step":${step},`));
}

function noSuch(step: number, prompt: number, prompts: number, { path }: RunFolder): Error {
  return problem({
    code: 'E_DATA',
    expected: prompts === 0 ? 'a step that generated answers' : `a prompt from 0 to ${prompts - 1}`,
    where: `step ${step} of ${path}`,
    got: prompts === 0 ? 'one that used those of an earlier step, or that was never made' : `prompt ${prompt}`,
    next: 'see the steps and prompts of completions.jsonl',
  });
}

async function groupOf(
  generation: Generated,
  b: number,
  policy: NativePolicy,
  rewards: readonly WeightedReward[],
): Promise<Omit<Replay, 'step' | 'prompt' | 'checkpoint' | 'stepsRepeated' | 'comparison'>> {
  const { groups, inputs, scored, advantages, dead, weights, temperature, adapter, step } = generation;
  const group = groups[b] as Group;
  const size = group.rollouts.length;
  const own = await logProbs(policy, adapter, group, temperature);
  const base = await logProbs(policy, null, group, temperature);
  const totals = scored.totals.slice(b * size, (b + 1) * size);
  const { clip, text } = group.prompt;
  return {
    clip: clip.id,
    label: clip.label,
    transcript: clip.transcript,
    promptText: text,
    temperature,
    dead: dead[b] as boolean,
    mean: totals.reduce((sum, value) => sum + value, 0) / size,
    std: standardDeviation(totals),
    answers: group.rollouts.map((rollout, g) => {
      const n = b * size + g;
      return {
        text: rollout.text,
        sampled: rollout.logProbs !== null,
        truncated: rollout.truncated,
        rewards: rewardParts(rewards, inputs[n] as RewardInput, (name) => scored.values[name]?.[n] as number, step),
        reward: scored.totals[n] as number,
        advantage: advantages[n] as number,
        lossWeight: weights[n] as number,
        tokens: Array.from(rollout.tokens, (id, t) => ({
          id,
          text: policy.detokenize(Int32Array.of(id), { special: true }),
          logProb: (rollout.logProbs ?? (own[g] as Float32Array))[t] as number,
          baseLogProb: (base[g] as Float32Array)[t] as number,
        })),
      };
    }),
  };
}

async function logProbs(
  policy: NativePolicy,
  adapter: NativeAdapter | null,
  { prompt, rollouts }: Group,
  temperature: number,
): Promise<Float32Array[]> {
  const packed = packGroups([{ prompt, answers: rollouts.map(({ tokens }) => tokens) }]);
  const result = await policy.logProbs({ ...packed, adapter, temperature: temperature === 0 ? 1 : temperature });
  return unpackRows(result.logProbs, packed.lengths, packed.maxCompletionLength);
}

/** Byte for byte; where lines differ, the fields that do. */
export function compare(stored: readonly string[] | null, regenerated: readonly string[]): ReplayComparison {
  if (stored === null || stored.length === 0) {
    return { exact: null, lines: 0, differences: [] };
  }
  const differences = regenerated.flatMap((line, i) => {
    const other = stored[i];
    if (other === line) {
      return [];
    }
    const [before, now] = [parsed(other), parsed(line)];
    const fields = [...new Set([...Object.keys(before), ...Object.keys(now)])].filter(
      (key) => JSON.stringify(before[key]) !== JSON.stringify(now[key]),
    );
    return [`answer ${i}: ${other === undefined ? 'no line' : fields.join(', ') || 'the order of its fields'}`];
  });
  return { exact: differences.length === 0, lines: stored.length, differences };
}

function parsed(line: string | undefined): Record<string, unknown> {
  try {
    return JSON.parse(line ?? '{}') as Record<string, unknown>;
  } catch {
    return {};
  }
}
