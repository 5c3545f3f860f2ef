/** What an export format is: how it is written, and how it is read back as a stranger would. */
import { problem } from '../errors.js';
import type { GgufOptions } from '../formats/gguf.js';
import type { AdapterOptions, BaseType, Native, NativeAdapter, NativePolicy, PolicyInfo } from '../native/addon.js';
import type { Prompt } from '../types.js';
import { type Probe, probeLogProbs } from './verify.js';

export interface ExportSource {
  native: Native;
  /** The base model. */
  policy: NativePolicy;
  /** Path of its GGUF file. */
  policyFile: string;
  baseType: BaseType;
  adapter: NativeAdapter;
  targetModules: readonly string[];
  /** The export's title. */
  name: string;
  /** The base model's name on the hub. */
  baseModel: string | null;
  threads: number;
  /** Lets go of policy and adapter, before a second model is loaded. */
  release: () => void;
}

export interface Format<T extends string> {
  /** The default first. */
  types: readonly T[];
  write(folder: string, source: ExportSource, type: T, options: GgufOptions): Promise<void>;
  /** The log-probabilities of the probe by what is in the folder. */
  readBack(folder: string, source: ExportSource, probe: Probe, signal?: AbortSignal): Promise<Float64Array>;
}

/** An adapter that was read back, on the base model. @param fill writes its matrices */
export async function probeAdapter(
  { policy }: ExportSource,
  options: Omit<AdapterOptions, 'seed'>,
  fill: (adapter: NativeAdapter) => void,
  probe: Probe,
  signal?: AbortSignal,
): Promise<Float64Array> {
  const adapter = policy.createAdapter({ ...options, seed: 0 });
  try {
    fill(adapter);
    return await probeLogProbs(policy, adapter, probe, signal);
  } finally {
    adapter.close();
  }
}

/** What of a model no short prompt shows: its ends, its vocabulary, its windows. */
const COMPARED = [
  ...['layers', 'width', 'vocab', 'contextLength', 'slidingWindow'],
  ...['chatTemplate', 'bosToken', 'eosToken', 'stopTokens', 'addBos'],
] as const satisfies (keyof PolicyInfo)[];

/** A whole model that was read back, in the place of the base model. */
export async function probeModel(
  { native, policy: base, threads, release }: ExportSource,
  path: string,
  probe: Probe,
  signal?: AbortSignal,
): Promise<Float64Array> {
  const expected = { info: base.info, tokens: probe.prompts.map((prompt) => tokensOf(base, prompt)) };
  release();
  const policy = await native.openPolicy(path, { type: 'auto', threads });
  try {
    for (const key of COMPARED) requireEqual(key, policy.info[key], expected.info[key], path);
    for (const [i, prompt] of probe.prompts.entries()) {
      requireEqual('tokens of a prompt', tokensOf(policy, prompt), expected.tokens[i], path);
    }
    return await probeLogProbs(policy, null, probe, signal);
  } finally {
    policy.close();
  }
}

function tokensOf(policy: NativePolicy, { text }: Prompt): number[] {
  return [...policy.tokenize(text, { addBos: policy.info.addBos, parseSpecial: true })];
}

/** @throws VoiceGrpoError E_EXPORT */
function requireEqual(what: string, got: unknown, expected: unknown, where: string): void {
  const [wanted, found] = [JSON.stringify(expected), JSON.stringify(got)];
  if (wanted === found) return;
  const short = (text: string): string => (text.length > 60 ? `${text.slice(0, 60)}…` : text);
  throw problem({
    code: 'E_EXPORT',
    expected: `${what} ${short(wanted)}, as the base model has it`,
    where,
    got: `${short(found)}; nothing was kept`,
    next: 'this is a defect of voicegrpo: please report it with the name of the base model',
  });
}
