/** Each export format loaded by its own ecosystem, on real weights, beside `voicegrpo classify`. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { EXPORT_FORMATS, type ExportFormat, type ExportType, exportRun } from '../../src/export/export.js';
import { probeLogProbs } from '../../src/export/verify.js';
import { convertGemmaFolder } from '../../src/formats/gemma3-gguf.js';
import { Hub } from '../../src/hub/client.js';
import { hubEnvironment } from '../../src/hub/environment.js';
import { sha256 } from '../../src/run/files.js';
import { Progress } from '../../src/run/progress.js';
import { openTrainedRun } from '../../src/run/trained.js';

/** |Δ log-probability| that the type may cost; of quantized types llama.cpp also rounds the activations. */
const BOUNDS: Readonly<Record<ExportType, number>> = { f32: 2e-2, f16: 2e-2, bf16: 3e-1, q8_0: 3, q4_k_m: 8 };
const TEXTS = [
  'Write a poem about the sea in exactly four lines.',
  'How long do spiders live?',
  'Good evening, I just came home from work and I am so tired. What should I cook?',
  'List three animals, and use only small letters.',
];

export interface RealFiles {
  root: string;
  /** The folder that the checks are given. */
  dir: string;
  threads: number;
  voicegrpo(args: string[]): { stdout: string; status: number | null };
  record(what: string, value: string, bound: string, ok: boolean): void;
}

interface Found {
  name: string;
  log_probs: number[][];
  greedy: number[][];
  misread: number;
}

/** Trains a short run once, into DIR/runs/export, and checks every format and type. */
export async function exportsOf({ root, dir, threads, voicegrpo, record }: RealFiles): Promise<void> {
  const path = join(dir, 'runs', 'export');
  if (!existsSync(join(path, 'evaluation.json'))) {
    rmSync(path, { recursive: true, force: true });
    const model = [
      '--model',
      join(dir, 'gemma-3-270m-q4_k_m.gguf'),
      '--data',
      join(root, 'assets/clips'),
      '--use-text',
    ];
    const steps = ['--max-steps', '12', '--threads', String(threads), '--output-dir', path];
    const { status } = voicegrpo(['train', '--config', 'small', ...model, ...steps]);
    if (status !== 0) throw new Error(`the run to export ended with exit code ${status}`);
  }
  const folder = mkdtempSync(join(tmpdir(), 'voicegrpo-'));
  const progress = new Progress(new Writable({ write: (_chunk, _encoding, done) => done() }));
  try {
    const base = join(folder, 'base.gguf');
    await convertGemmaFolder(join(dir, 'gemma-3-270m'), base, { type: 'f32' });
    using run = await openTrainedRun(path, 'last', [], { hub: new Hub(hubEnvironment()), progress });
    const { prompts: builder, labels, policy } = run.evaluation;
    // As classify makes them.
    const clips = TEXTS.map((text) => ({ id: sha256(text), file: '', label: '', transcript: text }));
    const prompts = clips.map((clip) => builder.build(clip, null));
    const answers = labels.map((label) => builder.answerTokens(label));
    const expected = await probeLogProbs(policy, run.adapter, { prompts, answers });
    const texts = TEXTS.flatMap((text) => ['--text', text]);
    const classified = JSON.parse(
      voicegrpo(['classify', path, '--adapter', 'last', '--json', '--threads', String(threads), ...texts]).stdout,
    ) as { answer: string; probabilities: Record<string, number> }[];

    const exports: { name: string; format: ExportFormat; type: ExportType; path: string; base: string }[] = [];
    for (const [format, { types }] of Object.entries(EXPORT_FORMATS) as [
      ExportFormat,
      { types: readonly ExportType[] },
    ][]) {
      for (const type of types) {
        const output = join(folder, `${format}-${type}`);
        try {
          await exportRun(run, { format, type, output, overwrite: false, adapter: 'last' });
        } catch (error) {
          // The base here is a q4_k_m file: on its grid what was learned can be too small to be seen.
          const refused = type === 'q4_k_m' && (error as { code: string }).code === 'E_EXPORT';
          record(`${format} ${type}`, (error as Error).message, 'written, or refused as too coarse', refused);
          continue;
        }
        const file = { peft: output, merged: output, gguf: join(output, 'model.gguf') }[format as 'gguf'];
        const where = file ?? join(output, 'adapter.gguf');
        const from = format === 'peft' ? join(dir, 'gemma-3-270m') : base;
        exports.push({ name: `${format} ${type}`, format, type, path: where, base: from });
      }
    }
    const [spec, result] = [join(folder, 'spec.json'), join(folder, 'result.json')];
    writeFileSync(
      spec,
      JSON.stringify({
        prompts: prompts.map(({ text, tokens }) => ({ text, tokens: [...tokens] })),
        answers: answers.map((answer) => [...answer]),
        stop_tokens: [...builder.stopTokens],
        length: 4,
        threads,
        exports,
      }),
    );
    execFileSync(join(dir, 'venv', 'bin', 'python'), ['-B', join(root, 'test/real/exports.py'), spec, result], {
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, HF_HUB_OFFLINE: '1' },
    });
    for (const [i, found] of (JSON.parse(readFileSync(result, 'utf8')) as Found[]).entries()) {
      const { format, type } = exports[i] as (typeof exports)[number];
      const flat = found.log_probs.flat();
      const worst = Math.max(...flat.map((value, k) => Math.abs(value - (expected[k] as number))));
      const ecosystem = { peft: 'PEFT', merged: 'transformers' }[format as 'peft'] ?? 'llama.cpp';
      record(
        `${found.name} in ${ecosystem}: log-probabilities of ${flat.length} tokens`,
        worst.toExponential(1),
        `<= ${BOUNDS[type]}`,
        flat.length === expected.length && worst <= BOUNDS[type],
      );
      const said = found.greedy.map((tokens) =>
        firstLine(policy.detokenize(Int32Array.from(tokens), { special: false })),
      );
      const wrong = said.filter((answer, p) => answer !== classified[p]?.answer);
      const coarse = type === 'q8_0' || type === 'q4_k_m';
      record(
        `${found.name} in ${ecosystem}: greedy answers beside classify's`,
        `${wrong.length} of ${said.length} differ`,
        coarse ? 'any' : '0',
        coarse || wrong.length === 0,
      );
      if (format === 'merged') {
        record(
          `${found.name}: prompts that its tokenizer reads otherwise`,
          `${found.misread}`,
          '0',
          found.misread === 0,
        );
      }
      if (type === 'f32') {
        // Of the labels as whole answers, normalised: what classify prints.
        const gap = Math.max(
          ...prompts.flatMap((_, p) => {
            const sums = labels.map((_, l) =>
              (found.log_probs[p * labels.length + l] as number[]).reduce((a, b) => a + b),
            );
            const total = Math.log(sums.reduce((sum, value) => sum + Math.exp(value), 0));
            return labels.map((label, l) =>
              Math.abs((sums[l] as number) - total - Math.log(classified[p]?.probabilities[label] as number)),
            );
          }),
        );
        record(
          `${found.name} in ${ecosystem}: log-probabilities of classify`,
          gap.toExponential(1),
          '<= 2e-2',
          gap <= 2e-2,
        );
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** A base model's answer ends with its line. */
function firstLine(text: string): string {
  return (text.split('\n')[0] as string).trim();
}
