/** The newest numbers of a run in Prometheus' text format, version 0.0.4. */
import type { RunData } from '../report/run-data.js';

/** Metric names of the run become voicegrpo_<name>, with what Prometheus does not allow as '_'. */
export function prometheusText({ name, state, metrics }: Pick<RunData, 'name' | 'state' | 'metrics'>): string {
  const run = name.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
  const values: Record<string, number> = { finished: state === 'finished' ? 1 : 0, step: metrics.at(-1)?.step ?? 0 };
  for (const line of metrics) {
    for (const [key, value] of Object.entries(line)) {
      if (typeof value === 'number') values[key] = value;
    }
  }
  const names = new Map(Object.entries(values).map(([key, value]) => [key.replace(/[^a-zA-Z0-9_]/g, '_'), value]));
  return [...names]
    .map(([key, value]) => `# TYPE voicegrpo_${key} gauge\nvoicegrpo_${key}{run="${run}"} ${value}\n`)
    .join('');
}
