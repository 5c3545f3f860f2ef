/**
 * How the time of a step grows with G, prompt length and completion length, and how flat memory stays: the tables and plots of
 * docs/benchmarks.md.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { plotLines } from './plot.mjs';
import { measureSteps, SHAPE } from './step.mjs';

const PARTS = { growth, memory, neighbour };
const usage = `usage: node bench/growth.mjs MODEL.gguf [--type auto] [--threads N] [--steps 3] [--out docs/benchmarks] [--only ${Object.keys(PARTS)}]`;

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    type: { type: 'string', default: 'auto' },
    threads: { type: 'string', default: String(availableParallelism()) },
    steps: { type: 'string', default: '3' },
    out: { type: 'string', default: fileURLToPath(new URL('../docs/benchmarks', import.meta.url)) },
    only: { type: 'string', default: Object.keys(PARTS).join() },
  },
});
const [model] = positionals;
const wanted = flags.only.split(',');
if (!model || !wanted.every((part) => part in PARTS)) {
  console.error(usage);
  process.exit(2);
}
mkdirSync(flags.out, { recursive: true });

const AXES = [
  { option: 'generations', title: 'completions of a prompt (G)', values: [1, 2, 4, 8, 16, 32] },
  { option: 'promptTokens', title: 'prompt, tokens', values: [64, 128, 256, 512, 1024, 2048] },
  { option: 'completionTokens', title: 'completion, tokens', values: [4, 8, 16, 32, 64, 128] },
];

const measure = (shape, steps) => measureSteps({ ...shape, steps, type: flags.type, threads: flags.threads, model });

async function growth() {
  const rows = [];
  for (const { option, title, values } of AXES) {
    console.log(
      `\n| ${title} | seconds a step | times the one before | peak memory, GB | times the bound |\n|---|---|---|---|---|`,
    );
    let last = null;
    for (const value of values) {
      const result = await measure({ ...SHAPE, [option]: value }, flags.steps);
      const seconds = result.median_seconds_per_step;
      rows.push({ axis: title, x: value, seconds });
      console.log(
        `| ${value} | ${seconds.toFixed(2)} | ${last === null ? '' : (seconds / last).toFixed(2)} | ${(result.peak_rss_bytes / 1e9).toFixed(2)} | ${result.times_bound.toFixed(2)} |`,
      );
      last = seconds;
    }
  }
  const svg = await plotLines(rows, { x: 'size', y: 'seconds a step', series: 'axis', log: true });
  writeFileSync(join(flags.out, 'growth.svg'), svg);
  writeFileSync(join(flags.out, 'growth.json'), `${JSON.stringify(rows, null, 1)}\n`);
}

/** Resident memory over 200 steps. */
async function memory() {
  const { rss_bytes: rss, peak_rss_bytes: peak } = await measure(SHAPE, 200);
  const at = (step) => `${(rss[step - 1] / 1e6).toFixed(0)} MB`;
  console.log(
    `\nresident after step 1: ${at(1)}, 50: ${at(50)}, 100: ${at(100)}, 200: ${at(200)}; peak ${(peak / 1e6).toFixed(0)} MB`,
  );
}

/** A step alone, and beside processes that keep one core or as many as this one busy. */
async function neighbour() {
  const alone = (await measure(SHAPE, 5)).median_seconds_per_step;
  for (const count of new Set([1, Number(flags.threads)])) {
    const others = Array.from({ length: count }, () => spawn(process.execPath, ['-e', 'for (;;) {}']));
    try {
      const beside = (await measure(SHAPE, 5)).median_seconds_per_step;
      console.log(
        `\nbeside ${count} spinning: ${beside.toFixed(2)} s a step, ${(beside / alone).toFixed(2)} times the ${alone.toFixed(2)} s alone`,
      );
    } finally {
      for (const other of others) other.kill('SIGKILL');
    }
  }
}

for (const part of wanted) await PARTS[part]();
