/** Several runs on one page. */
import { openRun } from '../run/folder.js';
import { flat, readRun } from './reader.js';
import type { Comparison } from './run-data.js';

/** @throws VoiceGrpoError E_DATA for a folder that is no run */
export function compareRuns(paths: readonly string[]): Comparison {
  const runs = paths.map(readRun);
  // Files in two folders may have one name: what differs is decided before paths are shortened.
  const settings = paths.map((path) => new Map(flat(openRun(path).loaded.config)));
  const names = [...new Set(settings.flatMap((map) => [...map.keys()]))].filter((name) => name !== 'output.dir');
  return {
    kind: 'comparison',
    name: `Comparison of ${runs.length} runs`,
    runs: runs.map(({ name, metrics, evaluations, state }) => ({ name, metrics, evaluations, state })),
    differing: names
      .map((setting) => ({ setting, values: settings.map((map) => map.get(setting)) }))
      .filter(({ values }) => new Set(values).size > 1)
      .map(({ setting }) => ({
        setting,
        values: runs.map((run) => run.settings.find((one) => one.setting === setting)?.value ?? '–'),
      })),
  };
}
