/** Rows are what the clip is, columns what was answered; the last column is an answer that is no label. */
import type { EvaluationSummary } from '../src/report/run-data.js';
import { percent } from './format.js';

export function Confusion({ title, evaluation }: { title: string; evaluation: EvaluationSummary | null }) {
  return (
    <div class="card">
      <h3>{title}</h3>
      {evaluation === null ? (
        <p class="empty">Not evaluated yet.</p>
      ) : (
        <>
          <p class="figure">
            {percent(evaluation.accuracy)} right of {evaluation.n}
          </p>
          <Matrix title={title} evaluation={evaluation} />
        </>
      )}
    </div>
  );
}

function Matrix({ title, evaluation: { labels, confusion } }: { title: string; evaluation: EvaluationSummary }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by keyboard
    <section class="scroll" tabIndex={0} aria-label={title}>
      <table class="matrix">
        <caption class="hidden">{title}: rows are what the clip is, columns what was answered</caption>
        <thead>
          <tr>
            <th scope="col">is \ answered</th>
            {[...labels, 'other'].map((label) => (
              <th scope="col" class="num" key={label}>
                <span>{label}</span>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {confusion.map((row, i) => {
            const sum = row.reduce((a, b) => a + b, 0) || 1;
            const kind = (n: number, j: number) => (n === 0 ? 'zero' : i === j ? 'right' : 'wrong');
            return (
              <tr key={labels[i]}>
                <th scope="row">{labels[i]}</th>
                {row.map((n, j) => (
                  <td class={`num ${kind(n, j)} h${Math.ceil((4 * n) / sum)}`} key={labels[j] ?? 'other'}>
                    {n}
                  </td>
                ))}
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}
