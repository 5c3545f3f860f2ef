/** How many processors a container's limit leaves, from cgroup v2 or v1; null where there is no limit or no cgroup. */
import { readFileSync } from 'node:fs';
import { posix } from 'node:path';

/** The text of a file, or null where it cannot be read. */
export type ReadText = (path: string) => string | null;

/** The smallest limit among the process's group and those above it, in processors: 1.5 is one and a half. */
export function cpuLimit(read: ReadText = readText): number | null {
  const own = (read('/proc/self/cgroup') ?? '').split('\n').flatMap((line) => {
    const match = line.match(/^0::(\/.*)$/);
    return match === null ? [] : [match[1] as string];
  })[0];
  const limits: number[] = [];
  for (let group = own ?? '/'; ; group = posix.dirname(group)) {
    limits.push(...quota(read(posix.join('/sys/fs/cgroup', group, 'cpu.max'))?.split(/\s+/)));
    if (group === '/') break;
  }
  const v1 = '/sys/fs/cgroup/cpu';
  limits.push(...quota([read(`${v1}/cpu.cfs_quota_us`) ?? '', read(`${v1}/cpu.cfs_period_us`) ?? '']));
  return limits.length === 0 ? null : Math.min(...limits);
}

/** Microseconds of processor time in each period: 'max' and −1 are no limit. */
function quota([time = '', period = '']: readonly string[] = []): number[] {
  const limit = Number.parseInt(time, 10) / Number.parseInt(period, 10);
  return Number.isFinite(limit) && limit > 0 ? [limit] : [];
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
