/** One sentence for each ajv error: the key, what it takes, what came, and the nearest key that exists. */
import type { ErrorObject } from 'ajv';
import { LEAVES, SCHEMA, type SchemaNode } from './schema.js';

/** Edits (insert, delete, replace, swap of neighbours) that turn one word into the other. */
export function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const above = rows[i - 1] as number[];
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let best = Math.min(
        (above[j] as number) + 1,
        (row[j - 1] as number) + 1,
        (above[j - 1] as number) + (same ? 0 : 1),
      );
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, ((rows[i - 2] as number[])[j - 2] as number) + 1);
      }
      row.push(best);
    }
    rows.push(row);
  }
  return (rows[a.length] as number[])[b.length] as number;
}

/** The candidate that looks most like the word; null if none looks like it. */
export function nearest(word: string, candidates: readonly string[]): string | null {
  const plain = (text: string) => text.toLowerCase().replace(/[^a-z0-9]/g, '');
  let best: string | null = null;
  let bestDistance = Math.max(1, Math.floor(word.length * 0.4)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(plain(word), plain(candidate));
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** The key that was probably meant: a neighbour, or the same word in another section. */
function suggestion(section: string, key: string): string {
  const node = nodeAt(section);
  const here = nearest(key, Object.keys(node?.properties ?? {}));
  const prefix = section === '' ? '' : `${section}.`;
  const paths = [...LEAVES.keys()];
  const elsewhere = paths.find((path) => path.split('.').at(-1) === key);
  if (elsewhere !== undefined) {
    return `did you mean '${elsewhere}'?`;
  }
  if (here !== null) {
    return `did you mean '${prefix}${here}'?`;
  }
  const similar = nearest(
    key,
    paths.map((path) => path.split('.').at(-1) as string),
  );
  const path = similar === null ? undefined : paths.find((candidate) => candidate.split('.').at(-1) === similar);
  if (path !== undefined) {
    return `did you mean '${path}'?`;
  }
  return `keys here are ${Object.keys(node?.properties ?? {}).join(', ')}.`;
}

function nodeAt(path: string): SchemaNode | undefined {
  let node: SchemaNode | undefined = SCHEMA;
  for (const key of path === '' ? [] : path.split('.')) {
    node = /^\d+$/.test(key) ? node?.items : node?.properties?.[key];
  }
  return node;
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** 'from 1 to 100', 'above 0', … */
function range(node: SchemaNode | undefined): string {
  if (node === undefined) {
    return '';
  }
  const low =
    node.minimum !== undefined
      ? `at least ${node.minimum}`
      : node.exclusiveMinimum !== undefined
        ? `above ${node.exclusiveMinimum}`
        : '';
  const high =
    node.maximum !== undefined
      ? `at most ${node.maximum}`
      : node.exclusiveMaximum !== undefined
        ? `below ${node.exclusiveMaximum}`
        : '';
  return [low, high].filter((part) => part !== '').join(' and ');
}

const TYPE_WORDS: Record<string, string> = {
  integer: 'a whole number',
  number: 'a number',
  string: 'a text',
  boolean: 'true or false',
  array: 'a list',
  object: 'a section in braces',
  null: 'null',
};

/** @param valueAt reads the configuration that was checked */
export function sentence(error: ErrorObject, valueAt: (path: string) => unknown): string {
  const path = error.instancePath.slice(1).replaceAll('/', '.').replaceAll('~1', '/').replaceAll('~0', '~');
  const name = path === '' ? 'the configuration' : `'${path}'`;
  const node = nodeAt(path);
  const came = `got ${shown(valueAt(path))}`;
  switch (error.keyword) {
    case 'additionalProperties': {
      const key = String(error.params.additionalProperty);
      return `unknown key '${path === '' ? key : `${path}.${key}`}': ${suggestion(path, key)}`;
    }
    case 'required':
      return `${name} lacks '${error.params.missingProperty}'.`;
    case 'type': {
      const types = ([] as string[]).concat(error.params.type);
      const bounds = range(node);
      const words = types.map((type) => TYPE_WORDS[type] ?? type).join(' or ');
      return `${name} must be ${words}${bounds === '' ? '' : ` (${bounds})`}, ${came}.`;
    }
    case 'enum': {
      const values = (error.params.allowedValues as unknown[]).map(String);
      const value = valueAt(path);
      const close = typeof value === 'string' ? nearest(value, values) : null;
      return `${name} must be one of ${values.join(', ')}, ${came}${close === null ? '.' : `: did you mean '${close}'?`}`;
    }
    case 'minimum':
    case 'maximum':
    case 'exclusiveMinimum':
    case 'exclusiveMaximum':
      return `${name} must be ${range(node)}, ${came}.`;
    case 'uniqueItems':
      return `${name} names the same thing twice, ${came}.`;
    case 'minItems':
    case 'minLength':
      return `${name} must not be empty, ${came}.`;
    case 'pattern':
      return `${name} must match ${error.params.pattern}, ${came}.`;
    default:
      return `${name} ${error.message ?? 'is not valid'}, ${came}.`;
  }
}
