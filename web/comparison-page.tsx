/** The page of several runs. */
import type { Comparison } from '../src/report/run-data.js';
import { Chart, type Curve } from './chart.js';
import { Section } from './section.js';
import { Table } from './table.js';

export function ComparisonPage({ comparison: { name, runs, differing } }: { comparison: Comparison }) {
  const results = runs.map(({ name, state, evaluations }) => {
    const last = evaluations.at(-1);
    return {
      name,
      state,
      before: evaluations[0]?.accuracy,
      after: last?.accuracy,
      f1: last?.macro_f1,
      reward: last?.reward,
    };
  });
  const x = [...new Set(runs.flatMap((run) => run.metrics.map(({ step }) => step)))].sort((a, b) => a - b);
  const curves = (key: string, points = false): Curve[] =>
    runs.map((run) => {
      const values = new Map(run.metrics.map((line) => [line.step, line[key] ?? null]));
      return { label: run.name, values: x.map((step) => values.get(step) ?? null), points };
    });
  return (
    <>
      <header>
        <div class="title">
          <p class="brand">voicegrpo</p>
          <h1>{name}</h1>
        </div>
      </header>
      <main>
        <Section id="results" title="Results">
          <Table
            id="results-table"
            caption="Results"
            rows={results}
            columns={[
              { key: 'run', title: 'Run', value: (row) => row.name },
              { key: 'state', title: 'State', value: (row) => row.state },
              { key: 'before', title: 'Accuracy before', value: (row) => row.before, numeric: true },
              { key: 'after', title: 'Accuracy after', value: (row) => row.after, numeric: true },
              { key: 'f1', title: 'Macro-F1', value: (row) => row.f1, numeric: true },
              { key: 'reward', title: 'Reward', value: (row) => row.reward, numeric: true },
            ]}
            empty="None."
          />
        </Section>
        <Section id="curves" title="Curves">
          <div class="charts">
            <Chart title="Accuracy" unit="share of held-out clips" x={x} curves={curves('eval_accuracy', true)} />
            <Chart title="Reward" unit="weighted sum" x={x} curves={curves('reward')} />
            <Chart title="Entropy" unit="nats per token" x={x} curves={curves('entropy')} />
            <Chart title="Dead groups" unit="share" x={x} curves={curves('frac_reward_zero_std')} />
          </div>
        </Section>
        <Section id="settings" title="Settings that differ">
          <Table
            id="settings-table"
            caption="Settings that differ"
            rows={differing}
            columns={[
              { key: 'setting', title: 'Setting', value: (row) => row.setting },
              ...runs.map((run, i) => ({
                key: `run${i}`,
                title: run.name,
                value: (row: Comparison['differing'][number]) => row.values[i],
              })),
            ]}
            empty="None: the runs have the same settings."
          />
        </Section>
      </main>
    </>
  );
}
