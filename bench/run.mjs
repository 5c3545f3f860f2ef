/**
 * npm run bench                                  the usual set, ours alone
 * npm run bench -- --peers PYTHON --dir DIR      ours and theirs, alternating
 *
 * DIR holds real models under the names below. PYTHON is an interpreter with torch, transformers, trl, peft and datasets
 * (step), llama-cpp-python (generate), faster-whisper (transcribe). In a comparison both sides stay loaded and take turns, so
 * what else the machine does strikes both. Prints medians and the ratio of the medians; --json FILE keeps every figure.
 */
import { writeFileSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { benchProducts, PRODUCT_TYPES } from '../dist/bench/products.js';
import { BUNDLED_POLICY } from '../dist/run/inputs.js';
import { measureSteps, options, SHAPE, SHORT_SHAPE } from './step.mjs';
import { Worker } from './worker.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const usage = `usage: npm run bench [-- --dir DIR] [--peers PYTHON] [--only NAME,…] [--rounds N] [--threads N] [--json FILE]

  --dir DIR       gemma-3-270m-q4_k_m.gguf; for --peers also gemma-3-270m/, ggml-base.bin, faster-whisper-base/, speech/
  --peers PYTHON  compare with TRL, llama.cpp and faster-whisper
  --only NAMES    of: step-f32, step-f16, step-bf16, products; with --peers: step-f32, step-bf16, step-short, generate, transcribe
  --rounds N      measured rounds of each side (default 3), or steps (default 5 times as many)`;

const { values: flags } = parseArgs({
  options: {
    dir: { type: 'string' },
    peers: { type: 'string' },
    only: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string', default: String(availableParallelism()) },
    json: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
});
const threads = Number(flags.threads);
const rounds = Number(flags.rounds);
const fault =
  !(Number.isInteger(threads) && threads > 0 && Number.isInteger(rounds) && rounds > 0) ||
  (flags.peers !== undefined && flags.dir === undefined);
if (flags.help || fault) {
  console.error(usage);
  process.exit(flags.help ? 0 : 2);
}

const model = flags.dir ? join(flags.dir, 'gemma-3-270m-q4_k_m.gguf') : BUNDLED_POLICY;
const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const seconds = (s) => `${s.toFixed(s < 1 ? 3 : 2)} s`;
const gigabytes = (bytes) => `${(bytes / 1e9).toFixed(2)} GB`;

const results = { machine: { cpu: cpus()[0]?.model, threads, memory_bytes: totalmem() }, node: process.version };

function comparison({ name, ours, oursWith, theirs, theirsWith }) {
  return {
    name,
    ours: () => new Worker(`ours (${name})`, process.execPath, [join(here, 'ours', ours), JSON.stringify(oursWith)]),
    theirs: () => new Worker(`theirs (${name})`, flags.peers, [join(here, 'peers', theirs), ...options(theirsWith)]),
  };
}

function comparisons() {
  const { dir } = flags;
  const steps = [
    ['step-f32', SHAPE, 'f32', 'float32'],
    ['step-bf16', SHAPE, 'bf16', 'bfloat16'],
    ['step-short', SHORT_SHAPE, 'f32', 'float32'],
  ].map(([name, of, type, dtype]) => ({
    name,
    ours: 'step.mjs',
    oursWith: { model, type, threads, ...of },
    theirs: 'trl_step.py',
    theirsWith: { model: join(dir, 'gemma-3-270m'), threads, dtype, ...of },
  }));
  const { loraR: _, ...generated } = SHAPE;
  return [
    ...steps,
    {
      name: 'generate',
      ours: 'generate.mjs',
      oursWith: { model, type: 'auto', threads, ...generated },
      theirs: 'llama_cpp_generate.py',
      theirsWith: { model, threads, ...generated },
    },
    {
      name: 'transcribe',
      ours: 'transcribe.mjs',
      oursWith: { model: join(dir, 'ggml-base.bin'), speech: join(dir, 'speech'), threads },
      theirs: 'faster_whisper_transcribe.py',
      theirsWith: { model: join(dir, 'faster-whisper-base'), speech: join(dir, 'speech'), threads },
    },
  ].map(comparison);
}

async function compare({ name, ours, theirs }) {
  console.log(`${name}: loading`);
  const sides = { ours: ours(), theirs: theirs() };
  try {
    const record = { ours: {}, theirs: {} };
    for (const [side, worker] of Object.entries(sides)) {
      record[side] = { ...(await worker.ready()), seconds: [] };
    }
    for (let round = 0; round < rounds; round++) {
      for (const [side, worker] of Object.entries(sides)) {
        record[side].seconds.push((await worker.round()).seconds);
      }
      console.log(
        `  round ${round + 1}: ours ${seconds(record.ours.seconds[round])}, theirs ${seconds(record.theirs.seconds[round])}`,
      );
    }
    for (const [side, worker] of Object.entries(sides)) {
      Object.assign(record[side], await worker.close());
    }
    const ratio = median(record.theirs.seconds) / median(record.ours.seconds);
    console.log(
      `  medians: ours ${seconds(median(record.ours.seconds))} (${gigabytes(record.ours.peak_rss_bytes)}), ` +
        `theirs ${seconds(median(record.theirs.seconds))} (${gigabytes(record.theirs.peak_rss_bytes)}); ratio ${ratio.toFixed(1)}`,
    );
    results[name] = { ...record, ratio };
  } finally {
    for (const worker of Object.values(sides)) worker.kill();
  }
}

function usualSet() {
  const step = (type) => async () => {
    const result = await measureSteps({ model, type, ...SHAPE, threads, steps: 5 * rounds });
    const { total, within_passes: _, ...parts } = result.breakdown;
    console.log(
      `step-${type}: ${seconds(result.median_seconds_per_step)} a step, ${result.times_bound.toFixed(2)} times the bound of ` +
        `${seconds(result.bound_seconds)} (${result.peak_gflops.toFixed(0)} GFLOP/s), ${gigabytes(result.peak_rss_bytes)}`,
    );
    console.log(
      `  ${Object.entries(parts)
        .map(([part, s]) => `${part} ${((100 * s) / total).toFixed(1)} %`)
        .join(', ')}`,
    );
    results[`step-${type}`] = result;
  };
  return [
    ...['f32', 'f16', 'bf16'].map((type) => ({ name: `step-${type}`, run: step(type) })),
    {
      name: 'products',
      run: async () => {
        results.products = await benchProducts(PRODUCT_TYPES, threads, () => {});
        for (const type of PRODUCT_TYPES) {
          for (const m of [16, 512]) {
            const own = results.products.filter((product) => product.type === type && product.m === m);
            const rates = own.map(({ gflops }) => gflops);
            console.log(
              `products, ${type}, ${m} rows: ${Math.min(...rates).toFixed(0)} to ${Math.max(...rates).toFixed(0)} GFLOP/s over ${own.length} shapes`,
            );
          }
        }
      },
    },
  ];
}

const set = flags.peers ? comparisons().map((one) => ({ name: one.name, run: () => compare(one) })) : usualSet();
const names = flags.only?.split(',') ?? set.map(({ name }) => name);
const unknown = names.filter((name) => !set.some((one) => one.name === name));
if (unknown.length > 0) {
  console.error(`unknown: ${unknown.join(', ')}\n${usage}`);
  process.exit(2);
}
console.log(`${results.machine.cpu}, ${threads} threads, Node ${results.node}`);
let failed = 0;
for (const { name, run } of set) {
  if (!names.includes(name)) continue;
  try {
    await run();
  } catch (error) {
    failed++;
    console.error(`${name}: ${error.message}`);
    results[name] = { error: error.message };
  }
}
if (flags.json) writeFileSync(flags.json, `${JSON.stringify(results, null, 2)}\n`);
process.exit(failed > 0 ? 1 : 0);
