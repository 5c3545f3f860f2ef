/** What doctor looks at without a connection. Each check is a sentence, how bad it is, and what to do. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { arch, availableParallelism, freemem, platform, release, totalmem } from 'node:os';
import { dirname, resolve } from 'node:path';
import { presentError } from '../errors.js';
import { hubEnvironment } from '../hub/environment.js';
import { deviceReport, loadNative } from '../native/load.js';
import { cacheFolder } from '../pipeline/transcript.js';
import { cpuLimit } from './cpu-limit.js';

/** A warning leaves the program usable; a failure does not. */
export type Severity = 'ok' | 'warning' | 'failure';

export interface Check {
  name: string;
  severity: Severity;
  found: string;
  /** What to do about it; null where nothing is to be done. */
  fix: string | null;
}

/** Free space below which fetching the presets' models or a run's checkpoints may fail. */
const LOW_DISK = 5e9;
/** Memory below which the presets' real models may not fit. */
const LOW_MEMORY = 2e9;

const ok = (name: string, found: string): Check => ({ name, severity: 'ok', found, fix: null });
const warning = (name: string, found: string, fix: string): Check => ({ name, severity: 'warning', found, fix });

/** The check's failure with the error's sentences as finding and fix. */
export function failed(name: string, error: unknown): Check {
  const [found = '', ...fix] = presentError(error).text.split('\n');
  return { name, severity: 'failure', found, fix: fix.length === 0 ? null : fix.join(' ') };
}

export async function localChecks(): Promise<Check[]> {
  const addon = checkAddon();
  const built = addon.severity === 'ok';
  return [
    ok('platform', `${platform()} ${release()}, ${arch()}`),
    checkNode(process.versions.node),
    checkTool(
      'compiler',
      process.env.CXX ? [process.env.CXX.split(' ')[0] as string] : ['c++', 'g++', 'clang++'],
      built,
    ),
    checkTool('cmake', ['cmake'], built),
    addon,
    checkDevice(),
    checkThreads(availableParallelism(), cpuLimit()),
    // Node before 20.13 lacks these two, and is itself one of the findings.
    checkMemory(
      Math.min(totalmem(), process.constrainedMemory?.() || totalmem()),
      process.availableMemory?.() ?? freemem(),
    ),
    await checkDisk('own cache', () => cacheFolder()),
    await checkDisk('hub cache', () => hubEnvironment().cache),
    await checkDisk('runs', () => resolve('runs')),
  ];
}

/** As `engines` of package.json has it. */
export function checkNode(version: string): Check {
  const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number);
  const good =
    (major === 20 && (minor > 18 || (minor === 18 && patch >= 1))) || major > 22 || (major === 22 && minor >= 9);
  return good
    ? ok('node', version)
    : warning('node', version, 'Install Node 20.18.1 or newer of 20, or 22.9 or newer.');
}

/** Only a build needs it: without one, an addon that loads is enough. */
export function checkTool(name: string, commands: readonly string[], addonLoads: boolean): Check {
  for (const command of commands) {
    const { status, stdout } = spawnSync(command, ['--version'], { encoding: 'utf8' });
    if (status === 0) return ok(name, stdout.split('\n')[0] as string);
  }
  const found = `none (looked for ${commands.join(', ')})`;
  const fix = `Install ${name === 'cmake' ? 'CMake 3.18 or newer' : 'GCC 9 or Clang 10, or newer'}: building the addon needs it.`;
  return { name, severity: addonLoads ? 'warning' : 'failure', found, fix };
}

function checkAddon(): Check {
  try {
    const { addon, ggml, whisper, cpu } = loadNative().version();
    return ok('addon', `${addon}, ggml ${ggml}, whisper.cpp ${whisper}, kernel ${cpu}`);
  } catch (error) {
    const [message = '', ...rest] = presentError(error).text.split('\n');
    const tried = rest.slice(0, -1).map((line) => line.trim());
    return { name: 'addon', severity: 'failure', found: [message, ...tried].join(' '), fix: rest.at(-1) ?? null };
  }
}

function checkDevice(): Check {
  const { ok: good, found } = deviceReport();
  return good ? ok('device', found) : warning('device', found, 'Correct it, or use --device cpu.');
}

/** @param limit processors that a container's limit leaves */
export function checkThreads(processors: number, limit: number | null): Check {
  if (limit === null) return ok('threads', `${processors}, one a processor; no limit by a cgroup`);
  const found = `${processors}, one a processor; a cgroup allows the time of ${Number(limit.toFixed(2))}`;
  return limit >= processors
    ? ok('threads', found)
    : warning('threads', found, `Use --threads ${Math.max(1, Math.floor(limit))}: more threads wait for each other.`);
}

/** @param total @param available bytes */
export function checkMemory(total: number, available: number): Check {
  const found = `${gigabytes(available)} of ${gigabytes(total)} available`;
  return available >= LOW_MEMORY
    ? ok('memory', found)
    : warning('memory', found, 'Close other programs, or take the bundled models (--config tiny).');
}

/** Space where the folder lies or will lie. */
export async function checkDisk(name: string, place: () => string, low = LOW_DISK): Promise<Check> {
  try {
    const folder = place();
    let there = resolve(folder);
    while (!existsSync(there) && dirname(there) !== there) there = dirname(there);
    const { bavail, bsize } = await statfs(there);
    const found = `${folder}, ${gigabytes(bavail * bsize)} free`;
    return bavail * bsize >= low ? ok(name, found) : warning(name, found, 'Make room, or name another folder.');
  } catch (error) {
    return failed(name, error);
  }
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
