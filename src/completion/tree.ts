/** What can stand where on the command line, from the definitions of the commands. */
import type { Definition } from 'clipanion';
import { PRESETS } from '../config/load.js';

export interface Flag {
  /** '-v', '--verbose' */
  names: string[];
  takesValue: boolean;
  description: string;
  /** Values that are known; files can stand there too. */
  values: readonly string[];
}

/** A point of the command line: after `voicegrpo config` stands a word, after `voicegrpo config print` flags. */
export interface Node {
  /** Words after the program's name: '', 'config', 'config print'. */
  path: string;
  /** Next word → what it does. */
  words: Map<string, string>;
  flags: Flag[];
}

export const PROGRAM = 'voicegrpo';

const HELP: Flag = { names: ['-h', '--help'], takesValue: false, description: 'Show what it does.', values: [] };

export function completionTree(definitions: readonly Definition[]): Node[] {
  const nodes = new Map<string, Node>();
  const at = (path: string): Node => {
    const node = nodes.get(path) ?? { path, words: new Map(), flags: [] };
    nodes.set(path, node);
    return node;
  };
  at('');
  for (const { path, description = '', options } of definitions) {
    const words = path.split(' ').slice(1);
    if (words.length === 0 || words.some((word) => word.startsWith('-'))) continue; // --help and --version
    for (const [i, word] of words.entries()) {
      const { words: next } = at(words.slice(0, i).join(' '));
      if (i === words.length - 1) next.set(word, oneLine(description));
      else if (!next.has(word)) next.set(word, '');
    }
    at(words.join(' ')).flags.push(...options.map(flagOf), HELP);
  }
  return [...nodes.values()];
}

/** @param option.definition '-v,--verbose' or '--seed #0' */
function flagOf({ definition, description = '' }: { definition: string; description?: string }): Flag {
  const [names = '', ...values] = definition.split(' ');
  return {
    names: names.split(','),
    takesValue: values.length > 0,
    description: oneLine(description),
    values: names === '--config' ? PRESETS : [],
  };
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}
