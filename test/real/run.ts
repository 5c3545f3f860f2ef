/**
 * Ours against the oracles on real weights and real speech.
 *
 * usage: npm run test:real -- DIR [--only logprobs,gradients,steps,types,greedy,rollout,convert,export,wer,train] [--seeds 1,2,3] [--threads 2]
 *
 * DIR holds gemma-3-270m-q4_k_m.gguf, gemma-3-270m/, ggml-tiny.en.bin, ggml-base.bin, speech/ and venv/ (CONTRIBUTING.md). Results of the
 * oracles are kept in DIR/oracle and DIR/whisper-cli. Prints a table and exits with 1 if any figure misses its bound.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { convertGemmaFolder } from '../../src/formats/gemma3-gguf.js';
import { convertWhisper } from '../../src/formats/whisper-ggml.js';
import type { BaseType, NativeAdapter, NativePolicy } from '../../src/native/addon.js';
import { loadNative } from '../../src/native/load.js';
import { sumErrors, type WordErrors, wordErrorRate, wordErrors } from '../../src/transcription/word-error-rate.js';
import {
  active,
  flatten,
  maxAbsolute,
  maxRelative,
  readSafetensors,
  rolloutRequest,
  type StoredTensor,
} from '../golden/golden.js';
import { exportsOf } from './exports.js';

const PARTS = [
  'logprobs',
  'gradients',
  'steps',
  'types',
  'greedy',
  'rollout',
  'convert',
  'export',
  'wer',
  'train',
] as const;
type Part = (typeof PARTS)[number];

const root = fileURLToPath(new URL('../../', import.meta.url));
const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: 'string', default: PARTS.join(',') },
    seeds: { type: 'string', default: '1,2,3' },
    threads: { type: 'string', default: '2' },
  },
});
const [dir] = positionals;
const wanted = flags.only.split(',') as Part[];
const unknown = wanted.filter((part) => !PARTS.includes(part));
if (!dir || positionals.length > 1 || unknown.length > 0) {
  console.error(
    `usage: npm run test:real -- DIR [--only ${PARTS.join(',')}] [--seeds 1,2,3] [--threads 2]${unknown.length ? `\nunknown: ${unknown.join(', ')}` : ''}`,
  );
  process.exit(2);
}
const threads = Number(flags.threads);
const inDir = (...names: string[]) => join(dir, ...names);
const MODEL = inDir('gemma-3-270m-q4_k_m.gguf');
const TYPES: { type: BaseType; bound: number }[] = [
  { type: 'f32', bound: 1e-3 },
  { type: 'auto', bound: 2e-2 },
];

/** Bounds of what rounding the weights may cost: about twice what was measured. */
const STORAGE: { type: BaseType; logProb: number; gradient: number }[] = [
  { type: 'f32', logProb: 1e-4, gradient: 1e-4 },
  { type: 'f16', logProb: 2e-2, gradient: 1e-2 },
  { type: 'bf16', logProb: 2e-1, gradient: 5e-2 },
  { type: 'q8_0', logProb: 1, gradient: 3e-1 },
];

interface Figure {
  what: string;
  value: string;
  bound: string;
  ok: boolean;
}
const table: Figure[] = [];

function record(what: string, value: string, bound: string, ok: boolean): void {
  table.push({ what, value, bound, ok });
  console.log(`${ok ? 'ok  ' : 'MISS'} ${what}: ${value} (${bound})`);
}

/** NaN misses. */
const atMost = (what: string, value: number, bound: number) =>
  record(what, value.toExponential(2), `<= ${bound.toExponential(0)}`, value <= bound);

function oracle<T>(part: 'logprobs' | 'gradients' | 'steps' | 'greedy'): {
  meta: T;
  tensors: Map<string, StoredTensor>;
} {
  if (!existsSync(inDir('oracle', `${part}.json`))) {
    console.log(`computing ${part} in float64 with PyTorch, once`);
    execFileSync(inDir('venv', 'bin', 'python'), ['-B', join(root, 'test/real/oracle.py'), dir as string, part], {
      stdio: 'inherit',
    });
  }
  return {
    meta: JSON.parse(readFileSync(inDir('oracle', `${part}.json`), 'utf8')) as T,
    // Greedy text is all JSON.
    tensors: part === 'greedy' ? new Map() : readSafetensors(inDir('oracle', `${part}.safetensors`)),
  };
}

function tensor(tensors: Map<string, StoredTensor>, name: string): StoredTensor['data'] {
  const found = tensors.get(name);
  if (!found) throw new Error(`the oracle has no ${name}: delete ${inDir('oracle')} and run again`);
  return found.data;
}

async function withPolicy(type: BaseType, use: (policy: NativePolicy) => Promise<void>): Promise<void> {
  const policy = await loadNative().openPolicy(MODEL, { type, threads });
  try {
    await use(policy);
  } finally {
    policy.close();
  }
}

interface Batch {
  prompts: number[][];
  lengths: number[];
  group: number;
  length: number;
}

function packed(adapter: NativeAdapter | null, meta: Batch, tensors: Map<string, StoredTensor>) {
  return {
    adapter,
    ...flatten(meta.prompts),
    numGenerations: meta.group,
    tokens: tensor(tensors, 'tokens') as Int32Array,
    lengths: Int32Array.from(meta.lengths),
    maxCompletionLength: meta.length,
    temperature: 1,
  };
}

async function logprobs(): Promise<void> {
  const { meta, tensors } = oracle<Batch & { texts: string[]; completion_texts: string[] }>('logprobs');
  for (const { type, bound } of TYPES) {
    await withPolicy(type, async (policy) => {
      const name = `${type}${type === 'auto' ? ` (${policy.info.baseType})` : ''}`;
      if (type === 'f32') {
        const ids = (text: string, addBos: boolean) =>
          [...policy.tokenize(text, { addBos, parseSpecial: false })].join();
        const rows = tensor(tensors, 'tokens');
        const wrong = [
          ...meta.texts.filter((text, b) => ids(text, true) !== (meta.prompts[b] as number[]).join()),
          ...meta.completion_texts.filter(
            (text, n) =>
              ids(text, false) !==
              [...rows.slice(n * meta.length, n * meta.length + (meta.lengths[n] as number))].join(),
          ),
        ];
        record('tokens of 10 prompts and 20 completions', `${wrong.length} differ`, '0 differ', wrong.length === 0);
      }
      const result = await policy.logProbs(packed(null, meta, tensors));
      const pick = (values: ArrayLike<number>) => active(values, meta.lengths, meta.length);
      const reference = pick(tensor(tensors, 'log_probs'));
      atMost(
        `log-probabilities, ${name}, ${meta.prompts.length} prompts, ${reference.length} tokens`,
        maxAbsolute(pick(result.logProbs), reference),
        bound,
      );
      atMost(`entropies, ${name}`, maxAbsolute(pick(result.entropies), pick(tensor(tensors, 'entropies'))), bound);
    });
  }
}

interface GradientMeta extends Batch {
  advantages: number[];
  weights: number[];
  epsilon: number;
  epsilon_high: number;
  beta: number;
  rank: number;
  alpha: number;
  target_modules: string[];
  loss: number;
  kl: number;
  clip_low: number;
  clip_high: number;
}

async function gradients(): Promise<void> {
  const { meta, tensors } = oracle<GradientMeta>('gradients');
  await withPolicy('f32', async (policy) => {
    const adapter = oracleAdapter(policy, meta, tensors);
    const result = await policy.accumulateGradient(gradientRequest(adapter, meta, tensors));
    const pick = (values: ArrayLike<number>) => active(values, meta.lengths, meta.length);
    atMost(
      'log-probabilities with an adapter, f32',
      maxAbsolute(pick(result.logProbs), pick(tensor(tensors, 'log_probs'))),
      1e-3,
    );
    atMost('loss', Math.abs(result.loss - meta.loss), 1e-4);
    atMost('kl', Math.abs(result.kl - meta.kl), 1e-4);
    atMost(
      'shares of clipped tokens',
      Math.abs(result.clipLow - meta.clip_low) + Math.abs(result.clipHigh - meta.clip_high),
      1e-6,
    );
    const figures = adapter.tensors.map((t) => ({
      name: t.name,
      figure: maxRelative(t.gradient, tensor(tensors, `gradient.${t.name}`)),
    }));
    const worst = figures.reduce((a, b) => (b.figure > a.figure ? b : a));
    atMost(`gradient of ${figures.length} LoRA matrices, f32, worst ${worst.name}`, worst.figure, 1e-4);
  });
}

interface StepsMeta extends GradientMeta {
  learning_rate: number;
  beta1: number;
  beta2: number;
  adam_epsilon: number;
  weight_decay: number;
  max_grad_norm: number;
  steps: { loss: number; grad_norm: number }[];
}

function oracleAdapter(policy: NativePolicy, meta: GradientMeta, tensors: Map<string, StoredTensor>): NativeAdapter {
  const { rank, alpha, target_modules: targetModules } = meta;
  const adapter = policy.createAdapter({ rank, alpha, targetModules, seed: 0 });
  for (const t of adapter.tensors) t.data.set(tensor(tensors, `value.${t.name}`) as Float32Array);
  return adapter;
}

function gradientRequest(adapter: NativeAdapter, meta: GradientMeta, tensors: Map<string, StoredTensor>) {
  return {
    ...packed(adapter, meta, tensors),
    adapter,
    advantages: Float32Array.from(meta.advantages),
    weights: Float32Array.from(meta.weights),
    oldLogProbs: Float32Array.from(tensor(tensors, 'old')),
    refLogProbs: Float32Array.from(tensor(tensors, 'ref')),
    epsilon: meta.epsilon,
    epsilonHigh: meta.epsilon_high,
    beta: meta.beta,
  };
}

/** Ten AdamW updates on fixed completions, off-policy from the second on. */
async function steps(): Promise<void> {
  const { meta, tensors } = oracle<StepsMeta>('steps');
  await withPolicy('f32', async (policy) => {
    const adapter = oracleAdapter(policy, meta, tensors);
    let worstLoss = 0;
    let worstNorm = 0;
    for (const [i, reference] of meta.steps.entries()) {
      adapter.zeroGradient();
      const { loss } = await policy.accumulateGradient(gradientRequest(adapter, meta, tensors));
      const { gradNorm } = adapter.step({
        learningRate: meta.learning_rate,
        beta1: meta.beta1,
        beta2: meta.beta2,
        epsilon: meta.adam_epsilon,
        weightDecay: meta.weight_decay,
        maxGradNorm: meta.max_grad_norm,
      });
      console.log(
        `  step ${i + 1}: loss ${loss.toFixed(7)} (PyTorch ${reference.loss.toFixed(7)}), gradient norm ${gradNorm.toFixed(5)} (${reference.grad_norm.toFixed(5)})`,
      );
      worstLoss = Math.max(worstLoss, Math.abs(loss - reference.loss));
      worstNorm = Math.max(worstNorm, Math.abs(gradNorm / reference.grad_norm - 1));
    }
    atMost('loss of ten updates, f32', worstLoss, 1e-5);
    atMost('gradient norm of ten updates, f32, relative', worstNorm, 1e-4);
    // How far the update itself is off, as a share of its size: a small weight says little about the whole.
    let gap = 0;
    let size = 0;
    for (const t of adapter.tensors) {
      const start = tensor(tensors, `value.${t.name}`) as Float32Array;
      const final = tensor(tensors, `final.${t.name}`) as Float32Array;
      for (const [i, x] of t.data.entries()) {
        gap += (x - (final[i] as number)) ** 2;
        size += ((final[i] as number) - (start[i] as number)) ** 2;
      }
    }
    atMost('LoRA weights after ten updates, f32, share of the way', Math.sqrt(gap / size), 2e-3);
    const worst = Math.max(...adapter.tensors.map((t) => maxAbsolute(t.data, tensor(tensors, `final.${t.name}`))));
    atMost('LoRA weights after ten updates, f32, largest difference', worst, meta.learning_rate);
  });
}

/** What each storage type costs, against float64 with the weights of the file. */
async function types(): Promise<void> {
  const scored = oracle<Batch>('logprobs');
  const trained = oracle<GradientMeta>('gradients');
  const rows: string[] = [];
  for (const { type, logProb, gradient } of STORAGE) {
    await withPolicy(type, async (policy) => {
      const of = packed(null, scored.meta, scored.tensors);
      const pick = (values: ArrayLike<number>) => active(values, scored.meta.lengths, scored.meta.length);
      const result = await policy.logProbs(of);
      const reference = pick(tensor(scored.tensors, 'log_probs'));
      const gaps = pick(result.logProbs).map((x, i) => Math.abs(x - (reference[i] as number)));
      const worst = Math.max(...gaps);
      const mean = gaps.reduce((a, b) => a + b, 0) / gaps.length;
      const adapter = oracleAdapter(policy, trained.meta, trained.tensors);
      await policy.accumulateGradient(gradientRequest(adapter, trained.meta, trained.tensors));
      // Of all matrices together: where the reference is all but zero, a share of it means nothing.
      let gap = 0;
      let size = 0;
      for (const t of adapter.tensors) {
        const g = tensor(trained.tensors, `gradient.${t.name}`) as Float32Array;
        for (const [i, x] of t.gradient.entries()) {
          gap += (x - (g[i] as number)) ** 2;
          size += (g[i] as number) ** 2;
        }
      }
      const rollout = await policy.rollout(
        rolloutRequest(adapter, {
          ...flatten(scored.meta.prompts),
          numGenerations: 2,
          promptKeys: Uint32Array.from(scored.meta.prompts.keys()),
        }),
      );
      const again = await policy.logProbs({
        ...of,
        adapter,
        numGenerations: 2,
        tokens: rollout.tokens,
        lengths: rollout.lengths,
        maxCompletionLength: 16,
      });
      const decode = maxAbsolute(rollout.logProbs, again.logProbs);
      rows.push(
        `| ${type} | ${worst.toExponential(1)} / ${mean.toExponential(1)} | ${Math.sqrt(gap / size).toExponential(1)} | ${decode.toExponential(1)} |`,
      );
      atMost(`log-probabilities, ${type} storage, largest difference`, worst, logProb);
      atMost(`gradient, ${type} storage, relative`, Math.sqrt(gap / size), gradient);
      atMost(`decode against packed pass, ${type} storage`, decode, 1e-4);
    });
  }
  console.log(
    '\n| storage | log-probability, max / mean | LoRA gradient | decode against packed pass |\n|---|---|---|---|',
  );
  console.log(rows.join('\n'));
}

async function greedy(): Promise<void> {
  const { meta } = oracle<{ prompt: number[]; tokens: number[]; text: string }[]>('greedy');
  for (const { type } of TYPES) {
    await withPolicy(type, async (policy) => {
      const result = await policy.rollout(
        rolloutRequest(null, {
          ...flatten(meta.map((m) => m.prompt)),
          numGenerations: 1,
          maxCompletionLength: 32,
          temperature: 0,
          promptKeys: Uint32Array.from(meta.keys()),
        }),
      );
      const wrong = meta.filter(({ tokens, text }, b) => {
        const ours = result.tokens.slice(b * 32, b * 32 + tokens.length);
        const equal = ours.join() === tokens.join() && policy.detokenize(ours, { special: false }) === text;
        if (!equal)
          console.log(
            `  expected ${JSON.stringify(text)}\n  got      ${JSON.stringify(policy.detokenize(ours, { special: false }))}`,
          );
        return !equal;
      });
      const tokens = meta.reduce((sum, m) => sum + m.tokens.length, 0);
      record(
        `greedy text, ${type}, ${meta.length} prompts, ${tokens} tokens`,
        `${wrong.length} differ`,
        '0 differ',
        wrong.length === 0,
      );
    });
  }
}

/** Sampling with an adapter: against the packed pass, and independent of threads and of the batch's layout. */
async function rollout(): Promise<void> {
  const { meta, tensors } = oracle<GradientMeta>('gradients');
  const results: { tokens: string; logProbs: Float32Array }[] = [];
  for (const [used, order] of [
    [1, [0, 1, 2]],
    [threads, [0, 1, 2]],
    [threads, [2, 1]],
  ] as const) {
    const policy = await loadNative().openPolicy(MODEL, { type: 'auto', threads: used });
    try {
      const adapter = oracleAdapter(policy, meta, tensors);
      const prompts = flatten(order.map((b) => meta.prompts[b] as number[]));
      const result = await policy.rollout(
        rolloutRequest(adapter, {
          ...prompts,
          numGenerations: 4,
          maxCompletionLength: 24,
          stopTokens: Int32Array.from(policy.info.stopTokens),
          promptKeys: Uint32Array.from(order),
        }),
      );
      const first = order[0] === 0 ? 4 * 24 : 0; // compare prompts 1 and 2; the third run has them the other way round
      const rows = [result.tokens.slice(first, first + 96), result.tokens.slice(first + 96, first + 192)];
      if (order[0] === 2) rows.reverse();
      results.push({ tokens: rows.map((r) => r.join()).join(';'), logProbs: result.logProbs });
      const { logProbs } = await policy.logProbs({
        adapter,
        ...prompts,
        numGenerations: 4,
        tokens: result.tokens,
        lengths: result.lengths,
        maxCompletionLength: 24,
        temperature: 1,
      });
      const pick = (values: ArrayLike<number>) => active(values, result.lengths, 24);
      const figure = maxAbsolute(pick(result.logProbs), pick(logProbs));
      atMost(`decode against packed pass, auto, ${used} threads, ${order.length} prompts`, figure, 1e-4);
    } finally {
      policy.close();
    }
  }
  const [one, several, other] = results;
  record(
    'tokens, 1 thread against several',
    one?.tokens === several?.tokens ? 'equal' : 'differ',
    'equal',
    one?.tokens === several?.tokens,
  );
  const gap = maxAbsolute(one?.logProbs ?? [Number.NaN], several?.logProbs ?? []);
  atMost('log-probabilities, 1 thread against several', gap, 0);
  record(
    'tokens, another layout of the batch',
    other?.tokens === one?.tokens ? 'equal' : 'differ',
    'equal',
    other?.tokens === one?.tokens,
  );
}

/** whisper.cpp's own command line program, built once from the sources that the addon is built from. */
function whisperCli(): string {
  const program = inDir('whisper-cli', 'bin', 'whisper-cli');
  if (existsSync(program)) return program;
  const source = join(root, 'node_modules/nodejs-whisper/cpp/whisper.cpp');
  console.log('building whisper-cli, once');
  const off = ['WHISPER_BUILD_TESTS', 'WHISPER_BUILD_SERVER', 'WHISPER_SDL2', 'BUILD_SHARED_LIBS', 'GGML_OPENMP'].map(
    (o) => `-D${o}=OFF`,
  );
  execFileSync(
    'cmake',
    ['-S', source, '-B', inDir('whisper-cli'), '-DCMAKE_BUILD_TYPE=Release', '-DWHISPER_BUILD_EXAMPLES=ON', ...off],
    { stdio: 'inherit' },
  );
  execFileSync('cmake', ['--build', inDir('whisper-cli'), '-j', '2', '--target', 'whisper-cli'], { stdio: 'inherit' });
  return program;
}

function voicegrpo(args: string[], cache: string): { stdout: string; status: number | null } {
  const { bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { bin: { voicegrpo: string } };
  const script = join(root, bin.voicegrpo);
  if (!existsSync(script)) throw new Error(`${script} is missing: run npm run build`);
  const { stdout, status } = spawnSync(process.execPath, [script, ...args], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, VOICEGRPO_CACHE: cache },
    maxBuffer: 1 << 28,
  });
  return { stdout, status };
}

/** Our conversions beside whisper.cpp's own, byte for byte, and beside the GGUF that the folder was made from. */
async function convert(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'voicegrpo-'));
  const output = join(folder, 'model');
  for (const model of ['tiny.en', 'base']) {
    await convertWhisper(inDir(`${model}.pt`), output);
    const equal = readFileSync(output).equals(readFileSync(inDir(`ggml-${model}.bin`)));
    record(`${model}.pt as ggml beside whisper.cpp's converter`, equal ? 'equal bytes' : 'different', 'equal', equal);
  }
  await convertGemmaFolder(inDir('gemma-3-270m'), output, { type: 'f32' });
  const prompt = [2, 651, 4320, 576, 1982, 1492, 563];
  const scores = [];
  for (const path of [MODEL, output]) {
    const policy = await loadNative().openPolicy(path, { type: 'f32', threads });
    const { logProbs } = await policy.logProbs({
      ...flatten([prompt]),
      adapter: null,
      numGenerations: 1,
      tokens: Int32Array.from([2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000]),
      lengths: Int32Array.of(8),
      maxCompletionLength: 8,
      temperature: 1,
    });
    scores.push(logProbs);
    policy.close();
  }
  rmSync(folder, { recursive: true });
  const [ours, original] = scores as [Float32Array, Float32Array];
  const gap = maxAbsolute(ours, original);
  record('the Gemma folder as f32 GGUF beside the original: log-probabilities', gap.toExponential(1), '0', gap === 0);
}

const exports = (): Promise<void> =>
  exportsOf({ root, dir: dir as string, threads, record, voicegrpo: (args) => voicegrpo(args, inDir('cache')) });

async function wer(): Promise<void> {
  const cli = whisperCli();
  const clips = readFileSync(inDir('speech', 'transcripts.tsv'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => line.split('\t') as [string, string]);
  for (const model of ['tiny.en', 'base']) {
    const file = inDir(`ggml-${model}.bin`);
    const files = clips.map(([name]) => inDir('speech', name));
    const options = ['--model', file, '--language', 'en', '--threads', String(threads)];
    // An empty cache: what is measured is decoding.
    const cache = mkdtempSync(join(tmpdir(), 'voicegrpo-'));
    const run = voicegrpo(['transcribe', '--json', ...options, ...files], cache);
    rmSync(cache, { recursive: true });
    const ours = JSON.parse(run.stdout) as { file: string; text: string; error?: unknown }[];
    const count = (texts: string[]) =>
      sumErrors(texts.map((text, i) => wordErrors((clips[i] as [string, string])[1], text)));
    // Its own defaults, timestamps among them: without them (-nt) it decodes otherwise. They are cut off here.
    const plain = (lines: string) =>
      lines
        .replace(/^\[[^\]]*\]/gm, '')
        .replace(/\s+/g, ' ')
        .trim();
    const printed = clips.map(([name]) =>
      execFileSync(cli, ['-m', file, '-f', inDir('speech', name), '-l', 'en', '-t', String(threads), '-np'], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }),
    );
    const theirs = printed.map(plain);
    clips.forEach(([name], i) => {
      const [a, b] = [plain(ours[i]?.text ?? ''), theirs[i]];
      if (a !== b) console.log(`  ${name}\n    voicegrpo:   ${a}\n    whisper-cli: ${b}`);
    });
    const [a, b] = [count(clips.map((_, i) => ours[i]?.text ?? '')), count(theirs)];
    const show = (errors: WordErrors) => `${(100 * (wordErrorRate(errors) as number)).toFixed(2)} %`;
    record(
      `word error rate, ${model}, ${clips.length} clips, ${a.words} words`,
      show(a),
      `whisper-cli: ${show(b)}`,
      run.status === 0 && wordErrorRate(a) === wordErrorRate(b),
    );
  }
}

async function train(): Promise<void> {
  for (const seed of flags.seeds.split(',')) {
    const output = inDir('runs', `small-seed-${seed}`);
    rmSync(output, { recursive: true, force: true });
    const inputs = ['--model', MODEL, '--whisper', inDir('ggml-base.bin'), '--data', join(root, 'assets/clips')];
    const options = ['--seed', seed, '--max-steps', '60', '--threads', String(threads), '--output-dir', output];
    const { stdout, status } = voicegrpo(
      ['train', '--config', 'small', ...inputs, ...options, '--json'],
      inDir('cache'),
    );
    if (status !== 0) {
      record(`training, seed ${seed}`, `exit code ${status}`, 'exit code 0', false);
      continue;
    }
    interface Evaluation {
      accuracy: number;
      macro_f1: number;
      n: number;
    }
    const result = JSON.parse(stdout) as {
      steps: number;
      seconds: { train: number };
      before: Evaluation;
      after: Evaluation;
    };
    const { before, after } = result;
    const what = `held-out accuracy, seed ${seed}, ${result.steps} steps in ${result.seconds.train.toFixed(0)} s, ${after.n} clips, before ${before.accuracy.toFixed(3)}, macro-F1 ${after.macro_f1.toFixed(3)}`;
    record(what, after.accuracy.toFixed(3), '>= 0.85', after.accuracy >= 0.85 && result.steps <= 60);
  }
}

for (const part of PARTS) {
  if (!wanted.includes(part)) continue;
  console.log(`\n${part}`);
  try {
    await { logprobs, gradients, steps, types, greedy, rollout, convert, export: exports, wer, train }[part]();
  } catch (error) {
    record(part, (error as Error).message.split('\n')[0] ?? '', 'no error', false);
    console.log((error as Error).stack);
  }
}
const width = Math.max(...table.map((f) => f.what.length));
console.log(
  `\n${table.map((f) => `${f.ok ? 'ok  ' : 'MISS'}  ${f.what.padEnd(width)}  ${f.value}  (${f.bound})`).join('\n')}`,
);
const misses = table.filter((f) => !f.ok).length;
console.log(`\n${table.length - misses} passed, ${misses} failed`);
process.exit(misses > 0 || table.length === 0 ? 1 : 0);
