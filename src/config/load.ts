/**
 * Loads a configuration: the schema's defaults, then a preset, then a file, then flags; each value remembers where it is from.
 * All problems are told at once.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { problem } from '../errors.js';
import type { Config } from './config.generated.js';
import { PACKAGE_ROOT } from './paths.js';
import { LEAVES, SCHEMA } from './schema.js';
import { nearest, sentence } from './sentences.js';

export type { Config } from './config.generated.js';

/** 'default', 'preset tiny', 'file my.json', 'flag --seed'. */
export type Origin = string;

export interface LoadedConfig {
  config: Config;
  /** Dotted path → where the value is from. */
  origins: Record<string, Origin>;
  /** The preset's or the file's name, for naming the run. */
  name: string;
}

export interface FlagSetting {
  flag: string;
  path: string;
  value: unknown;
}

type Tree = { [key: string]: unknown };

export const PRESETS: readonly string[] = readdirSync(join(PACKAGE_ROOT, 'configs'))
  .filter((file) => file.endsWith('.json') && file !== 'schema.json')
  .map((file) => file.slice(0, -'.json'.length))
  .sort();

const validate = new Ajv({ allErrors: true, allowUnionTypes: true }).compile(SCHEMA);

/**
 * @param source a preset's name, or the path of a JSON file, which may name a preset to start from: {"extends": "tiny", …}
 * @throws VoiceGrpoError E_CONFIG with one sentence for each problem
 */
export function loadConfig(source: string, flags: readonly FlagSetting[] = []): LoadedConfig {
  const tree: Tree = {};
  const origins: Record<string, Origin> = {};
  const problems: string[] = [];
  for (const [path, node] of LEAVES) {
    setAt(tree, path, structuredClone(node.default));
    origins[path] = 'default';
  }

  const isPreset = PRESETS.includes(source);
  const preset = isPreset ? source : null;
  let name = source;
  if (preset !== null) {
    overlay(tree, readJson(presetFile(preset)), origins, `preset ${preset}`);
  } else {
    const { extends: base, ...values } = readFile(source);
    name = source.replace(/^.*[\\/]/, '').replace(/\.json$/, '');
    if (base !== undefined && !PRESETS.includes(String(base))) {
      problems.push(`'extends' must be one of ${PRESETS.join(', ')}, got ${JSON.stringify(base)}.`);
    } else if (base !== undefined) {
      overlay(tree, readJson(presetFile(String(base))), origins, `preset ${base}`);
    }
    overlay(tree, values, origins, `file ${source}`);
  }
  for (const { flag, path, value } of flags) {
    setAt(tree, path, value);
    origins[path] = `flag ${flag}`;
  }

  if (!validate(tree)) {
    for (const error of validate.errors ?? []) {
      const path = error.instancePath.slice(1).replaceAll('/', '.');
      const origin = origins[path];
      const from = origin?.startsWith('flag ') ? ` (from ${origin.slice('flag '.length)})` : '';
      problems.push(sentence(error, (at) => valueAt(tree, at)).replace(/([.?])$/, `${from}$1`));
    }
  }
  const config = tree as unknown as Config;
  if (problems.length === 0) {
    problems.push(...contradictions(config));
  }
  if (problems.length > 0) {
    throw configProblem(isPreset ? `preset ${source} with these flags` : source, problems);
  }
  return { config, origins, name };
}

/** Settings whose default is not how things were before they existed. */
const BEFORE: Readonly<Record<string, unknown>> = { 'data.drop_suspect': false };

/**
 * Checks a configuration that was stored in a run folder. A run that was made before a setting existed has what says how things were
 * without it: its default, but for those of BEFORE.
 */
export function checkStoredConfig(stored: unknown, where: string): Config {
  const tree: Tree = {};
  for (const [path, node] of LEAVES) {
    setAt(tree, path, structuredClone(node.default));
  }
  for (const [path, value] of Object.entries(BEFORE)) {
    setAt(tree, path, value);
  }
  if (stored === null || typeof stored !== 'object') {
    throw configProblem(where, ["'config' is missing."]);
  }
  overlay(tree, stored as Tree, {}, '');
  if (!validate(tree)) {
    throw configProblem(
      where,
      (validate.errors ?? []).map((error) => sentence(error, (at) => valueAt(tree, at))),
    );
  }
  return tree as unknown as Config;
}

function configProblem(where: string, problems: string[]): Error {
  const unique = [...new Set(problems)];
  const count = unique.length === 1 ? 'a problem' : `${unique.length} problems`;
  return problem({
    code: 'E_CONFIG',
    expected: 'a valid configuration',
    where,
    got: unique.length === 1 ? `${count}: ${unique[0]}` : `${count}:\n  ${unique.join('\n  ')}\n`,
    next: "correct it and run again; 'configs/schema.json' describes every key",
  });
}

/** What no single key can show. */
function contradictions(config: Config): string[] {
  const found: string[] = [];
  const { grpo, rewards, optimizer } = config;
  const parts = grpo.steps_per_generation ?? grpo.gradient_accumulation_steps;
  if (grpo.prompts_per_step % parts !== 0) {
    found.push(
      `'grpo.prompts_per_step' (${grpo.prompts_per_step}) must be a multiple of the micro-batches of a generation (${parts}): take ${Math.ceil(grpo.prompts_per_step / parts) * parts}.`,
    );
  }
  if (grpo.temperature_end !== null && grpo.temperature_steps === 0) {
    found.push(`'grpo.temperature_end' needs 'grpo.temperature_steps' above 0.`);
  }
  const { modules, ...builtIn } = rewards;
  const names = [...Object.keys(builtIn), ...modules.map((entry) => moduleName(entry))];
  const twice = names.find((entry, i) => names.indexOf(entry) !== i);
  if (twice !== undefined) {
    found.push(`'rewards.modules' gives two rewards the name '${twice}': set 'name'.`);
  }
  if ([...Object.values(builtIn), ...modules].every(({ weight }) => weight === 0)) {
    found.push(`'rewards' has only weights of 0: nothing can be learned.`);
  }
  if (optimizer.warmup_ratio === 1 && optimizer.lr_scheduler_type !== 'constant') {
    found.push(`'optimizer.warmup_ratio' of 1 leaves no step for the ${optimizer.lr_scheduler_type} schedule.`);
  }
  return found;
}

/** The name of a user's reward in metrics. */
export function moduleName(entry: { module: string; name?: string }): string {
  return (
    entry.name ??
    entry.module
      .replace(/^.*[\\/]/, '')
      .replace(/\.[cm]?[jt]s$/, '')
      .replace(/[^A-Za-z0-9_-]/g, '_')
  );
}

function presetFile(preset: string): string {
  return join(PACKAGE_ROOT, 'configs', `${preset}.json`);
}

function readFile(path: string): Tree {
  if (!existsSync(path)) {
    const close = nearest(path, PRESETS);
    throw problem({
      code: 'E_CONFIG',
      expected: `a preset (${PRESETS.join(', ')}) or the path of a JSON file`,
      where: '--config',
      got: `'${path}', which is neither`,
      next: close === null ? 'use --config default' : `did you mean --config ${close}?`,
    });
  }
  return readJson(path);
}

function readJson(path: string): Tree {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw problem({
      code: 'E_CONFIG',
      expected: 'a JSON file',
      where: path,
      got: (error as Error).message,
      next: 'correct the file and run again',
    });
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw problem({
      code: 'E_CONFIG',
      expected: 'a JSON object of settings',
      where: path,
      got: Array.isArray(value) ? 'a list' : String(value),
      next: 'write the settings in braces, like configs/tiny.json',
    });
  }
  return value as Tree;
}

/** Lays `values` over `tree`; keys that the schema does not know come along, so that the check finds them. */
function overlay(tree: Tree, values: Tree, origins: Record<string, Origin>, origin: Origin, prefix = ''): void {
  for (const [key, value] of Object.entries(values)) {
    const path = prefix === '' ? key : `${prefix}.${key}`;
    // Only own keys: '__proto__' in a file is an unknown key, not the prototype of every object.
    const below = Object.hasOwn(tree, key) ? tree[key] : undefined;
    const isSection = below !== null && typeof below === 'object' && !Array.isArray(below) && !LEAVES.has(path);
    if (isSection && value !== null && typeof value === 'object' && !Array.isArray(value)) {
      overlay(below as Tree, value as Tree, origins, origin, path);
    } else {
      Object.defineProperty(tree, key, { value, enumerable: true, writable: true, configurable: true });
      origins[path] = origin;
    }
  }
}

/** Sets the value at a dotted path: 'grpo.max_steps'. */
export function setAt(tree: Tree, path: string, value: unknown): void {
  const keys = path.split('.');
  let node = tree;
  for (const key of keys.slice(0, -1)) {
    const next = node[key];
    if (next === null || typeof next !== 'object') {
      node[key] = {};
    }
    node = node[key] as Tree;
  }
  node[keys.at(-1) as string] = value;
}

export function valueAt(tree: Tree, path: string): unknown {
  let value: unknown = tree;
  for (const key of path === '' ? [] : path.split('.')) {
    value = (value as Tree | undefined)?.[key];
  }
  return value;
}
