/** A report is shown to others: what it says of files must not say how a machine is laid out. */
import { existsSync } from 'node:fs';
import { basename, isAbsolute, relative, resolve, sep } from 'node:path';

/** A copy in which each absolute path is one below the run or the working folder, or else the name alone. */
export function withoutMachinePaths<T>(value: T, run: string, workingFolder = process.cwd()): T {
  const bases = [resolve(run), resolve(workingFolder)].filter((folder) => folder !== resolve('/'));
  const shown = (path: string): string => {
    const below = bases.map((base) => relative(base, path)).find((to) => to !== '..' && !to.startsWith(`..${sep}`));
    return below === undefined ? basename(path) : below || '.';
  };
  const walk = (part: unknown): unknown => {
    if (typeof part === 'string') {
      const [, origin = '', path = ''] = /^(file )?(.*)$/s.exec(part) ?? [];
      return isPath(path) ? `${origin}${shown(path)}` : part;
    }
    if (Array.isArray(part)) return part.map(walk);
    if (part === null || typeof part !== 'object') return part;
    return Object.fromEntries(Object.entries(part).map(([key, child]) => [key, walk(child)]));
  };
  return walk(value) as T;
}

/** A text such as '/no_think' begins like a path; it is one if there is such a file or it has folders. */
function isPath(text: string): boolean {
  return isAbsolute(text) && !text.includes('\n') && (/^.[^/\\]*[/\\]/.test(text) || existsSync(text));
}
