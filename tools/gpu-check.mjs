// One call on a machine with an NVIDIA GPU: builds, tests, measures, and prints one table. Nothing of it stands for more than it ran.
//
//   tools/gpu-check [--full] [--carried FILE.node] [--model FILE.gguf] [--folder DIR --peers PYTHON] [--device cuda:N] [--json FILE]
//
//   --carried FILE  a CUDA addon that was built elsewhere: nothing is built (native-tests-cuda beside it is run, where it is there)
//   --model FILE    the policy that is measured; default: the bundled one
//   --folder DIR    the same weights for transformers, with --peers PYTHON that has torch with CUDA, transformers, trl, peft, datasets
//   --full          more rounds, every parity test file, compute-sanitizer's racecheck and initcheck besides memcheck
//   --device cpu    tries this script itself, with small shapes, on a machine without a GPU
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { options } from '../bench/step.mjs';
import { Worker } from '../bench/worker.mjs';
import { BUNDLED_POLICY } from '../dist/run/inputs.js';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const { values: flags } = parseArgs({
  options: {
    full: { type: 'boolean', default: false },
    carried: { type: 'string' },
    model: { type: 'string', default: BUNDLED_POLICY },
    folder: { type: 'string' },
    peers: { type: 'string' },
    device: { type: 'string', default: 'cuda' },
    json: { type: 'string' },
  },
});
const onCpu = flags.device === 'cpu';
const addon = path.resolve(
  flags.carried ?? path.join(root, 'build', 'Release', onCpu ? 'voicegrpo.node' : 'voicegrpo-cuda.node'),
);
const env = { ...process.env, VOICEGRPO_ADDON: addon, VOICEGRPO_CUDA_ADDON: addon };
const cli = path.join(root, 'dist', 'cli.js');
/** Dense bf16 TFLOP/s and GB/s, from NVIDIA's data sheets. */
const CARDS = [
  [/H200/, 989, 4800],
  [/H100.*PCIe/, 756, 2000],
  [/H100/, 989, 3350],
  [/A100.*80/, 312, 2039],
  [/A100/, 312, 1555],
  [/RTX 4090/, 165, 1008],
];
const SHAPES = onCpu
  ? [{ prompts: 2, generations: 2, completionTokens: 4, promptTokens: 32, loraR: 4 }]
  : [
      { prompts: 8, generations: 8, completionTokens: 16, promptTokens: 128, loraR: 16 },
      { prompts: 32, generations: 16, completionTokens: 32, promptTokens: 256, loraR: 16 },
    ];
const PARITY = ['40.policy-golden', '45.rollout', '46.training-pass', '48.kept-pass', '21.transcription'];
const FULL = ['20.transcript', '47.policy-faults', '60.advantage', '65.label-exploration', '80.loop'];
const rounds = onCpu ? 2 : flags.full ? 20 : 5;

const rows = [];
function row(name, ok, text) {
  rows.push({ name, ok, text });
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${name}: ${text}`);
}

function run(command, args, seconds) {
  const start = performance.now();
  const result = spawnSync(command, args, {
    cwd: root,
    env,
    encoding: 'utf8',
    timeout: seconds * 1000,
    maxBuffer: 1 << 28,
  });
  const output = `${result.stdout ?? ''}${result.stderr ?? ''}`;
  return {
    status: result.error ? result.error.message : result.status,
    output,
    stdout: result.stdout ?? '',
    seconds: (performance.now() - start) / 1000,
  };
}
const last = (text, n = 3) => text.trim().split('\n').slice(-n).join(' | ');
const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

function machine() {
  if (onCpu) return row('device', true, 'cpu: this tries the script and says nothing of a GPU');
  const smi = run(
    'nvidia-smi',
    ['--query-gpu=name,driver_version,memory.total,compute_cap', '--format=csv,noheader'],
    30,
  );
  row('nvidia-smi', smi.status === 0, smi.status === 0 ? smi.stdout.trim().replaceAll('\n', '; ') : String(smi.status));
}

function build() {
  if (flags.carried !== undefined || onCpu) return row('addon', existsSync(addon), `${addon} (not built here)`);
  const { status, output, seconds } = run(process.execPath, ['tools/build.mjs', '--cuda'], flags.full ? 7200 : 400);
  row('build', status === 0, status === 0 ? `${seconds.toFixed(0)} s` : last(output));
}

function tests() {
  const native = path.join(path.dirname(addon), onCpu ? 'native-tests' : 'native-tests-cuda');
  if (existsSync(native)) {
    const { status, output, seconds } = run(native, [], 300);
    row('native tests', status === 0, `${last(output, 1)}, ${seconds.toFixed(0)} s`);
  } else {
    row('native tests', false, `no file ${native}`);
  }
  for (const name of flags.full ? [...PARITY, ...FULL] : onCpu ? PARITY.slice(0, 1) : PARITY) {
    const { status, output, seconds } = run(process.execPath, ['--import', 'tsx', `test/${name}.test.ts`], 300);
    const passed = /Passed:\s+(\d+)/.exec(output)?.[1] ?? '0';
    row(
      `test ${name}`,
      status === 0 && passed !== '0',
      status === 0 ? `${passed} passed, ${seconds.toFixed(0)} s` : last(output),
    );
  }
}

/** Where the products' time must go at least: passes by FLOP, decoding by reading the weights once for each token. */
function bound({ flops, parameters }, { completionTokens }, card) {
  const [, teraflops, gigabytes] = card;
  const arithmetic = flops / (teraflops * 1e12);
  const reading = (completionTokens * parameters * 2) / (gigabytes * 1e9);
  return { arithmetic, reading, seconds: Math.max(arithmetic, reading) };
}

async function bench(shape) {
  const name = `step ${shape.prompts} x ${shape.generations} x ${shape.completionTokens}, P ${shape.promptTokens}`;
  const type = onCpu ? 'auto' : 'bf16';
  const work = { model: flags.model, type, threads: 2, device: flags.device, ...shape };
  process.env.VOICEGRPO_CUDA_ADDON = addon;
  const sides = {
    ours: new Worker('ours', process.execPath, [path.join(root, 'bench/ours/step.mjs'), JSON.stringify(work)]),
  };
  if (flags.peers !== undefined && flags.folder !== undefined) {
    const theirs = { model: flags.folder, threads: 16, dtype: 'bfloat16', device: onCpu ? 'cpu' : 'cuda', ...shape };
    sides.theirs = new Worker('theirs', flags.peers, [path.join(root, 'bench/peers/trl_step.py'), ...options(theirs)]);
  }
  try {
    const times = Object.fromEntries(Object.keys(sides).map((side) => [side, []]));
    const ready = {};
    for (const [side, worker] of Object.entries(sides)) ready[side] = await worker.ready();
    let breakdown = {};
    for (let round = 0; round < rounds; round++) {
      for (const [side, worker] of Object.entries(sides)) {
        const report = await worker.round();
        times[side].push(report.seconds);
        if (side === 'ours') breakdown = report.breakdown;
      }
    }
    const ours = median(times.ours);
    row(name, true, `ours ${(1000 * ours).toFixed(1)} ms, on ${ready.ours.device.name ?? ready.ours.device.device}`);
    const { within_passes: _, ...parts } = breakdown;
    const shares = Object.entries(parts).map(([part, s]) => `${part} ${(1000 * s).toFixed(2)} ms`);
    row(`${name}: last round`, true, shares.join(', '));
    if (times.theirs) {
      const ratio = median(times.theirs) / ours;
      row(
        `${name}: against TRL`,
        onCpu || ratio >= 8,
        `theirs ${(1000 * median(times.theirs)).toFixed(1)} ms, ratio ${ratio.toFixed(1)} (wanted 8)`,
      );
    } else {
      row(`${name}: against TRL`, onCpu, 'not compared: --folder and --peers are missing');
    }
    const card = CARDS.find(([pattern]) => pattern.test(ready.ours.device.name ?? ''));
    if (card !== undefined) {
      const { arithmetic, reading, seconds } = bound(ready.ours, shape, card);
      const times = ours / seconds;
      const text = `arithmetic ${(1000 * arithmetic).toFixed(2)} ms, reading ${(1000 * reading).toFixed(2)} ms, ours is ${times.toFixed(2)} times the larger (wanted 2.5)`;
      row(`${name}: bound`, times <= 2.5, text);
    } else {
      row(`${name}: bound`, onCpu, 'no figures of this card');
    }
  } catch (error) {
    row(name, false, error.message.split('\n').slice(0, 2).join(' '));
  } finally {
    for (const worker of Object.values(sides)) worker.kill();
  }
}

function sanitizer() {
  const tools = flags.full ? ['memcheck', 'racecheck', 'initcheck'] : ['memcheck'];
  const step = [
    cli,
    'bench',
    'step',
    '--device',
    flags.device,
    '--prompts',
    '1',
    '--generations',
    '2',
    '--prompt-tokens',
    '16',
  ];
  const work = [...step, '--completion-tokens', '2', '--steps', '1', '--threads', '1'];
  if (onCpu) {
    const { status, output } = run(process.execPath, work, 120);
    return row('the short run of the sanitizer', status === 0, last(output, 1));
  }
  for (const tool of tools) {
    const { status, output, seconds } = run(
      'compute-sanitizer',
      ['--tool', tool, '--error-exitcode', '9', process.execPath, ...work],
      flags.full ? 1800 : 100,
    );
    row(`compute-sanitizer ${tool}`, status === 0, `${last(output, 1)}, ${seconds.toFixed(0)} s`);
  }
}

machine();
build();
tests();
for (const shape of SHAPES) await bench(shape);
sanitizer();
const width = Math.max(...rows.map(({ name }) => name.length));
console.log(`\ngpu-check, ${new Date().toISOString().slice(0, 10)}${onCpu ? ', ON THE CPU' : ''}`);
for (const { name, ok, text } of rows) console.log(`${ok ? 'ok  ' : 'FAIL'} ${name.padEnd(width)}  ${text}`);
if (flags.json) writeFileSync(flags.json, `${JSON.stringify(rows, null, 2)}\n`);
process.exit(rows.every(({ ok }) => ok) ? 0 : 1);
