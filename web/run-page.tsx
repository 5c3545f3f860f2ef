/** The page of one run. */
import { useMemo } from 'preact/hooks';
import type { ClipRow, CompletionRow, EvaluationSummary, RunData } from '../src/report/run-data.js';
import { Chart } from './chart.js';
import { Confusion } from './confusion.js';
import { Curves } from './curves.js';
import { number, percent } from './format.js';
import { Influence } from './influence.js';
import { Section } from './section.js';
import { type Column, Table } from './table.js';

const SECTIONS = [
  ['curves', 'Curves'],
  ['answers', 'Answers'],
  ['clips', 'Clips'],
  ['completions', 'Completions'],
  ['settings', 'Settings'],
] as const;
const STATES = { waiting: 'not begun', running: 'running', finished: 'finished' };

/** @param link how the page gets what is new; null: it does not */
export function RunPage({ run, link }: { run: RunData; link: string | null }) {
  return (
    <>
      <header>
        <div class="title">
          <p class="brand">voicegrpo</p>
          <h1>{run.name}</h1>
        </div>
        <p class="state" role="status">
          <span class={`dot ${run.state}`} />
          {STATES[run.state]}
          <span id="link">{link === null ? '' : ` · ${link}`}</span>
        </p>
        <nav aria-label="Sections">
          {SECTIONS.map(([id, title]) => (
            <a href={`#${id}`} key={id}>
              {title}
            </a>
          ))}
        </nav>
      </header>
      <main>
        {run.state === 'waiting' ? (
          <p class="empty">The run has not begun: this page fills as soon as its folder is there.</p>
        ) : (
          <Content run={run} />
        )}
      </main>
    </>
  );
}

function Content({ run }: { run: RunData }) {
  const thinned = run.steps > run.metrics.length ? `${run.metrics.length} points of ${run.steps} steps are drawn.` : '';
  return (
    <>
      <Tiles run={run} />
      <Section
        id="curves"
        title="Curves"
        lead={`Point at a chart for its values; drag to look closer, double-click to come back. ${thinned}`}
      >
        <Curves metrics={run.metrics} labels={run.labels} />
      </Section>
      <Section id="answers" title="Answers to held-out clips">
        <div class="pair">
          <Confusion title="Before training" evaluation={run.before} />
          <Confusion
            title={run.state === 'finished' ? 'After training, best adapter' : 'Newest evaluation'}
            evaluation={run.after}
          />
        </div>
        <div class="charts">
          <Calibration before={run.before} after={run.after} />
        </div>
      </Section>
      <Section
        id="influence"
        title="Words that changed the answer"
        lead="Each word was left out in turn and the policy asked again. Blue words made the answer more probable, orange ones less; the darker, the more. Shown are the clips whose answer changed, then those with a wrong answer, at most 12 clips and 40 words each."
      >
        <Influence clips={run.influence} />
      </Section>
      <Section id="clips" title="Held-out clips" lead={clipsLead(run)}>
        <Clips clips={run.clips} sounds={run.sounds} />
      </Section>
      <Section
        id="completions"
        title="Completions"
        {...(run.completions.length < run.completionsTotal && {
          lead: `The last ${run.completions.length} of ${run.completionsTotal}.`,
        })}
      >
        <Completions rows={run.completions} />
      </Section>
      <Section id="settings" title="Settings">
        <Table
          id="settings-table"
          caption="Settings"
          rows={run.settings}
          columns={[
            { key: 'setting', title: 'Setting', value: (row) => row.setting },
            { key: 'value', title: 'Value', value: (row) => row.value, wide: true },
            { key: 'origin', title: 'Origin', value: (row) => row.origin },
          ]}
          empty="None."
          choices={['origin']}
        />
        <h3>Environment</h3>
        <Table
          id="environment-table"
          caption="Environment"
          rows={run.environment}
          columns={[
            { key: 'name', title: 'Name', value: (row) => row.name },
            { key: 'value', title: 'Value', value: (row) => row.value, wide: true },
          ]}
          empty="None."
        />
      </Section>
    </>
  );
}

function Tiles({ run: { metrics, before, after, steps, maxSteps } }: { run: RunData }) {
  const newest = metrics.at(-1);
  const from = before === null ? 'not evaluated yet' : `from ${percent(before.accuracy)} on ${before.n} held-out clips`;
  const reward = metrics.findLast((line) => line.reward != null)?.reward;
  return (
    <dl class="tiles">
      <Tile title="Accuracy" value={percent((after ?? before)?.accuracy)} hint={from} />
      <Tile title="Reward" value={number(reward)} hint="newest step" />
      <Tile title="Macro-F1" value={number(after?.macro_f1)} hint={before ? `from ${number(before.macro_f1)}` : ''} />
      <Tile title="Steps" value={String(steps)} hint={`of at most ${maxSteps}`} />
      <Tile title="Dead groups" value={percent(newest?.frac_reward_zero_std)} hint="teach nothing" />
    </dl>
  );
}

function Tile({ title, value, hint }: { title: string; value: string; hint: string }) {
  return (
    <div class="tile">
      <dt>{title}</dt>
      <dd>
        <span class="value">{value}</span>
        <small>{hint}</small>
      </dd>
    </div>
  );
}

function Calibration({ before, after }: { before: EvaluationSummary | null; after: EvaluationSummary | null }) {
  const centres = useMemo(
    () => (before ?? after)?.reliability.map(({ from, to }) => (from + to) / 2) ?? [],
    [before, after],
  );
  const bins = (evaluation: EvaluationSummary | null) => evaluation?.reliability.map(({ accuracy }) => accuracy) ?? [];
  return (
    <Chart
      title="Calibration"
      unit="share that is right, by probability of the label"
      x={centres}
      curves={[
        { label: 'before', values: bins(before), points: true },
        { label: 'after', values: bins(after), points: true },
        { label: 'perfect', values: centres, dash: [4, 4] },
      ]}
      sync={false}
      range={[0, 1]}
      xName="probability"
    />
  );
}

function clipsLead({ clips, clipsTotal, audio }: RunData): string {
  const first = clips.length < clipsTotal ? `The first ${clips.length} of ${clipsTotal}. ` : '';
  const limit = `${(audio.limit / 1e6).toFixed(0)} MB`;
  return audio.embedded > 0
    ? `${first}${audio.embedded} of ${audio.of} recordings are in this file, up to ${limit}.`
    : `${first}The recordings are not in this file: only those of the bundled clips are.`;
}

function Clips({ clips, sounds }: Pick<RunData, 'clips' | 'sounds'>) {
  const columns: Column<ClipRow>[] = [
    { key: 'label', title: 'Label', value: (row) => row.label },
    { key: 'transcript', title: 'Transcript', value: (row) => row.transcript, wide: true },
    { key: 'before', title: 'Before', value: (row) => row.before },
    { key: 'after', title: 'After', value: (row) => row.after },
    {
      key: 'right',
      title: 'Answer',
      value: (row) => row.right,
      cell: (row) => <span class={`mark ${row.right}`}>{row.right}</span>,
    },
    { key: 'probability', title: 'Probability', value: (row) => row.probability, numeric: true },
    {
      key: 'audio',
      title: 'Sound',
      value: (row) => (sounds[row.id] ? 'yes' : 'no'),
      cell: (row) =>
        sounds[row.id] ? (
          // biome-ignore lint/a11y/useMediaCaption: its transcript stands beside it
          <audio controls preload="none" src={sounds[row.id]} aria-label={`Recording: ${row.transcript}`} />
        ) : (
          '–'
        ),
    },
  ];
  return (
    <Table
      id="clips-table"
      caption="Held-out clips"
      rows={clips}
      columns={columns}
      empty="No evaluation yet."
      choices={['label', 'right']}
      pageSize={10}
      rowId={(row) => row.id}
    />
  );
}

function Completions({ rows }: { rows: CompletionRow[] }) {
  const rewards = [...new Set(rows.flatMap((row) => Object.keys(row.rewards ?? {})))];
  const columns: Column<CompletionRow>[] = [
    { key: 'step', title: 'Step', value: (row) => row.step, numeric: true },
    { key: 'prompt', title: 'Prompt', value: (row) => row.prompt, numeric: true },
    { key: 'label', title: 'Label', value: (row) => row.label },
    { key: 'transcript', title: 'Transcript', value: (row) => row.transcript, wide: true },
    { key: 'completion', title: 'Completion', value: (row) => row.completion, wide: true },
    { key: 'reward', title: 'Reward', value: (row) => row.reward, numeric: true },
    { key: 'advantage', title: 'Advantage', value: (row) => row.advantage, numeric: true },
    ...rewards.map(
      (name): Column<CompletionRow> => ({
        key: `reward-${name}`,
        title: name,
        value: (row) => row.rewards?.[name],
        numeric: true,
      }),
    ),
  ];
  return (
    <Table
      id="completions-table"
      caption="Completions"
      rows={rows}
      columns={columns}
      empty="None: output.log_completions is off, or no step is done."
      choices={['label']}
    />
  );
}
