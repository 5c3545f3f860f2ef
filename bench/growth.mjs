/**
 * How the time of a step grows with G, prompt length and completion length, and how flat memory stays: the tables and plots of
 * docs/benchmarks.md.
 *
 * usage: node bench/growth.mjs MODEL.gguf [--type auto] [--threads N] [--steps 3] [--out docs/benchmarks] [--only growth,memory,neighbour]
 */
import { execFile, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { plotLines } from './plot.mjs';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    type: { type: 'string', default: 'auto' },
    threads: { type: 'string', default: String(availableParallelism()) },
    steps: { type: 'string', default: '3' },
    out: { type: 'string', default: fileURLToPath(new URL('../docs/benchmarks', import.meta.url)) },
    only: { type: 'string', default: 'growth,memory,neighbour' },
  },
});
const [model] = positionals;
if (!model) {
  console.error(readFileSync(fileURLToPath(import.meta.url), 'utf8').match(/usage: .*/)[0]);
  process.exit(2);
}
const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
const wanted = flags.only.split(',');
mkdirSync(flags.out, { recursive: true });

const SHAPE = { prompts: 2, generations: 8, 'prompt-tokens': 127, 'completion-tokens': 16, 'lora-r': 16 };
const AXES = [
  { option: 'generations', title: 'completions of a prompt (G)', values: [1, 2, 4, 8, 16, 32] },
  { option: 'prompt-tokens', title: 'prompt, tokens', values: [64, 128, 256, 512, 1024, 2048] },
  { option: 'completion-tokens', title: 'completion, tokens', values: [4, 8, 16, 32, 64, 128] },
];

async function measure(shape, steps) {
  const args = Object.entries({ ...shape, steps, type: flags.type, threads: flags.threads, model });
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [cli, 'bench', 'step', '--json', ...args.flatMap(([name, value]) => [`--${name}`, String(value)])],
    { maxBuffer: 1 << 26 },
  );
  return JSON.parse(stdout);
}

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

for (const [name, run] of Object.entries({ growth, memory, neighbour })) {
  if (wanted.includes(name)) await run();
}
