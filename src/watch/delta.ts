/**
 * What changed between two states of a page. Most of a page are lists that grow at their end, lose what is oldest, and are cut when a
 * run is resumed; the rest are values that are replaced.
 */
import type { RunData } from '../report/run-data.js';

const LISTS = ['metrics', 'evaluations', 'completions', 'influence'] as const;
type ListName = (typeof LISTS)[number];

/** Of the old list `keep` entries from `from` on stay; `add` follows them. */
export interface ListDelta {
  from: number;
  keep: number;
  add: unknown[];
}

export interface RunDelta {
  set: Partial<Omit<RunData, ListName>>;
  lists: Partial<Record<ListName, ListDelta>>;
}

/** What a `change` event says: what follows the state with the tag `after`. */
export type Change = RunDelta & { after: string };

/** Null: nothing changed. */
export function deltaOf(old: RunData, now: RunData): RunDelta | null {
  const keys = Object.keys(now) as (keyof RunData)[];
  const isList = (key: keyof RunData): key is ListName => (LISTS as readonly string[]).includes(key);
  const values = keys.filter((key) => !isList(key) && !isSame(old[key], now[key]));
  const lists = keys.filter(isList).flatMap((key) => {
    const delta = listDelta(old[key], now[key]);
    return delta === null ? [] : [[key, delta] as const];
  });
  if (values.length === 0 && lists.length === 0) return null;
  return { set: Object.fromEntries(values.map((key) => [key, now[key]])), lists: Object.fromEntries(lists) };
}

/** The new state. What stays in a list, and what is not set, is the same object as in the old one. */
export function withDelta(old: RunData, { set, lists }: RunDelta): RunData {
  const changed = Object.entries(lists).map(([key, { from, keep, add }]) => [
    key,
    [...old[key as ListName].slice(from, from + keep), ...add],
  ]);
  return { ...old, ...set, ...Object.fromEntries(changed) };
}

function listDelta(old: readonly unknown[], now: readonly unknown[]): ListDelta | null {
  const from =
    now.length === 0
      ? 0
      : Math.max(
          0,
          old.findIndex((one) => isSame(one, now[0])),
        );
  let keep = 0;
  while (keep < now.length && from + keep < old.length && isSame(old[from + keep], now[keep])) keep++;
  if (from === 0 && keep === old.length && keep === now.length) return null;
  return { from, keep, add: now.slice(keep) };
}

/** Both came from JSON files of one program: the order of keys is the same. */
function isSame(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object') return false;
  return JSON.stringify(a) === JSON.stringify(b);
}
