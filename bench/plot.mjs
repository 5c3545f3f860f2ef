/** Lines over numbers, as SVG. */
import * as vega from 'vega';
import { compile } from 'vega-lite';

/** rows: [{x, seconds or value, [series]}] */
export async function plotLines(rows, { x, y, series, log = false }) {
  const value = 'seconds' in rows[0] ? 'seconds' : 'value';
  const scale = log ? { type: 'log', base: 2 } : {};
  const { spec } = compile({
    width: 560,
    height: 320,
    background: 'white',
    data: { values: rows },
    mark: { type: 'line', point: true },
    encoding: {
      x: { field: 'x', type: 'quantitative', title: x, scale },
      y: { field: value, type: 'quantitative', title: y, scale },
      color: { field: series, type: 'nominal', title: null, sort: null },
    },
  });
  return new vega.View(vega.parse(spec), { renderer: 'none' }).toSVG();
}
