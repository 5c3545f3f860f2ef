/** The fields of a request, checked: names and values as the OpenAI API has them. */
import type { TranscribeOptions } from '../whisper.js';
import { ApiError } from './api-error.js';
import { languageCode } from './language-name.js';

export type Task = 'transcribe' | 'translate';

export const RESPONSE_FORMATS = ['json', 'text', 'srt', 'vtt', 'verbose_json'] as const;
export type ResponseFormat = (typeof RESPONSE_FORMATS)[number];

const GRANULARITIES = ['segment', 'word'] as const;
export type Granularity = (typeof GRANULARITIES)[number];

export interface Parameters {
  task: Task;
  format: ResponseFormat;
  /** Of verbose_json. */
  granularities: ReadonlySet<Granularity>;
  /** Server-sent events. */
  stream: boolean;
  /** Log-probabilities of the tokens. */
  logprobs: boolean;
  /** What the request says of decoding. */
  options: TranscribeOptions;
}

/** What the server can do. */
export interface Abilities {
  /** Names under which a request may ask for the model. */
  models: readonly string[];
  /** ISO codes. */
  languages: readonly string[];
  translates: boolean;
}

const OF_BOTH = ['model', 'prompt', 'response_format', 'temperature'];
const KNOWN: Record<Task, readonly string[]> = {
  transcribe: [
    ...OF_BOTH,
    'language',
    'timestamp_granularities',
    'stream',
    'include',
    'chunking_strategy', // 'auto' alone: pieces are always cut where it is quiet
  ],
  translate: OF_BOTH,
};

/** @throws ApiError 400, or 404 for a model that is not here */
export function parametersOf(task: Task, fields: ReadonlyMap<string, string[]>, abilities: Abilities): Parameters {
  const unknown = [...fields.keys()].find((name) => !KNOWN[task].includes(name));
  if (unknown !== undefined) {
    throw invalid(unknown, `There is no parameter '${shown(unknown)}'. There are: ${KNOWN[task].join(', ')}.`);
  }
  const value = (name: string) => single(fields, name);
  checkModel(value('model'), abilities);
  if (task === 'translate' && !abilities.translates) {
    throw invalid('model', 'The model is English-only: it cannot translate.');
  }
  const format = choice('response_format', value('response_format') ?? 'json', RESPONSE_FORMATS);
  const asked = (fields.get('timestamp_granularities') ?? []).map((each) =>
    choice('timestamp_granularities', each, GRANULARITIES),
  );
  if (asked.length > 0 && format !== 'verbose_json') {
    throw invalid('timestamp_granularities', "timestamp_granularities needs response_format 'verbose_json'.");
  }
  const stream = truth('stream', value('stream'));
  const logprobs = (fields.get('include') ?? []).map((each) => choice('include', each, ['logprobs'])).length > 0;
  for (const [name, given] of [
    ['stream', stream],
    ['include', logprobs],
  ] as const) {
    if (given && format !== 'json') {
      throw invalid(name, `'${name}' needs response_format 'json'.`);
    }
  }
  choice('chunking_strategy', value('chunking_strategy') ?? 'auto', ['auto']);
  const granularities = new Set<Granularity>(asked.length > 0 ? asked : ['segment']);
  const prompt = value('prompt');
  const temperature = temperatureOf(value('temperature'));
  const language = languageOf(value('language'), abilities);
  return {
    task,
    format,
    granularities,
    stream,
    logprobs,
    options: {
      translate: task === 'translate',
      ...(prompt !== undefined && { initialPrompt: prompt }),
      ...(temperature !== undefined && { temperature }),
      ...(language !== undefined && { language }),
      ...(granularities.has('word') && { wordTimestamps: true }),
    },
  };
}

/** @throws ApiError 404 */
export function checkModel(name: string | undefined, { models }: Pick<Abilities, 'models'>): void {
  if (name !== undefined && !models.includes(name)) {
    throw new ApiError(404, `There is no model '${shown(name)}' here. There is: ${models.join(', ')}.`, {
      param: 'model',
      code: 'model_not_found',
    });
  }
}

function languageOf(given: string | undefined, { languages }: Abilities): string | undefined {
  if (given === undefined || given === '') {
    return undefined;
  }
  const code = languageCode(given, languages);
  if (code === null) {
    throw invalid('language', `'${shown(given)}' is no language of this model. It has: ${languages.join(', ')}.`);
  }
  return code;
}

function temperatureOf(given: string | undefined): number | undefined {
  if (given === undefined) {
    return undefined;
  }
  const value = Number(given);
  if (given.trim() === '' || !(value >= 0 && value <= 1)) {
    throw invalid('temperature', `temperature must be a number from 0 to 1, not '${shown(given)}'.`);
  }
  return value;
}

function single(fields: ReadonlyMap<string, string[]>, name: string): string | undefined {
  const values = fields.get(name) ?? [];
  if (values.length > 1) {
    throw invalid(name, `'${name}' is given ${values.length} times: give it once.`);
  }
  return values[0];
}

function truth(name: string, value = 'false'): boolean {
  return choice(name, value.toLowerCase(), ['true', 'false']) === 'true';
}

function choice<T extends string>(name: string, value: string, choices: readonly T[]): T {
  if (choices.includes(value as T)) {
    return value as T;
  }
  throw invalid(name, `${name} must be one of ${choices.join(', ')}, not '${shown(value)}'.`);
}

function invalid(param: string, message: string): ApiError {
  return new ApiError(400, message, { param: shown(param), code: 'invalid_value' });
}

/** What a client sent, fit to be shown: not long, no control characters. */
function shown(text: string): string {
  const line = text.replace(/\p{Cc}+/gu, ' ');
  return line.length > 60 ? `${line.slice(0, 60)}…` : line;
}
