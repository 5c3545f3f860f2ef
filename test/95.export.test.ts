/** A trained run in the formats of PEFT, transformers, llama.cpp and Ollama: each read back, and each known trap noticed. */
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { EXPORT_FORMATS, type ExportFormat, type ExportOptions, exportRun } from '../src/export/export.js';
import type { ExportSource, Format } from '../src/export/format.js';
import { storedType } from '../src/export/gguf-model.js';
import { modelfile, PLACEHOLDER } from '../src/export/modelfile.js';
import { placeFolder } from '../src/export/place.js';
import { compare, requireAgreement } from '../src/export/verify.js';
import { convertGemmaFolder } from '../src/formats/gemma3-gguf.js';
import { gemmaTensors } from '../src/formats/gemma3-names.js';
import { type GgufTensor, type GgufValue, writeGguf } from '../src/formats/gguf.js';
import { GgufEntries } from '../src/formats/gguf-entries.js';
import { encodeFloats, tensorBytes } from '../src/formats/gguf-types.js';
import { readSafetensors } from '../src/formats/safetensors.js';
import { Hub } from '../src/hub/client.js';
import { hubEnvironment } from '../src/hub/environment.js';
import type { NativeAdapter } from '../src/native/addon.js';
import { loadNative } from '../src/native/load.js';
import { answerClips } from '../src/pipeline/evaluate.js';
import { BUNDLED_POLICY } from '../src/run/inputs.js';
import { Progress } from '../src/run/progress.js';
import { openTrainedRun, type TrainedRun } from '../src/run/trained.js';
import { runCli } from './cli.js';

/** The bundled policy. */
const TINY = { layers: 6, width: 128, inner: 512, heads: 4, kvHeads: 2, headDim: 32 };

const scratch = mkdtempSync(join(tmpdir(), 'voicegrpo-export-'));
const env = { VOICEGRPO_CACHE: join(scratch, 'cache'), HF_HOME: join(scratch, 'hf') };
const progress = new Progress(new Writable({ write: (_chunk, _encoding, done) => done() }));
const hub = new Hub({ ...hubEnvironment(env), offline: true });

async function trained(name: string, ...flags: string[]): Promise<string> {
  const out = join(scratch, name);
  const small = ['--samples-per-dataset', '12', '--held-out-per-dataset', '4', '--max-steps', '4', '--use-text'];
  const { code, stderr } = await runCli(['train', '--config', 'tiny', ...small, ...flags, '--output-dir', out], env);
  assert.is(code, 0, stderr);
  return out;
}

const open = (path: string, choice: 'best' | 'last' = 'last'): Promise<TrainedRun> =>
  openTrainedRun(path, choice, [], { hub, progress });

const options = (format: ExportFormat, type: string, output: string): ExportOptions =>
  ({ format, type, output: join(scratch, output), overwrite: false, adapter: 'last' }) as ExportOptions;

const run = await trained('run');
const PAIRS = Object.entries(EXPORT_FORMATS).flatMap(([format, { types }]) =>
  types.map((type): [ExportFormat, string] => [format as ExportFormat, type]),
);

for (const [format, type] of PAIRS) {
  test(`${format}, ${type}: what was learned is in the files`, async () => {
    using opened = await open(run);
    const { output, files, bytes, agreement } = await exportRun(opened, options(format, type, `${format}-${type}`));
    console.log(
      `  ${format} ${type}: ${agreement.maxDifference.toExponential(1)} of ${agreement.tolerance}, ${(100 * agreement.share).toFixed(1)}%`,
    );
    assert.ok(agreement.change > 0.05, `training changed log-probabilities by ${agreement.change}`);
    assert.ok(agreement.maxDifference <= agreement.tolerance);
    assert.ok(Math.abs(agreement.share - 1) < 0.3, `${agreement.share}`);
    if (type === 'f32') assert.ok(agreement.maxDifference < 1e-4, `${agreement.maxDifference}`);
    assert.equal(readdirSync(output).sort(), files);
    assert.is(
      bytes,
      files.reduce((sum, name) => sum + statSync(join(output, name)).size, 0),
    );
    assert.ok(files.includes('README.md'));
    assert.equal(
      readdirSync(scratch).filter((name) => /\.tmp-|\.gguf$/.test(name)),
      [],
    );
  });
}

test('a merged model answers as the trained policy does, without an adapter', async () => {
  using opened = await open(run);
  const clips = opened.dataset.heldOut;
  const expected = await answerClips(opened.evaluation, opened.adapter, clips);
  const folder = join(scratch, 'merged-f32');
  const fromFolder = join(scratch, 'from-folder.gguf');
  await convertGemmaFolder(folder, fromFolder);
  for (const path of [join(scratch, 'gguf-f32', 'model.gguf'), fromFolder]) {
    using policy = await loadNative().openPolicy(path, { type: 'auto', threads: 2 });
    const answers = await answerClips({ ...opened.evaluation, policy }, null, clips);
    assert.equal(
      answers.map(({ answer }) => answer),
      expected.map(({ answer }) => answer),
    );
    for (const [i, { probabilities }] of answers.entries()) {
      for (const [label, probability] of Object.entries(probabilities)) {
        const wanted = expected[i]?.probabilities[label] as number;
        assert.ok(Math.abs(probability - wanted) < 1e-4, `${label} ${probability} ${wanted}`);
      }
    }
  }
  rmSync(fromFolder);
});

test('a merged model has the norms of transformers, without the 1 that GGUF adds, and no second embedding', async () => {
  const { tensors } = readSafetensors(readFileSync(join(scratch, 'merged-f32', 'model.safetensors')));
  const config = JSON.parse(readFileSync(join(scratch, 'merged-f32', 'config.json'), 'utf8'));
  assert.is(config.tie_word_embeddings, true);
  assert.not.ok(tensors.has('lm_head.weight'));
  using file = await loadNative().openGguf(BUNDLED_POLICY);
  for (const { hf, gguf, shape } of gemmaTensors(TINY, 0, false)) {
    if (shape.length > 1) continue;
    const stored = file.readRows(gguf, 0, 1);
    assert.equal(
      tensors.get(hf)?.data,
      stored.map((value) => value - 1),
      hf,
    );
  }
});

/** Another adapter in the place of the trained one while the files are written. */
async function sabotaged(
  format: ExportFormat,
  spoil: (adapter: NativeAdapter) => void,
  type: string = EXPORT_FORMATS[format].types[0] as string,
): Promise<string> {
  using opened = await open(run);
  const { r, lora_alpha, target_modules } = opened.config.lora;
  const other = opened.policy.createAdapter({ rank: r, alpha: lora_alpha, targetModules: target_modules, seed: 0 });
  for (const [i, tensor] of (opened.adapter as NativeAdapter).tensors.entries())
    other.tensors[i]?.data.set(tensor.data);
  spoil(other);
  const kind = EXPORT_FORMATS[format] as Format<string>;
  const { write } = kind;
  kind.write = (folder: string, source: ExportSource, ...rest) => write(folder, { ...source, adapter: other }, ...rest);
  const before = readdirSync(scratch).sort();
  try {
    await exportRun(opened, options(format, type, 'spoiled'));
    return 'exported';
  } catch (error) {
    assert.equal(readdirSync(scratch).sort(), before, 'something was left behind');
    return `${(error as { code: string }).code} ${(error as Error).message}`;
  } finally {
    kind.write = write;
    other.close();
  }
}

const isB = ({ name }: { name: string }) => name.endsWith('.lora_B.weight');
const SPOILS: [string, (adapter: NativeAdapter) => void][] = [
  ['the adapter is lost', ({ tensors }) => tensors.filter(isB).forEach(({ data }) => void data.fill(0))],
  [
    'alpha / r is forgotten',
    ({ tensors }) =>
      tensors.filter(isB).forEach(({ data }) => {
        for (let i = 0; i < data.length; i++) data[i] = (data[i] as number) / 2;
      }),
  ],
  [
    'alpha / r is applied twice',
    ({ tensors }) =>
      tensors.filter(isB).forEach(({ data }) => {
        for (let i = 0; i < data.length; i++) data[i] = (data[i] as number) * 2;
      }),
  ],
  [
    'one kind of module is missing',
    ({ tensors }) =>
      tensors
        .filter((tensor) => isB(tensor) && tensor.name.includes('down_proj'))
        .forEach(({ data }) => void data.fill(0)),
  ],
];
for (const format of Object.keys(EXPORT_FORMATS) as ExportFormat[]) {
  for (const [what, spoil] of SPOILS) {
    test(`${format}: refused, and nothing is kept, if ${what}`, async () => {
      const outcome = await sabotaged(format, spoil);
      assert.match(outcome, /^E_EXPORT .*log-probabilities within .* of the trained policy's/);
    });
  }
}

for (const type of ['q8_0', 'q4_k_m']) {
  for (const [what, spoil] of SPOILS.filter(([name]) => !name.startsWith('one'))) {
    test(`gguf, ${type}: refused, although rounding may cost much, if ${what}`, async () => {
      assert.match(await sabotaged('gguf', spoil, type), /^E_EXPORT .* of what was learned/);
    });
  }
}

test('gguf: refused if ends, windows or template are not those of the base model', async () => {
  const { write } = EXPORT_FORMATS.gguf;
  for (const [key, value, sentence] of [
    ['tokenizer.ggml.eos_token_id', { kind: 'u32', value: 7 }, /eosToken/],
    ['tokenizer.ggml.add_bos_token', { kind: 'bool', value: false }, /addBos/],
    ['tokenizer.chat_template', { kind: 'string', value: '{{ bos_token }}' }, /chatTemplate/],
    ['gemma3.attention.sliding_window', { kind: 'u32', value: 65 }, /slidingWindow/],
    ['gemma3.context_length', { kind: 'u32', value: 512 }, /contextLength/],
  ] as const) {
    using opened = await open(run);
    EXPORT_FORMATS.gguf.write = async (folder, ...rest) => {
      await write(folder, ...rest);
      const path = join(folder, 'model.gguf');
      using file = await loadNative().openGguf(path);
      const values = new Map<string, GgufValue>(new GgufEntries(file.entries).encoded()).set(key, value);
      const tensors = file.tensors.map(({ name, shape, type }): GgufTensor => {
        const rows = shape.slice(0, -1).reduce((a, b) => a * b, 1);
        const stored = type as 'f32' | 'f16';
        async function* pieces() {
          const numbers = file.readRows(name, 0, rows);
          const bytes = new Uint8Array(tensorBytes(stored, numbers.length));
          encodeFloats(stored, numbers, bytes);
          yield bytes;
        }
        return { name, shape, type: stored, pieces };
      });
      await writeGguf(`${path}.new`, values, tensors);
      renameSync(`${path}.new`, path);
    };
    try {
      await exportRun(opened, options('gguf', 'f16', 'changed'));
      assert.unreachable(key);
    } catch (error) {
      assert.is((error as { code: string }).code, 'E_EXPORT', String(error));
      assert.match((error as Error).message, sentence);
    } finally {
      EXPORT_FORMATS.gguf.write = write;
    }
    assert.not.ok(existsSync(join(scratch, 'changed')));
  }
});

test('a lost adapter is noticed although rounding is as large as what was learned', () => {
  const base = Float64Array.from({ length: 60 }, (_, i) => -1 - (i % 7));
  const learned = base.map((value, i) => value + (i % 3 === 0 ? 0.2 : -0.1));
  const rounded = (values: Float64Array) => values.map((value, i) => value + 0.15 * Math.cos(12.9898 * i));
  const options = { prompts: 5, tolerance: 1 };
  const lost = compare(base, learned, rounded(base), options);
  const kept = compare(base, learned, rounded(learned), options);
  assert.ok(lost.maxDifference < 1 && lost.share < 0.4, `${lost.share}`);
  assert.ok(kept.share > 0.7, `${kept.share}`);
  const noisy = compare(
    base,
    learned,
    learned.map((value, i) => value + 0.3 * Math.cos(78.233 * i)),
    options,
  );
  assert.ok(noisy.share > 0.7 && noisy.share < 1.3 && noisy.maxDifference < 1, `${noisy.share}`);
  assert.throws(() => requireAgreement(noisy, 'there', false), /an error of \d+% of it/);
  requireAgreement(compare(base, learned, learned, options), 'there', true);
  const broken = compare(
    base,
    learned,
    learned.map((value, i) => (i === 9 ? Number.NaN : value)),
    options,
  );
  assert.ok(Number.isNaN(broken.maxDifference));
});

test('an adapter that was never trained is not exported', async () => {
  const copy = join(scratch, 'untrained');
  cpSync(run, copy, { recursive: true });
  const file = join(copy, 'last', 'adapter_model.safetensors');
  const bytes = readFileSync(file);
  const { tensors } = readSafetensors(bytes);
  const start = bytes.length - [...tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
  bytes.fill(0, start);
  writeFileSync(file, bytes);
  using opened = await open(copy);
  try {
    await exportRun(opened, options('peft', 'f32', 'nothing'));
    assert.unreachable();
  } catch (error) {
    assert.is((error as { code: string }).code, 'E_DATA');
    assert.match((error as Error).message, /an adapter that changes the model/);
  }
  assert.not.ok(existsSync(join(scratch, 'nothing')));
});

test('a place where something is: an export is replaced if that is asked for, anything else stays', async () => {
  using opened = await open(run);
  const at = options('peft', 'f32', 'twice');
  await exportRun(opened, at);
  const attempt = async (more: Partial<ExportOptions>): Promise<string> => {
    try {
      await exportRun(opened, { ...at, ...more });
      return 'exported';
    } catch (error) {
      return `${(error as Error).message} ${(error as { hint: string }).hint}`;
    }
  };
  assert.match(await attempt({}), /--output: expected a new folder, got .*twice, which is an export.*--overwrite/);
  assert.is(await attempt({ overwrite: true, format: 'gguf-lora' }), 'exported');
  assert.equal(readdirSync(at.output).sort(), ['README.md', 'adapter.gguf']);

  // A folder that is there keeps its identity: it may be a mount point, or somebody's working folder.
  const mine = join(scratch, 'mine');
  mkdirSync(mine);
  const { ino } = statSync(mine);
  assert.is(await attempt({ output: mine }), 'exported');
  assert.is(await attempt({ output: mine, overwrite: true }), 'exported');
  assert.is(statSync(mine).ino, ino);
  const link = join(scratch, 'link');
  symlinkSync(mine, link);
  assert.is(await attempt({ output: link, overwrite: true }), 'exported');
  assert.ok(lstatSync(link).isSymbolicLink());

  writeFileSync(join(mine, 'notes.txt'), 'mine');
  assert.match(await attempt({ output: mine, overwrite: true }), /which has 'notes\.txt' in it/);
  rmSync(join(mine, 'notes.txt'));
  writeFileSync(join(mine, 'README.md'), '# My own notes\n');
  assert.match(await attempt({ output: mine, overwrite: true }), /which is no export/);
  assert.is(readFileSync(join(mine, 'README.md'), 'utf8'), '# My own notes\n');
  assert.match(await attempt({ output: join(run, 'config.json'), overwrite: true }), /which is a file/);
  for (const folder of [run, join(run, 'best'), join(run, 'last')]) {
    assert.match(await attempt({ output: folder, overwrite: true }), /--output: expected a new folder/);
  }
  assert.not.ok(readdirSync(scratch).some((name) => name.includes('.tmp')));
});

test('of two exports to one place the first stays', async () => {
  using opened = await open(run);
  const at = options('peft', 'f32', 'race');
  const outcomes = await Promise.allSettled([
    exportRun(opened, at),
    placeFolder(at.output, false, async (folder) => writeFileSync(join(folder, 'README.md'), '- voicegrpo\n')),
  ]);
  assert.equal(
    outcomes.map(({ status }) => status),
    ['rejected', 'fulfilled'],
  );
  assert.match(String((outcomes[0] as PromiseRejectedResult).reason), /expected a new folder/);
  assert.equal(readdirSync(at.output), ['README.md']);
});

test('parents that were made for an export go with it', async () => {
  const output = join(scratch, 'a', 'b', 'c');
  const failed = placeFolder(output, false, async () => {
    throw new Error('no');
  });
  assert.is(await failed.catch((error: Error) => error.message), 'no');
  assert.not.ok(existsSync(join(scratch, 'a')));
});

test('an export that is stopped leaves nothing, and what stood there', async () => {
  using opened = await open(run);
  const at = options('gguf', 'q8_0', 'stopped');
  await exportRun(opened, at);
  const before = readFileSync(join(at.output, 'model.gguf'));
  const controller = new AbortController();
  try {
    await exportRun(opened, {
      ...at,
      type: 'f32',
      overwrite: true,
      signal: controller.signal,
      progress: () => controller.abort(),
    });
    assert.unreachable();
  } catch (error) {
    assert.is((error as Error).name, 'AbortError');
  }
  assert.ok(before.equals(readFileSync(join(at.output, 'model.gguf'))));
  assert.equal(
    readdirSync(scratch).filter((name) => name.includes('.tmp')),
    [],
  );
});

for (const type of ['f16', 'bf16', 'q8_0'] as const) {
  test(`a run on weights held as ${type}: the export has the rounded weights that were trained on`, async () => {
    const path = await trained(`held-${type}`, '--base-type', type);
    using opened = await open(path);
    const { agreement } = await exportRun(opened, options('gguf', 'f32', `held-${type}-export`));
    assert.ok(agreement.maxDifference < 1e-4, `${agreement.maxDifference}`);
  });
}

test('an adapter of two modules only: those alone are named and written', async () => {
  const path = await trained('two', '--target-modules', 'q_proj', 'down_proj');
  using opened = await open(path);
  const { output } = await exportRun(opened, options('peft', 'f32', 'two-peft'));
  const config = JSON.parse(readFileSync(join(output, 'adapter_config.json'), 'utf8'));
  assert.equal(config.target_modules, ['q_proj', 'down_proj']);
  const names = [...readSafetensors(readFileSync(join(output, 'adapter_model.safetensors'))).tensors.keys()];
  assert.ok(names.every((name) => /\.(?:q_proj|down_proj)\.lora_[AB]\.weight$/.test(name)));
  for (const format of ['gguf-lora', 'merged', 'gguf'] as const) {
    const { agreement } = await exportRun(opened, options(format, 'f32', `two-${format}`));
    assert.ok(agreement.maxDifference < 1e-4, `${format} ${agreement.maxDifference}`);
  }
});

test('q4_k_m: the types of llama.cpp for Gemma 3 270M, tensor by tensor', () => {
  const shape = { layers: 18, width: 640, inner: 2048, heads: 4, kvHeads: 1, headDim: 256 };
  const counts: Record<string, number> = {};
  for (const tensor of gemmaTensors(shape, 262144, false)) {
    const type = tensor.shape.length === 1 ? 'f32' : storedType(tensor, 'q4_k_m', 18, false);
    counts[type] = (counts[type] ?? 0) + 1;
  }
  // As in the file that llama.cpp's own quantizer made.
  assert.equal(counts, { q8_0: 10, f32: 109, q5_0: 81, q4_K: 27, q6_K: 9 });
});

test('the model card says what it is, from what, and how good; the Modelfile asks for the transcript alone', async () => {
  const card = readFileSync(join(scratch, 'gguf-q4_k_m', 'README.md'), 'utf8');
  assert.match(card, /^---\nlicense: "mit"\nlibrary_name: gguf\npipeline_tag: text-generation\ntags:\n- grpo\n/);
  for (const part of [
    '`commoneval`, `ifeval`, `wildvoice`',
    'exact_match 3.0, format_compliance 2.0',
    'SHA-256 14ecb59061c3',
    'r 8, alpha 16',
    '36 training and 12 held-out clips, the texts of the data',
    'before training | 0.',
    '{transcript}',
    'Licence',
  ]) {
    assert.ok(card.includes(part), part);
  }
  assert.not.match(card, new RegExp(PLACEHOLDER));
  const lines = readFileSync(join(scratch, 'gguf-q4_k_m', 'Modelfile'), 'utf8');
  assert.match(lines, /^FROM \.\/model\.gguf\nTEMPLATE """<start_of_turn>user\n/);
  assert.match(lines, /Prompt: "\{\{ \.Prompt \}\}"/);
  assert.match(lines, /PARAMETER stop "<end_of_turn>"\n/);
  const tricky = modelfile({
    ...{ model: 'm.gguf', stops: ['\n', 'say "so"'], maxCompletionLength: 8, maxPromptLength: 100 },
    prompt: `{{ .Evil }} """ ${PLACEHOLDER}`,
  });
  assert.ok(tricky.includes('TEMPLATE """{{"{{"}} .Evil }} {{"\\"\\"\\""}} {{ .Prompt }}"""'), tricky);
  // Ollama reads no escapes.
  assert.ok(tricky.includes('PARAMETER stop "\n"\nPARAMETER stop """say "so""""\n'), tricky);
});

test('an exported GGUF says what it was made from', async () => {
  using opened = await open(run);
  const { output } = await exportRun(opened, { ...options('gguf', 'f16', 'named'), baseModel: 'org/base' });
  using file = await loadNative().openGguf(join(output, 'model.gguf'));
  const entries = new GgufEntries(file.entries);
  assert.is(entries.string('general.base_model.0.repo_url'), 'https://huggingface.co/org/base');
  assert.is(entries.string('general.name'), 'voicegrpo tiny policy, tuned: run');
  assert.is(entries.number('general.file_type'), 1);
  assert.match(
    readFileSync(join(output, 'README.md'), 'utf8'),
    /^---\nbase_model: "org\/base"\nbase_model_relation: finetune\n/,
  );
});

test('gguf-lora: the names that llama.cpp has for the seven matrices', async () => {
  using file = await loadNative().openGguf(join(scratch, 'gguf-lora-f32', 'adapter.gguf'));
  const names = ['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down'];
  const expected = names.flatMap((name) => [`blk.0.${name}.weight.lora_a`, `blk.0.${name}.weight.lora_b`]);
  assert.equal(
    file.tensors.map(({ name }) => name).filter((name) => name.startsWith('blk.0.')),
    expected,
  );
  const shapes = new Map(file.tensors.map(({ name, shape }) => [name, shape]));
  assert.equal(shapes.get('blk.0.attn_k.weight.lora_a'), [8, 128]);
  assert.equal(shapes.get('blk.0.attn_k.weight.lora_b'), [64, 8]);
  assert.equal(shapes.get('blk.0.ffn_down.weight.lora_a'), [8, 512]);
});

test('a run folder with a damaged evaluation is told of', async () => {
  const copy = join(scratch, 'damaged');
  cpSync(run, copy, { recursive: true });
  for (const text of ['{', '{"before": 1}', 'null']) {
    writeFileSync(join(copy, 'evaluation.json'), text);
    using opened = await open(copy);
    const failure = await exportRun(opened, options('peft', 'f32', 'of-damaged')).catch((error) => error);
    assert.is(failure.code, 'E_DATA', String(failure));
    assert.match(failure.message, /evaluation\.json/);
  }
  rmSync(join(copy, 'evaluation.json'));
  using opened = await open(copy);
  const { output } = await exportRun(opened, options('peft', 'f32', 'unfinished'));
  assert.match(readFileSync(join(output, 'README.md'), 'utf8'), /has not been evaluated to its end/);
});

test('on the command line: result, defaults and refusals', async () => {
  const copy = join(scratch, 'cli');
  cpSync(run, copy, { recursive: true });
  const voicegrpo = (...args: string[]) => runCli(['export', copy, ...args], env);
  const done = await voicegrpo('--format', 'gguf', '--adapter', 'last', '--json');
  assert.is(done.code, 0, done.stderr);
  const result = JSON.parse(done.stdout);
  assert.is(result.output, join(copy, 'export', 'gguf-f16'));
  assert.equal(result.files, ['Modelfile', 'README.md', 'model.gguf']);
  const told = await voicegrpo('--format', 'peft', '--adapter', 'last', '--base-model', 'org/base');
  assert.match(
    told.stdout,
    /Read back: log-probabilities within 0\.0e\+0 of the trained policy's on 12 prompts; 100\.0%/,
  );
  const config = JSON.parse(readFileSync(join(copy, 'export', 'peft-f32', 'adapter_config.json'), 'utf8'));
  assert.is(config.base_model_name_or_path, 'org/base');
  for (const [args, sentence, code] of [
    [['--format', 'onnx'], /--format: expected one of peft, gguf-lora, merged, gguf, got 'onnx'/, 2],
    [['--format', 'merged', '--type', 'q4_k_m'], /--type: expected one of f32, bf16, f16, got 'q4_k_m'/, 2],
    [['--format', 'peft', '--adapter', 'none'], /--adapter: expected one of best, last, got 'none'/, 2],
    [['--format', 'peft', '--adapter', 'last'], /--output: expected a new folder/, 2],
  ] as const) {
    const refused = await voicegrpo(...args);
    assert.is(refused.code, code, refused.stderr);
    assert.match(refused.stderr, sentence);
    assert.is(refused.stdout, '');
  }
});

test.run();
