/** Prompts: a transcript → the tokens that the policy reads. */
import { Template } from '@huggingface/jinja';
import type { Config } from '../config/load.js';
import { problem } from '../errors.js';
import type { NativePolicy } from '../native/addon.js';
import { hash32, shuffled } from '../random.js';
import type { Prompt, TranscribedClip } from '../types.js';
import { drawClip } from './data.js';

export type PromptOptions = Config['prompt'];
export type PromptPolicy = Pick<NativePolicy, 'info' | 'tokenize' | 'detokenize'>;

export interface PromptBuilder {
  mode: 'chat' | 'completion';
  /** Tokens that end an answer. */
  stopTokens: Int32Array;
  /** Texts that end an answer. */
  stopStrings: string[];
  /**
   * The prompt of a clip.
   *
   * @param draw which worked examples: (step, place in the step) in training; null: a fixed draw by the clip's content
   */
  build(clip: TranscribedClip, draw: { step: number; place: number } | null): Prompt;
  /** The tokens of a label as an answer, its stop included. */
  answerTokens(label: string): Int32Array;
}

/**
 * @param examples training clips, the source of worked examples; never the clip of the prompt itself
 * @throws VoiceGrpoError E_CONFIG if chat mode is asked for and the model has no template, or nothing fits the limit
 */
export function createPromptBuilder(
  policy: PromptPolicy,
  options: PromptOptions,
  labels: readonly string[],
  examples: readonly TranscribedClip[],
  seed: number,
): PromptBuilder {
  const template = policy.info.chatTemplate;
  const mode = options.mode === 'auto' ? (template === null ? 'completion' : 'chat') : options.mode;
  if (mode === 'chat' && template === null) {
    throw problem({
      code: 'E_CONFIG',
      expected: 'a model with a chat template',
      where: 'prompt.mode',
      got: `'chat' with ${policy.info.name}, which has none`,
      next: 'use --prompt-mode completion, or an instruction-tuned model',
    });
  }
  const render: (transcript: string, drawn: readonly TranscribedClip[]) => string =
    mode === 'chat'
      ? (transcript) => renderChat(template as string, policy.info, labels, options, transcript)
      : (transcript, drawn) => renderCompletion(policy, labels, options, transcript, drawn);
  const tokenize = (text: string) =>
    policy.tokenize(text, { addBos: mode === 'completion' && policy.info.addBos, parseSpecial: true });
  const stop = mode === 'chat' ? endOfTurn(policy) : policy.tokenize('\n\n', { addBos: false, parseSpecial: false });

  return {
    mode,
    stopTokens: Int32Array.from(policy.info.stopTokens),
    stopStrings: mode === 'chat' ? [] : ['\n'],
    build(clip, draw) {
      const drawn = mode === 'chat' ? [] : drawExamples(clip, draw, options, labels, examples, seed);
      const fitted = fit((transcript) => render(transcript, drawn), tokenize, policy, options, plain(clip.transcript));
      const key = hash32(draw === null ? `${clip.id}:held-out` : `${clip.id}:${draw.place}`);
      return { clip, key, ...fitted };
    },
    answerTokens(label) {
      const answer = policy.tokenize(mode === 'chat' ? label : ` ${label}`, { addBos: false, parseSpecial: false });
      return Int32Array.from([...answer, ...stop]);
    },
  };
}

/** One line, without anything that a tokenizer would read as a control token. */
export function plain(transcript: string): string {
  return withoutControlTokens(transcript.replace(/\s+/gu, ' ').trim());
}

/** A blank takes from '<end_of_turn>' and the like what makes them a token. */
export function withoutControlTokens(text: string): string {
  return text.replace(/<(?=\/?[A-Za-z_|][\w|]*>)/gu, '< ');
}

function filled(text: string, values: Record<string, string>): string {
  return text.replace(/\{(\w+)\}/gu, (whole, name: string) =>
    Object.hasOwn(values, name) ? (values[name] as string) : whole,
  );
}

/** One line a label: its name and, where the configuration has one, its description. */
export function labelLines(labels: readonly string[], descriptions: Record<string, string>): string {
  return labels
    .map((label) => {
      const description = Object.hasOwn(descriptions, label) ? descriptions[label] : undefined;
      return description === undefined || description === '' ? label : `${label}: ${description}`;
    })
    .join('\n');
}

/** 'a, b or c' */
export function nameList(labels: readonly string[]): string {
  return labels.length < 2 ? labels.join('') : `${labels.slice(0, -1).join(', ')} or ${labels.at(-1)}`;
}

function renderChat(
  template: string,
  info: NativePolicy['info'],
  labels: readonly string[],
  options: PromptOptions,
  transcript: string,
): string {
  const system = filled(options.system, { labels: labelLines(labels, options.labels), names: nameList(labels) });
  const user = filled(options.user, { transcript });
  // Gemma's turns have no system role: the instruction goes in front of the user's text.
  const content = system === '' ? user : `${system}\n\n${user}`;
  try {
    return new Template(template).render({
      messages: [{ role: 'user', content }],
      add_generation_prompt: true,
      bos_token: info.bosToken?.text ?? '',
      eos_token: info.eosToken?.text ?? '',
    });
  } catch (error) {
    throw problem({
      code: 'E_MODEL',
      expected: 'a chat template that can be rendered',
      where: info.name,
      got: (error as Error).message,
      next: 'use --prompt-mode completion, or another model file',
    });
  }
}

function renderCompletion(
  policy: PromptPolicy,
  labels: readonly string[],
  options: PromptOptions,
  transcript: string,
  drawn: readonly TranscribedClip[],
): string {
  const parts = drawn.map((clip) =>
    filled(options.completion_example, {
      transcript: cut(policy, plain(clip.transcript), options.max_example_length),
      label: clip.label,
    }),
  );
  const open = options.completion_example.slice(0, options.completion_example.indexOf('{label}')).trimEnd();
  const system = filled(options.completion_system, {
    labels: labelLines(labels, options.labels),
    names: nameList(labels),
  });
  return [...(system === '' ? [] : [system]), ...parts, filled(open, { transcript })].join('\n\n');
}

/** Worked examples: k of each label, never the clip itself, shuffled together. */
function drawExamples(
  clip: TranscribedClip,
  draw: { step: number; place: number } | null,
  options: PromptOptions,
  labels: readonly string[],
  examples: readonly TranscribedClip[],
  seed: number,
): TranscribedClip[] {
  const stream = draw === null ? `example:${clip.id}` : 'example';
  const [a, b] = draw === null ? [0, 0] : [draw.step, draw.place];
  const drawn: TranscribedClip[] = [];
  for (const label of labels) {
    let deck = examples.filter((example) => example.label === label && example.id !== clip.id);
    for (let k = 0; k < options.examples_per_label && deck.length > 0; k++) {
      const example = drawClip(deck, seed, `${stream}:${label}`, a, b, k);
      drawn.push(example);
      deck = deck.filter((other) => other.id !== example.id);
    }
  }
  return shuffled(drawn, seed, `${stream}:order`, a, b);
}

/** The first tokens of a text, as text. */
function cut(policy: PromptPolicy, text: string, limit: number): string {
  const tokens = policy.tokenize(text, { addBos: false, parseSpecial: false });
  // A cut inside a character leaves replacement characters; they are no words of the speaker.
  return tokens.length <= limit
    ? text
    : policy
        .detokenize(tokens.slice(0, limit), { special: false })
        .replace(/\uFFFD+$/u, '')
        .trim();
}

/** Cuts the transcript, and only it, until the whole prompt has at most `max_prompt_length` tokens. */
function fit(
  render: (transcript: string) => string,
  tokenize: (text: string) => Int32Array,
  policy: PromptPolicy,
  options: PromptOptions,
  transcript: string,
): { text: string; tokens: Int32Array; truncated: boolean } {
  let text = render(transcript);
  let tokens = tokenize(text);
  if (tokens.length <= options.max_prompt_length) {
    return { text, tokens, truncated: false };
  }
  let keep = policy.tokenize(transcript, { addBos: false, parseSpecial: false }).length;
  while (tokens.length > options.max_prompt_length) {
    if (keep === 0) {
      throw problem({
        code: 'E_CONFIG',
        expected: 'an instruction that leaves room for a transcript',
        where: 'prompt.max_prompt_length',
        got: `${options.max_prompt_length} tokens, while the instruction alone has ${tokens.length}`,
        next: `use --max-prompt-length ${tokens.length + 64}, or a shorter instruction`,
      });
    }
    keep = Math.max(0, keep - Math.max(1, tokens.length - options.max_prompt_length));
    text = render(cut(policy, transcript, keep));
    tokens = tokenize(text);
  }
  return { text, tokens, truncated: true };
}

/** The token that ends a turn: '<end_of_turn>' where the vocabulary has it, else the end of the text. */
function endOfTurn(policy: PromptPolicy): Int32Array {
  const { stopTokens, eosToken } = policy.info;
  const other = stopTokens.find((token) => token !== eosToken?.id);
  const stop = other ?? eosToken?.id;
  return Int32Array.from(stop === undefined ? [] : [stop]);
}
