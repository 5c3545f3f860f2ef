/** Several runs on one page. */
import { type RunData, readRun } from './data.js';

export interface Comparison {
  kind: 'comparison';
  name: string;
  runs: Pick<RunData, 'name' | 'metrics' | 'evaluations' | 'state'>[];
  /** Settings in which the runs differ: a value for each run. */
  differing: { setting: string; values: string[] }[];
}

/** @throws VoiceGrpoError E_DATA for a folder that is no run */
export function compareRuns(paths: readonly string[]): Comparison {
  const runs = paths.map(readRun);
  const settings = runs.map((run) => new Map(run.settings.map(({ setting, value }) => [setting, value])));
  const names = [...new Set(settings.flatMap((map) => [...map.keys()]))].filter((name) => name !== 'output.dir');
  return {
    kind: 'comparison',
    name: `Comparison of ${runs.length} runs`,
    runs: runs.map(({ name, metrics, evaluations, state }) => ({ name, metrics, evaluations, state })),
    differing: names
      .map((setting) => ({ setting, values: settings.map((map) => map.get(setting) ?? '–') }))
      .filter(({ values }) => new Set(values).size > 1),
  };
}
