import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { embeddedJson, page } from '../src/report/page.js';
import { thinned } from '../src/report/reader.js';
import { calibrationError, reliability } from '../src/report/reliability.js';
import { advantageShares } from '../src/run/advantage-share.js';
import { number, percent, ticks } from '../web/format.js';

const rewards = [
  { name: 'a', weight: 2, rampSteps: 0 },
  { name: 'b', weight: -1, rampSteps: 0 },
];

test('shares of the variance sum to 1, and a reward that never varies in a group has none', () => {
  const a = Float64Array.of(0, 1, 5, 5);
  const b = Float64Array.of(1, 0, 3, 1);
  const totals = a.map((value, n) => 2 * value - (b[n] as number));
  const shares = advantageShares({ values: { a, b }, totals }, rewards, 2, 1);
  // Centred: a ±½, 0; 2a ∓1, 0; b ±½, ±1. Total −1.5, 1.5, −1, 1.
  assert.ok(Math.abs((shares.a ?? 0) - 3 / 6.5) < 1e-12);
  assert.ok(Math.abs((shares.a ?? 0) + (shares.b ?? 0) - 1) < 1e-12);
  const flat = Float64Array.of(1, 1, 4, 4);
  const dead = advantageShares({ values: { a: flat, b: flat }, totals: flat }, rewards, 2, 1);
  assert.ok(Number.isNaN(dead.a) && Number.isNaN(dead.b));
});

test('reliability: bins, their accuracy, and the calibration error', () => {
  const prediction = (label: string, x: number) => ({ label, probabilities: { x, y: 1 - x } });
  const bins = reliability([prediction('x', 0.85), prediction('y', 0.81), prediction('x', 1)]);
  assert.is(bins.length, 10);
  assert.equal([bins[8]?.n, bins[8]?.accuracy, bins[9]?.n, bins[9]?.accuracy, bins[0]?.accuracy], [2, 0.5, 1, 1, null]);
  assert.ok(Math.abs(calibrationError(bins) - (2 * (0.83 - 0.5)) / 3) < 1e-12);
  assert.is(calibrationError(reliability([])), 0);
});

test('thinning keeps the ends, the limit, evaluated steps, and what it showed of a shorter list', () => {
  const values = Array.from({ length: 1000 }, (_, step) => ({ step, ...(step === 333 && { eval_accuracy: 0.5 }) }));
  const thin = thinned(values, 50);
  assert.ok(thin.length > 25 && thin.length <= 50, String(thin.length));
  const shorter = thinned(values.slice(0, 990), 50).slice(0, -2);
  assert.ok(shorter.length > 25);
  assert.equal(thin.slice(0, shorter.length), shorter);
  assert.equal([thin[0]?.step, thin.at(-1)?.step], [0, 999]);
  assert.ok(thin.some(({ step }) => step === 333));
  assert.is(thinned(values.slice(0, 3), 50).length, 3);
});

test('marks of an axis have the decimals of their distance', () => {
  assert.equal(ticks([0, 0.25, 0.5], 0.25), ['0.00', '0.25', '0.50']);
  assert.equal(ticks([0, 0.1, 0.2, 0.30000000000000004], 0.1), ['0.0', '0.1', '0.2', '0.3']);
  assert.equal(ticks([-2, 0, 2], 2), ['-2', '0', '2']);
  assert.equal(ticks([0, 5e-7, 1e-6], 5e-7), ['0', '5.0e-7', '1.0e-6']);
  assert.equal(
    [number(0.0834), number(6.4149), number(12), number(-5.6e-17), number(2e-6), number(null), percent(0.403)],
    ['0.083', '6.41', '12', '0', '2.0e-6', '–', '40.3%'],
  );
});

test('what a clip or a model says ends no script and is no markup', () => {
  const hostile = '</script><script>alert(1)</script><!--\u2028';
  const text = embeddedJson({ hostile });
  assert.not.match(text, /[<\u2028]/);
  assert.equal(JSON.parse(text), { hostile });
  const { html, policy } = page({ name: hostile });
  assert.not.match(html, /<script>alert/);
  assert.match(policy, /default-src 'none'; script-src 'sha256-/);
  assert.not.match(policy, /unsafe/);
  assert.match(page({ name: 'x' }, 'tag').policy, /connect-src 'self'/);
});

test('the bundle in pages is of the sources as they are, typed for its own surroundings', async () => {
  const { bundleWeb } = await import(new URL('../tools/web.mjs', import.meta.url).href);
  const { script, style } = await bundleWeb();
  const { html } = page({ name: 'x' });
  const hint = 'dist/web is out of date: npm run build:web';
  assert.ok(html.includes(`<script>${script}</script>`), hint);
  assert.ok(html.includes(`<style>${style}</style>`), hint);
  for (const name of ['preact', 'uplot', '@tanstack/table-core']) {
    assert.match(
      script,
      new RegExp(`/\\*! ${name} [\\d.]+\\n[^*]*Permission is hereby granted`),
      `the licence of ${name}`,
    );
  }
});

test.run();
