/** Where transcriptions are written: a name for each recording, so that no two share one and no recording is overwritten. */
import { basename, dirname, extname, join, relative, resolve, sep } from 'node:path';
import type { FileFormat } from './formats.js';

/**
 * The path of each recording's files without the format's extension. In a folder the name is the recording's; where two would have the
 * same, all keep the folders in which they lie, and those that differ in nothing but their extension keep it ('a.mp3.srt'). What is then
 * still the same is numbered.
 *
 * @param inputs paths, each once, or '-' for stdin
 * @param folder null: beside the recording
 */
export function outputNames(
  inputs: readonly string[],
  folder: string | null,
  formats: readonly FileFormat[],
): Map<string, string> {
  const named = inputs.map((input) => ({ input, path: resolve(input === '-' ? 'stdin' : input), level: 0 }));
  const bases = named.map(({ path }) => basename(path, extname(path)));
  const flat = new Set(bases).size === bases.length;
  const root = folder === null || flat ? null : commonFolder(named.map(({ path }) => dirname(path)));
  const target = ({ path, level }: (typeof named)[number]) => {
    const inside = root === null ? '' : relative(root, dirname(path));
    const place = folder === null ? dirname(path) : join(resolve(folder), inside);
    return join(place, nameAt(path, level));
  };
  const recordings = new Set(named.map(({ path }) => path));
  // Levels only rise, and each recording has a name of its own at some level: this ends.
  for (let settled = false; !settled; ) {
    const owners = new Map<string, typeof named>();
    for (const each of named) {
      const name = target(each);
      owners.set(name, [...(owners.get(name) ?? []), each]);
    }
    const crowded = [...owners].flatMap(([name, some]) => {
      if (formats.some((format) => recordings.has(`${name}.${format}`))) return some;
      const plain = some.length > 1 ? some.filter(({ level }) => level === 0) : [];
      return plain.length > 0 ? plain : some.slice(1);
    });
    for (const each of crowded) each.level++;
    settled = crowded.length === 0;
  }
  return new Map(named.map((each) => [each.input, target(each)]));
}

/** 'a', 'a.mp3', 'a.mp3.2', 'a.mp3.3' … */
function nameAt(path: string, level: number): string {
  if (level === 0) return basename(path, extname(path));
  return level === 1 ? basename(path) : `${basename(path)}.${level}`;
}

function commonFolder(folders: readonly string[]): string {
  const [first = [], ...rest] = folders.map((folder) => folder.split(sep));
  const length = first.findIndex((part, i) => rest.some((other) => other[i] !== part));
  return (length === -1 ? first : first.slice(0, length)).join(sep) || sep;
}
