/** A chart of one or more curves over the same x, with a legend that shows values, a tip at the pointer, and arrow keys. */
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import { number, ticks } from './format.js';

/** Distances between marks of an axis that counts. */
const WHOLE_STEPS = [1, 10, 100, 1000, 1e4, 1e5, 1e6].flatMap((unit) => [unit, 2 * unit, 5 * unit]);
/** Colours of curves, see report.css. */
const COLOURS = 6;

export interface Curve {
  label: string;
  /** One for each x; null where there is none. */
  values: (number | null)[];
  /** Marks each value. */
  points?: boolean;
  dash?: number[];
}

export interface ChartProps {
  title: string;
  unit: string;
  x: number[];
  curves: Curve[];
  /** Said where no curve has a value. */
  empty?: string;
  /** Of both axes. */
  range?: [number, number];
  xName?: string;
  /** The pointer is shown at the same step in all charts that are synced. */
  sync?: boolean;
}

export function Chart({
  title,
  unit,
  x,
  curves,
  empty = 'No values yet.',
  range,
  xName = 'step',
  sync = true,
}: ChartProps) {
  const known = curves.filter(({ values }) => values.some((value) => value != null));
  /** Index of the x that is pointed at. */
  const [at, setAt] = useState<number | null>(null);
  const value = ({ values }: Curve) => (at === null ? values.findLast((one) => one != null) : values[at]);
  const place = at === null || x[at] === undefined ? 'newest' : `${xName} ${number(x[at])}`;
  return (
    <figure class="chart">
      <figcaption>
        <strong>{title}</strong>
        <span class="unit">{unit}</span>
      </figcaption>
      {known.length === 0 ? (
        <p class="empty">{empty}</p>
      ) : (
        <>
          <Plot {...{ title, unit, x, curves: known, range, xName, sync, onPoint: setAt }} />
          <ul class="legend">
            <li class="where">{place}</li>
            {known.map((curve, i) => (
              <li key={curve.label}>
                <span class={`swatch c${i % COLOURS}`} />
                {curve.label} <output>{number(value(curve))}</output>
              </li>
            ))}
          </ul>
        </>
      )}
    </figure>
  );
}

interface PlotProps {
  title: string;
  unit: string;
  x: number[];
  curves: Curve[];
  range: [number, number] | undefined;
  xName: string;
  sync: boolean;
  onPoint(at: number | null): void;
}

/** The drawn part. New values go into the drawing that is there, so that pointer, tip and zoom stay; other curves need another one. */
function Plot(props: PlotProps) {
  const { title, unit, x, curves } = props;
  const box = useRef<HTMLDivElement>(null);
  const tip = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const newest = useRef(props);
  newest.current = props;
  /** The x that the keyboard reads: it stays pointed at when others follow. */
  const read = useRef<number | null>(null);
  const zoomed = useRef(false);
  const [theme, setTheme] = useState(0);
  useEffect(() => {
    const dark = matchMedia('(prefers-color-scheme: dark)');
    const change = () => setTheme((old) => old + 1);
    dark.addEventListener('change', change);
    return () => dark.removeEventListener('change', change);
  }, []);

  const shape = JSON.stringify([theme, ...curves.map(({ label, points, dash }) => [label, points, dash])]);
  // `shape` says when another drawing is needed; it reads the newest values.
  useLayoutEffect(() => {
    const node = box.current as HTMLDivElement;
    const made = draw(node, newest, (at, left) => {
      newest.current.onPoint(at);
      showTip(tip.current as HTMLDivElement, newest.current, at, left);
    });
    plot.current = made;
    zoomed.current = false;
    made.over.addEventListener('mouseup', () => {
      if (made.select.width > 0) zoomed.current = true;
    });
    made.over.addEventListener('dblclick', () => {
      zoomed.current = false;
    });
    const resized = new ResizeObserver(() => made.setSize({ width: node.clientWidth, height: node.clientHeight }));
    resized.observe(node);
    return () => {
      resized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);

  useLayoutEffect(() => {
    const made = plot.current;
    if (made === null || made.data[0] === x) return;
    const { min, max } = made.scales.x as uPlot.Scale;
    made.batch(() => {
      made.setData(dataOf(newest.current), !zoomed.current);
      if (zoomed.current && min != null && max != null) made.setScale('x', { min, max }); // fits the other axis
    });
    if (read.current !== null && x.includes(read.current)) point(made, read.current);
  }, [x]);

  const onKeyDown = (event: KeyboardEvent) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const made = plot.current;
    if (move === undefined || made === null) return;
    event.preventDefault();
    const from = made.cursor.idx ?? (move > 0 ? -1 : x.length);
    read.current = x[Math.max(0, Math.min(x.length - 1, from + move))] as number;
    point(made, read.current);
  };
  const spans = curves.map(({ label, values }) => {
    const first = values.find((one) => one != null);
    return `${label} ${number(first)} to ${number(values.findLast((one) => one != null))}`;
  });
  const description = `${title} (${unit}): ${spans.join(', ')}. Left and right arrow keys read the values.`;
  return (
    <div
      class="plot"
      ref={box}
      role="img"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: the arrow keys read its values
      tabIndex={0}
      aria-label={description}
      onKeyDown={onKeyDown}
      onPointerMove={() => {
        read.current = null;
      }}
    >
      <div class="tip" ref={tip} aria-hidden="true" hidden />
    </div>
  );
}

function dataOf({ x, curves }: PlotProps): uPlot.AlignedData {
  return [x, ...curves.map(({ values }) => values)];
}

function point(plot: uPlot, x: number): void {
  plot.setCursor({ left: plot.valToPos(x, 'x'), top: 10 });
}

function showTip(tip: HTMLDivElement, { x, curves, xName }: PlotProps, at: number | null, left: number): void {
  tip.hidden = at === null;
  if (at === null) return;
  const values = curves.map(({ label, values }) => `${label} ${number(values[at])}`);
  tip.textContent = [`${xName} ${number(x[at])}`, ...values].join('\n');
  const width = tip.parentElement?.clientWidth ?? 0;
  tip.style.left = `${Math.max(0, Math.min(left + 64, width - tip.offsetWidth - 4))}px`;
}

function draw(
  node: HTMLDivElement,
  newest: { current: PlotProps },
  onCursor: (at: number | null, left: number) => void,
): uPlot {
  const { curves, range, sync, x } = newest.current;
  const css = (name: string) => getComputedStyle(node).getPropertyValue(name).trim();
  const axis = {
    stroke: css('--muted'),
    grid: { stroke: css('--line'), width: 1 },
    ticks: { show: false },
    font: '11px system-ui',
  };
  const around = (_: uPlot, low: number | null, high: number | null): uPlot.Range.MinMax =>
    low == null || high == null ? [0, 1] : uPlot.rangeNum(low, high === low ? low + 1e-6 : high, 0.1, true);
  return new uPlot(
    {
      width: node.clientWidth,
      height: node.clientHeight,
      legend: { show: false },
      cursor: {
        y: false,
        points: { size: 7 },
        drag: { x: true, y: false },
        ...(sync && { sync: { key: 'steps' } }),
      },
      scales: {
        x: { time: false, ...(range && { range: () => range }) },
        y: { range: range ? () => range : around },
      },
      axes: [
        { ...axis, size: 28, ...(!range && { incrs: WHOLE_STEPS }) },
        { ...axis, size: 52, values: (_, at, __, ___, distance) => ticks(at, distance) },
      ],
      series: [
        {},
        ...curves.map(({ label, points, dash }, i) => ({
          label,
          stroke: css(`--c${i % COLOURS}`),
          width: 2,
          ...(dash && { dash }),
          spanGaps: true,
          points: { show: points === true || x.length < 2, size: 6 },
        })),
      ],
      hooks: {
        setCursor: [({ cursor: { idx, left = -1 } }) => onCursor(idx == null || left < 0 ? null : idx, left)],
      },
    },
    dataOf(newest.current),
    node,
  );
}
