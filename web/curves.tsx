/** The curves of one run. */
import { useMemo } from 'preact/hooks';
import type { RunData } from '../src/report/run-data.js';
import type { StepStats } from '../src/types.js';
import { Chart, type Curve } from './chart.js';

export function Curves({ metrics, labels }: Pick<RunData, 'metrics' | 'labels'>) {
  const { x, of, parts, times, evaluatedX, ofEvaluation } = useMemo(() => seriesOf(metrics), [metrics]);
  return (
    <div class="charts">
      <Chart
        title="Reward"
        unit="weighted sum, mean of a step"
        x={x}
        curves={[of('reward'), of('reward_std', 'standard deviation')]}
      />
      <Chart
        title="Accuracy"
        unit="share of held-out clips"
        x={evaluatedX}
        curves={[ofEvaluation('eval_accuracy', 'accuracy'), ofEvaluation('eval_macro_f1', 'macro-F1')]}
        sync={false}
      />
      <Chart
        title="Parts of the reward"
        unit="mean, before weights"
        x={x}
        curves={parts.map((name) => of(`rewards/${name}/mean`, name))}
      />
      <Chart
        title="Share of the advantage's variance"
        unit="sums to 1"
        x={x}
        curves={parts.map((name) => of(`rewards/${name}/advantage_share`, name))}
        empty="No reward has varied within a group yet, or the run was made before this was recorded."
      />
      <Chart
        title="KL"
        unit="nats per token"
        x={x}
        curves={[of('kl', 'KL to the base')]}
        empty="grpo.beta is 0: there is no KL term."
      />
      <Chart title="Entropy" unit="nats per token" x={x} curves={[of('entropy')]} />
      <Chart
        title="Length of answers"
        unit="tokens"
        x={x}
        curves={[
          of('completions/mean_length', 'mean'),
          of('completions/min_length', 'shortest'),
          of('completions/max_length', 'longest'),
        ]}
      />
      <Chart
        title="Groups that teach nothing"
        unit="share of groups with equal rewards"
        x={x}
        curves={[of('frac_reward_zero_std', 'dead groups')]}
      />
      <Chart
        title="Predictions"
        unit="share of answers"
        x={x}
        curves={labels.map((label) => of(`predictions/${label}`, label))}
      />
      <Chart title="Learning rate" unit="per step" x={x} curves={[of('learning_rate', 'rate')]} />
      <Chart title="Gradient" unit="norm before clipping" x={x} curves={[of('grad_norm', 'norm')]} />
      <Chart
        title="Time by stage"
        unit="s per step"
        x={x}
        curves={[...times.map((key) => of(key, key.slice('time/'.length))), of('step_time', 'whole step')]}
      />
    </div>
  );
}

function seriesOf(metrics: StepStats[]) {
  const lines = metrics.filter(({ step }) => step > 0);
  const evaluated = metrics.filter((line) => line.eval_accuracy != null);
  const keys = [...new Set(lines.flatMap(Object.keys))];
  const curve = (from: StepStats[], key: string, label: string): Curve => ({
    label,
    values: from.map((line) => line[key] ?? null),
  });
  return {
    x: lines.map(({ step }) => step),
    of: (key: string, label = key) => curve(lines, key, label),
    parts: keys.flatMap((key) => /^rewards\/(.*)\/mean$/.exec(key)?.[1] ?? []),
    times: keys.filter((key) => key.startsWith('time/')),
    evaluatedX: evaluated.map(({ step }) => step),
    ofEvaluation: (key: string, label: string): Curve => ({ ...curve(evaluated, key, label), points: true }),
  };
}
