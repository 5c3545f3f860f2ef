/** Flags and the configuration values they set: one table for train, eval and classify. */
import { LEAVES, type SchemaNode } from './schema.js';

export interface ConfigFlag {
  /** '--learning-rate' */
  flag: string;
  /** 'optimizer.learning_rate' */
  path: string;
  kind: 'number' | 'string' | 'boolean' | 'list';
  description: string;
}

/** Flags whose name is not that of the value. */
const SHORT_NAMES: Record<string, string> = {
  'data.source': '--data',
  'whisper.model': '--whisper',
  'whisper.language': '--language',
  'policy.model': '--model',
  'prompt.mode': '--prompt-mode',
  'evaluation.batch_size': '--eval-batch-size',
  'output.dir': '--output-dir',
  'lora.r': '--lora-r',
};

/** Values that no flag sets: maps and lists of objects belong into a file. */
const WITHOUT_FLAG = new Set(['prompt.labels', 'rewards.modules']);

function kindOf(node: SchemaNode): ConfigFlag['kind'] {
  const types = ([] as string[]).concat(node.type ?? []);
  if (types.includes('array')) {
    return 'list';
  }
  if (types.includes('boolean')) {
    return 'boolean';
  }
  return types.includes('string') ? 'string' : 'number';
}

function flagName(path: string): string {
  const parts = path.split('.');
  const short = SHORT_NAMES[path];
  if (short !== undefined) {
    return short;
  }
  // rewards.exact_match.weight → --exact-match-weight: 'weight' alone would not say of what.
  const words = parts[0] === 'rewards' ? parts.slice(1) : parts.slice(-1);
  return `--${words.join('-').replaceAll('_', '-')}`;
}

export const CONFIG_FLAGS: readonly ConfigFlag[] = [...LEAVES]
  .filter(([path]) => !WITHOUT_FLAG.has(path))
  .map(([path, node]) => ({
    flag: flagName(path),
    path,
    kind: kindOf(node),
    description: `${node.description ?? ''} [${path}]`,
  }));

/** The value a flag's text stands for. What is not a number stays text, so that the schema's check names it. */
export function flagValue(kind: ConfigFlag['kind'], text: string): unknown {
  if (text === 'null') {
    return null;
  }
  if (kind === 'number') {
    const number = Number(text);
    return text.trim() === '' || Number.isNaN(number) ? text : number;
  }
  if (kind === 'boolean') {
    return text === 'true' ? true : text === 'false' ? false : text;
  }
  return kind === 'list' ? text.split(',').filter((part) => part !== '') : text;
}
