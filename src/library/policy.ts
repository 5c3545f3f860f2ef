/**
 * The policy as a library: a Gemma 3 model with or without a LoRA adapter.
 *
 *     using policy = await Policy.open('bundled');
 *     const [answers] = await policy.generate(['The sky is'], { numGenerations: 4 });
 *     const [{ label }] = await policy.classify('runs/tiny', ['Write a poem in exactly two lines.']);
 */
import { existsSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { Template } from '@huggingface/jinja';
import { loadConfig } from '../config/load.js';
import { problem, VoiceGrpoError } from '../errors.js';
import { Hub } from '../hub/client.js';
import { type HubEnvironment, hubEnvironment } from '../hub/environment.js';
import {
  type AdapterOptions,
  type BaseType,
  FINISH_LENGTH,
  type NativeAdapter,
  type NativePolicy,
  type PolicyInfo,
} from '../native/addon.js';
import { loadNative } from '../native/load.js';
import { hashFile } from '../pipeline/data.js';
import { answerClips } from '../pipeline/evaluate.js';
import { createPromptBuilder, withoutControlTokens } from '../pipeline/prompt.js';
import { packGroups, packPrompts, unpackRows } from '../pipeline/rollout.js';
import { hash32 } from '../random.js';
import { prepareDevice } from '../run/device.js';
import { sha256 } from '../run/files.js';
import { openRun } from '../run/folder.js';
import { modelFile } from '../run/inputs.js';
import { Progress } from '../run/progress.js';
import { loadAdapterFolder } from './adapters.js';
import { asVoiceGrpoError, safely } from './errors.js';
import { lineStream } from './lines.js';

export interface PolicyOpenOptions {
  /** How the frozen weights are stored. Default 'auto'. */
  type?: BaseType | undefined;
  /** Default: one for each processor. Results do not depend on it. */
  threads?: number | undefined;
  /** 'auto', 'cpu', 'cuda' or 'cuda:N'. Default 'auto'. Models that are opened later in this process stand there too. */
  device?: string | undefined;
  /** Where models of the hub come from. Default: what the environment says. */
  hub?: HubEnvironment | undefined;
  /** Is told what is fetched or converted, a line at a time. */
  onNote?: ((line: string) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface ChatMessage {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

/**
 * A text that is continued as it stands (control tokens in it are read as such), or the messages of a chat, which the model's own
 * template renders and in which control tokens are mere text.
 */
export type PolicyPrompt = string | readonly ChatMessage[];

interface PassOptions {
  /** Default: none, the base model. */
  adapter?: NativeAdapter | null | undefined;
  signal?: AbortSignal | undefined;
}

export interface GenerateOptions extends PassOptions {
  /** G, answers to each prompt. Default 1. */
  numGenerations?: number | undefined;
  /** L, tokens of the longest answer. Default 64. */
  maxCompletionLength?: number | undefined;
  /** Default 1; 0 takes the likeliest token. */
  temperature?: number | undefined;
  /** Sample among this many likeliest tokens. Default 0: all. */
  topK?: number | undefined;
  /** Sample among the likeliest tokens that hold this probability. Default 1: all. */
  topP?: number | undefined;
  /** Equal seeds give equal answers to a prompt, whatever else is asked in the call. Default 0. */
  seed?: number | undefined;
  /** Texts that end an answer, beside the tokens that end a turn. Default: none. */
  stop?: readonly string[] | undefined;
}

export interface Completion {
  /** Without its stop. */
  text: string;
  tokens: Int32Array; // [length], stop included
  /** Of each token at the temperature of the call; that of 0 counts as 1. */
  logProbs: Float32Array; // [length]
  /** 'length': it ran into maxCompletionLength. */
  finish: 'stop' | 'length';
}

export interface LogProbsOptions extends PassOptions {
  /** Divides the logits. Default 1. */
  temperature?: number | undefined;
}

export interface CompletionLogProbs {
  tokens: Int32Array; // [length]
  logProbs: Float32Array; // [length]
  /** Of the whole distribution at each place, nats. */
  entropies: Float32Array; // [length]
}

export interface ClassifyOptions {
  /** With a run: 'best' (the default), 'last' or 'none'; with either an adapter of this policy, null for the base model. */
  adapter?: 'best' | 'last' | 'none' | NativeAdapter | null | undefined;
  signal?: AbortSignal | undefined;
}

export interface Classification {
  /** The likeliest label. */
  label: string;
  /** Its share of the probability of all labels. */
  probability: number;
  /** Sums to 1. */
  probabilities: Record<string, number>;
  /** What the policy says when it takes the likeliest token each time. */
  answer: string;
  /** Probability that the answer is one of the labels, before it was shared out. */
  labelMass: number;
}

/** One loaded model. Calls may overlap and are done in turn. Whatever fails is a VoiceGrpoError; after close() its code is E_CLOSED. */
export class Policy {
  readonly info: PolicyInfo;
  /** Path of the file that is loaded. */
  readonly file: string;
  readonly #native: NativePolicy;

  private constructor(native: NativePolicy, file: string) {
    this.#native = native;
    this.info = native.info;
    this.file = file;
  }

  /**
   * @param model 'bundled'; a GGUF file or a Hugging Face folder of Gemma 3, which is converted once; or a name on the hub
   * @throws VoiceGrpoError E_MODEL, E_HUB, E_MEMORY, E_DEVICE, E_CONFIG for options out of range, E_ABORTED
   */
  static async open(model = 'bundled', options: PolicyOpenOptions = {}): Promise<Policy> {
    return guarded(options.signal, async () => {
      const { onNote, signal, type = 'auto', threads = availableParallelism(), device = 'auto' } = options;
      within('Policy.open: threads', threads, 1, 512, true);
      if (!['auto', 'f32', 'f16', 'bf16', 'q8_0'].includes(type)) {
        throw misuse('Policy.open: type', 'auto, f32, f16, bf16 or q8_0', `'${type}'`);
      }
      const note = (line: string) => onNote?.(line);
      await using hub = new Hub(options.hub ?? hubEnvironment(), { note });
      const file = await modelFile('policy', model, { hub, progress: new Progress(lineStream(note)), signal });
      if (!existsSync(file) || !statSync(file).isFile()) {
        throw problem({
          code: 'E_MODEL',
          where: 'Policy.open',
          expected: "'bundled', a GGUF file, a Hugging Face folder, or a name on the hub ('org/name')",
          got: `'${model}', which is none of them`,
          next: 'Correct the path or the name.',
        });
      }
      prepareDevice(device, ['policy'], note);
      const native = await loadNative().openPolicy(file, { type, threads });
      if (signal?.aborted) native.close();
      signal?.throwIfAborted();
      return new Policy(native, file);
    });
  }

  /**
   * Answers to B prompts.
   *
   * @returns [B][G], in the order of the prompts
   * @throws VoiceGrpoError E_CONFIG for options out of range or a chat where the model has no template, E_LIMIT for what is longer
   *   than the model's context, E_ARGUMENT for an adapter of another policy, E_ABORTED, E_CLOSED
   */
  async generate(prompts: readonly PolicyPrompt[], options: GenerateOptions = {}): Promise<Completion[][]> {
    const { signal, adapter = null, stop = [], ...sampling } = options;
    const { numGenerations: G = 1, maxCompletionLength: L = 64 } = sampling;
    const { temperature = 1, topK = 0, topP = 1, seed = 0 } = sampling;
    return guarded(signal, async () => {
      within('generate: numGenerations', G, 1, 65536, true);
      within('generate: maxCompletionLength', L, 1, this.info.contextLength, true);
      within('generate: temperature', temperature, 0, 100, false);
      within('generate: topK', topK, 0, 2 ** 31 - 1, true);
      within('generate: topP', topP, Number.MIN_VALUE, 1, false);
      within('generate: seed', seed, 0, Number.MAX_SAFE_INTEGER, true);
      const given = this.#prompts('generate', prompts);
      if (given.length === 0) return [];
      const result = await this.#native.rollout(
        {
          ...{ adapter, numGenerations: G, maxCompletionLength: L, temperature, topK, topP, seed, step: 0 },
          ...packPrompts(given),
          promptKeys: Uint32Array.from(given, ({ key }) => key),
          stopTokens: Int32Array.from(this.info.stopTokens),
          stopStrings: [...stop],
        },
        signal,
      );
      const tokens = rowsOf(result.tokens, result.lengths, L);
      const logProbs = unpackRows(result.logProbs, result.lengths, L);
      return given.map((_, b) =>
        tokens.slice(b * G, (b + 1) * G).map((own, g) => ({
          text: result.texts[b * G + g] as string,
          tokens: own,
          logProbs: logProbs[b * G + g] as Float32Array,
          finish: result.finish[b * G + g] === FINISH_LENGTH ? 'length' : 'stop',
        })),
      );
    });
  }

  /**
   * How likely given completions are.
   *
   * @param completions those of each prompt, [B][any number]: a text, or its tokens as `generate` gives them, with their stop
   * @returns as `completions`
   * @throws as generate does
   */
  async logProbs(
    prompts: readonly PolicyPrompt[],
    completions: readonly (readonly (string | Int32Array)[])[],
    { adapter = null, temperature = 1, signal }: LogProbsOptions = {},
  ): Promise<CompletionLogProbs[][]> {
    return guarded(signal, async () => {
      within('logProbs: temperature', temperature, Number.MIN_VALUE, 100, false);
      const given = this.#prompts('logProbs', prompts);
      if (!Array.isArray(completions) || completions.length !== given.length || !completions.every(Array.isArray)) {
        throw misuse('logProbs: completions', `a list for each of the ${given.length} prompts`, lengthOf(completions));
      }
      const tokens = completions.map((own) =>
        own.map((completion) => (typeof completion === 'string' ? this.tokenize(completion) : completion)),
      );
      const G = Math.max(0, ...tokens.map(({ length }) => length));
      if (G === 0) return tokens.map(() => []);
      // An empty completion is left out by the pass: it makes all groups as large as the largest.
      const packed = packGroups(
        given.map((prompt, b) => ({
          prompt,
          answers: Array.from({ length: G }, (_, g) => tokens[b]?.[g] ?? new Int32Array(0)),
        })),
      );
      const result = await this.#native.logProbs({ ...packed, adapter, temperature }, signal);
      const logProbs = unpackRows(result.logProbs, packed.lengths, packed.maxCompletionLength);
      const entropies = unpackRows(result.entropies, packed.lengths, packed.maxCompletionLength);
      return tokens.map((own, b) =>
        own.map((completion, g) => ({
          tokens: completion,
          logProbs: logProbs[b * G + g] as Float32Array,
          entropies: entropies[b * G + g] as Float32Array,
        })),
      );
    });
  }

  /**
   * The label of each text.
   *
   * @param source the folder of a run that was made with this model: its labels, prompts, worked examples and adapter. Or labels, which
   *   are asked for with the default prompt and the base model
   * @throws VoiceGrpoError E_DATA if the folder is no run, E_MODEL if it was made with another model, E_CONFIG for labels that are none
   */
  async classify(
    source: string | readonly string[],
    texts: readonly string[],
    { adapter, signal }: ClassifyOptions = {},
  ): Promise<Classification[]> {
    return guarded(signal, async () => {
      const empty = texts.findIndex((text) => typeof text !== 'string' || text.trim() === '');
      if (empty >= 0) {
        throw misuse(
          `classify: text ${empty}`,
          'words',
          typeof texts[empty] === 'string' ? 'none' : typeof texts[empty],
        );
      }
      const { config, labels, examples, saved } =
        typeof source === 'string'
          ? await this.#run(source, adapter === undefined ? 'best' : adapter)
          : task(source, adapter);
      const loaded = saved === null ? null : loadAdapterFolder(this.#native, saved);
      try {
        const context = {
          policy: this.#native,
          prompts: createPromptBuilder(this.#native, config.prompt, labels, examples, config.seed),
          labels,
          maxCompletionLength: config.grpo.max_completion_length,
          batchSize: config.evaluation.batch_size,
        };
        const clips = texts.map((transcript) => ({ id: sha256(transcript), file: '', label: '', transcript }));
        const own = adapter !== null && typeof adapter === 'object' ? adapter : loaded;
        const answers = await answerClips(context, own, clips, signal);
        return answers.map(({ answer, probabilities, labelMass }) => {
          const [label, probability] = Object.entries(probabilities).reduce((best, other) =>
            other[1] > best[1] ? other : best,
          );
          return { label, probability, probabilities, answer, labelMass };
        });
      } finally {
        loaded?.close();
      }
    });
  }

  /** A new adapter, which changes nothing until it is trained: B is zero. @throws VoiceGrpoError E_ARGUMENT, E_CLOSED */
  createAdapter(options: AdapterOptions): NativeAdapter {
    return guardedNow(() => this.#native.createAdapter(options));
  }

  /**
   * @param folder with adapter_config.json and adapter_model.safetensors, such as RUN/best
   * @throws VoiceGrpoError E_MODEL, E_CLOSED
   */
  loadAdapter(folder: string): NativeAdapter {
    return guardedNow(() => loadAdapterFolder(this.#native, folder));
  }

  /** Tokens of a text as part of an answer: nothing is put before it, control tokens are text. @returns [length] */
  tokenize(text: string): Int32Array {
    return guardedNow(() => this.#native.tokenize(text, { addBos: false, parseSpecial: false }));
  }

  /** @param tokens [length] */
  detokenize(tokens: Int32Array): string {
    return guardedNow(() => this.#native.detokenize(tokens, { special: false }));
  }

  /** Frees the model once the calls that are under way have used it. Twice is fine. */
  close(): void {
    this.#native.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Tokens of the prompts; a text that comes again has another key, so that its answers are others. */
  #prompts(call: string, prompts: readonly PolicyPrompt[]) {
    if (!Array.isArray(prompts)) {
      throw misuse(`${call}: prompts`, 'a list of texts or of chats', typeof prompts);
    }
    const seen = new Map<string, number>();
    return prompts.map((prompt: PolicyPrompt, b) => {
      const where = `${call}: prompt ${b}`;
      const chat = typeof prompt !== 'string';
      const text = chat ? this.#render(prompt, where) : prompt;
      const tokens = this.#native.tokenize(text, { addBos: !chat && this.info.addBos, parseSpecial: true });
      if (tokens.length === 0) {
        throw misuse(where, 'a text', 'an empty one, and a model that begins with no token of its own');
      }
      const time = seen.get(text) ?? 0;
      seen.set(text, time + 1);
      return { tokens, key: hash32(`${text}:${time}`), text, truncated: false, clip: NO_CLIP };
    });
  }

  #render(messages: readonly ChatMessage[], where: string): string {
    const template = this.info.chatTemplate;
    if (template === null) {
      throw misuse(where, 'a model with a chat template', `a chat, and ${this.info.name} has none`);
    }
    const isChat =
      Array.isArray(messages) &&
      messages.length > 0 &&
      messages.every((message) => typeof message?.role === 'string' && typeof message.content === 'string');
    if (!isChat) {
      throw misuse(where, 'a text, or messages with role and content', JSON.stringify(messages) ?? String(messages));
    }
    try {
      return new Template(template).render({
        messages: messages.map(({ role, content }) => ({ role, content: withoutControlTokens(content) })),
        add_generation_prompt: true,
        bos_token: this.info.bosToken?.text ?? '',
        eos_token: this.info.eosToken?.text ?? '',
      });
    } catch (error) {
      throw misuse(where, "messages that the model's template renders", (error as Error).message);
    }
  }

  /** A run as what is asked, once it is sure that it was made with this model. */
  async #run(path: string, adapter: Exclude<ClassifyOptions['adapter'], undefined>): Promise<Task> {
    const { folder, loaded, manifest, dataset } = openRun(path);
    const wanted = (manifest.sha256 as { policy: string }).policy;
    const found = await hashFile(this.file);
    if (found !== wanted) {
      throw problem({
        code: 'E_MODEL',
        expected: `the model of ${path} (SHA-256 ${wanted.slice(0, 12)}…)`,
        where: 'classify',
        got: `${this.file} (${found.slice(0, 12)}…)`,
        next: `Open ${(manifest.files as { policy: string }).policy}.`,
      });
    }
    if (typeof adapter === 'string' && !['best', 'last', 'none'].includes(adapter)) {
      throw misuse('classify: adapter', "'best', 'last', 'none' or an adapter", `'${adapter}'`);
    }
    const saved = adapter === 'best' || adapter === 'last' ? folder[adapter] : null;
    return { config: loaded.config, labels: dataset.labels, examples: dataset.train, saved };
  }
}

/** What classify asks: with which settings, for which labels, shown which examples, with which saved adapter. */
interface Task {
  config: ReturnType<typeof loadConfig>['config'];
  labels: readonly string[];
  examples: Parameters<typeof createPromptBuilder>[3];
  saved: string | null;
}

/** The field of a prompt that only training reads. */
const NO_CLIP = { id: '', file: '', label: '', transcript: '' };

/** Labels as what is asked. */
function task(labels: readonly string[], adapter: ClassifyOptions['adapter']): Task {
  const isLabels =
    Array.isArray(labels) &&
    labels.length >= 2 &&
    new Set(labels).size === labels.length &&
    labels.every((label) => typeof label === 'string' && label.trim() !== '');
  if (!isLabels) {
    throw misuse('classify: labels', 'the folder of a run, or two or more different names', JSON.stringify(labels));
  }
  if (adapter === 'best' || adapter === 'last') {
    throw misuse('classify: adapter', 'an adapter, null or none where labels are given', `'${adapter}' of no run`);
  }
  return { config: loadConfig('default').config, labels, examples: [], saved: null };
}

/** Rows of [N, L], each cut to its length. */
function rowsOf(packed: Int32Array, lengths: Int32Array, rowLength: number): Int32Array[] {
  return Array.from(lengths, (length, n) => packed.slice(n * rowLength, n * rowLength + length));
}

function lengthOf(value: unknown): string {
  return Array.isArray(value) ? `${value.length} entries` : typeof value;
}

function within(where: string, value: number, least: number, most: number, whole: boolean): void {
  if (!(value >= least && value <= most) || (whole && !Number.isInteger(value))) {
    const from = least === Number.MIN_VALUE ? 'above 0 and up to' : `from ${least} to`;
    throw misuse(where, `a ${whole ? 'whole ' : ''}number ${from} ${most}`, String(value));
  }
}

function misuse(where: string, expected: string, got: string): VoiceGrpoError {
  return problem({ code: 'E_CONFIG', where, expected, got, next: 'Correct it or leave it out.' });
}

/** Errors as VoiceGrpoErrors, an abort as E_ABORTED. */
async function guarded<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  try {
    signal?.throwIfAborted();
    return await safely(work);
  } catch (error) {
    throw signal?.aborted
      ? new VoiceGrpoError('The call was aborted.', { code: 'E_ABORTED', cause: signal.reason })
      : error;
  }
}

function guardedNow<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw asVoiceGrpoError(error);
  }
}
