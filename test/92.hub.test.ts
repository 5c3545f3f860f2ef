/** From the hub to an adapter, as a user runs it: a stand-in serves models and VoiceBench; then again with the server gone. */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VOICEBENCH } from '../src/pipeline/sources.js';
import { BUNDLED_POLICY, BUNDLED_WHISPER } from '../src/run/inputs.js';
import { runCli } from './cli.js';
import { StandInHub } from './hub/stand-in.js';

const DATA = fileURLToPath(new URL('./hub/data/voicebench', import.meta.url));

/** VoiceBench and the models that the presets name; the models are the bundled ones. */
async function presetHub(): Promise<StandInHub> {
  const hub = await StandInHub.start();
  const files = readdirSync(DATA, { recursive: true, encoding: 'utf8' }).filter((name) => /\.\w+$/.test(name));
  hub.add({
    type: 'dataset',
    id: VOICEBENCH.id,
    commit: VOICEBENCH.revision,
    files: Object.fromEntries(files.map((name) => [name, readFileSync(join(DATA, name))])),
  });
  const empty = { 'README.md': Buffer.from('Conversions lie beside this.') };
  hub.add({ type: 'model', id: 'unsloth/gemma-3-270m-it', commit: '1'.repeat(40), files: empty });
  const gguf = readFileSync(BUNDLED_POLICY);
  hub.add({
    type: 'model',
    id: 'unsloth/gemma-3-270m-it-GGUF',
    commit: '2'.repeat(40),
    files: { 'gemma-3-270m-it-Q4_K_M.gguf': Buffer.alloc(3000), 'gemma-3-270m-it-BF16.gguf': gguf },
  });
  hub.add({
    type: 'model',
    id: 'ggerganov/whisper.cpp',
    commit: '3'.repeat(40),
    files: { 'ggml-base.bin': readFileSync(BUNDLED_WHISPER), 'ggml-tiny.en.bin': Buffer.alloc(2000) },
  });
  return hub;
}

/** A hub, a folder, and the environment that leads to both. */
async function presetMachine() {
  const root = mkdtempSync(join(tmpdir(), 'voicegrpo-hub-'));
  const hub = await presetHub();
  const env = {
    HF_ENDPOINT: hub.endpoint,
    HF_HOME: join(root, 'hf'),
    VOICEGRPO_CACHE: join(root, 'cache'),
    HF_TOKEN: '',
  };
  return { hub, root, env };
}

const TRAIN = [
  ...['train', '--config', 'small', '--max-steps', '5', '--prompts-per-step', '3', '--json'],
  ...['--samples-per-dataset', '8', '--held-out-per-dataset', '4', '--threads', '2'],
];

test('train --config small runs from the hub to an adapter, and again without a connection', async () => {
  const { hub, root, env } = await presetMachine();
  try {
    const [first, second] = [join(root, 'first'), join(root, 'second')];
    const online = await runCli([...TRAIN, '--output-dir', first], env);
    assert.is(online.code, 0, online.stderr);
    assert.match(online.stderr, /To fetch from unsloth\/gemma-3-270m-it-GGUF: gemma-3-270m-it-BF16\.gguf, 3\.3 MB/);
    assert.match(
      online.stderr,
      /To fetch from hlt-lab\/voicebench: about 1\.[0-9] MB for 36 clips of ifeval, commoneval, wildvoice/,
    );
    assert.is(JSON.parse(online.stdout).steps, 5);
    assert.ok(existsSync(join(first, 'best', 'adapter_model.safetensors')));
    const { data, models } = JSON.parse(readFileSync(join(first, 'manifest.json'), 'utf8'));
    assert.is(data.commit, VOICEBENCH.revision);
    assert.is(data.files.length, 4);
    assert.match(data.held_out_of, '4 clips of each label by seed 42');
    assert.is(models.policy.file, 'gemma-3-270m-it-BF16.gguf');
    // What is known is not asked for again.
    const asked = hub.requests.length;
    const known = await runCli([...TRAIN, '--output-dir', join(root, 'known')], env);
    assert.is(known.code, 0, known.stderr);
    assert.equal(
      hub.requests.slice(asked).map(({ path }) => path.replace(/.*\/revision\//, '')),
      ['main', 'main', 'main'],
    );

    await hub.close();
    const offline = await runCli([...TRAIN, '--output-dir', second], { ...env, HF_HUB_OFFLINE: '1' });
    assert.is(offline.code, 0, offline.stderr);
    const answers = (run: string) => readFileSync(join(run, 'completions.jsonl'), 'utf8');
    assert.is(answers(second), answers(first));

    const unknown = await runCli(
      [...TRAIN, '--datasets', 'alpacaeval', 'ifeval', '--offline', '--output-dir', join(root, 'third')],
      env,
    );
    assert.is(unknown.code, 1);
    assert.match(
      unknown.stderr,
      /alpacaeval\/test-00000-of-00001\.parquet of hlt-lab\/voicebench: expected it on this machine/,
    );
    assert.not.ok(existsSync(join(root, 'third')));
  } finally {
    await hub.close();
    rmSync(root, { recursive: true, force: true });
  }
});

test('data and models: listed, previewed and fetched by name; eval and transcribe take names too', async () => {
  const { hub, root, env } = await presetMachine();
  const json = async (...args: string[]) => {
    const { code, stdout, stderr } = await runCli([...args, '--json'], env);
    assert.is(code, 0, stderr);
    return JSON.parse(stdout);
  };
  try {
    const listed = await json('data', 'list');
    assert.equal(
      listed.datasets.map(({ name, files, rows }: { name: string; files: number; rows: number }) => [
        name,
        files,
        rows,
      ]),
      [
        ['alpacaeval', 1, 2],
        ['commoneval', 2, 12],
        ['ifeval', 1, 12],
        ['wildvoice', 1, 12],
      ],
    );
    assert.ok(hub.requests.every(({ bytes }) => bytes <= 64 * 1024));

    // Texts alone fetch no audio.
    const before = hub.requests.length;
    const texts = await json('data', 'preview', '--rows', '2');
    assert.equal(
      texts.map(({ label, rows }: { label: string; rows: number }) => [label, rows]),
      [
        ['ifeval', 12],
        ['commoneval', 12],
        ['wildvoice', 12],
      ],
    );
    assert.ok(
      texts.every(
        (entry: { texts: string[] }) => entry.texts.length === 2 && entry.texts.every((text) => text.length > 5),
      ),
    );
    assert.ok(hub.requests.slice(before).reduce((sum, { bytes }) => sum + bytes, 0) < 8000);
    const [sample] = await json(
      'data',
      'preview',
      '--rows',
      '1',
      '--datasets',
      'ifeval',
      '--save',
      join(root, 'clips'),
    );
    assert.is(sample.sample.format, 'wav');
    assert.ok(sample.sample.duration > 1);
    const heard = await json('transcribe', '--model', 'base', sample.sample.file);
    assert.ok(heard[0].text.length > 5);

    const pulled = await json('data', 'pull', '--whole', '--datasets', 'commoneval');
    assert.is(pulled.files.length, 2);
    const models = await json('models', 'list');
    assert.equal(
      models.map(({ repository, file }: { repository: string; file: string }) => `${repository}:${file}`),
      ['ggerganov/whisper.cpp:ggml-base.bin'],
    );
    const [policy] = await json('models', 'pull', 'unsloth/gemma-3-270m-it');
    assert.equal(readFileSync(policy.path), readFileSync(BUNDLED_POLICY));
    const checks = await json('doctor', '--online');
    assert.ok(
      checks.some(
        ({ name, found }: { name: string; found: string }) => name === 'data ifeval' && found.startsWith('12 rows'),
      ),
    );

    for (const [args, pattern] of [
      [['models', 'pull', 'bse'], /did you mean base\?/i],
      [['data', 'list', '--data', 'no/such'], /no\/such: expected something that exists/],
      [['data', 'list', '--split', 'train'], /use --split test/i],
      [['data', 'list', '--datasets', 'nope'], /expected folders 'nope' with a split 'test', got 'alpacaeval'/],
      [['data', 'pull', '--audio-column', 'sound'], /expected a column 'sound', got columns/],
      [['data', 'preview', '--data', 'bundled'], /voicegrpo data list/],
    ] as const) {
      const { code, stderr } = await runCli([...args], env);
      assert.ok(code === 1 || code === 2 || code === 3, `${args}: ${code}`);
      assert.match(stderr, pattern);
      assert.not.match(stderr, /\n {4}at /);
    }
  } finally {
    await hub.close();
    rmSync(root, { recursive: true, force: true });
  }
});

test('a run goes on with the model it began with, and is not evaluated on what it was trained on', async () => {
  const { hub, root, env } = await presetMachine();
  const run = join(root, 'run');
  try {
    const killed = await runCli(
      [...TRAIN.slice(0, 3), '--max-steps', '40', ...TRAIN.slice(5), '--output-dir', run],
      env,
      (child, stderr) => {
        if (/step 2\//.test(stderr)) {
          child.kill('SIGINT');
        }
      },
    );
    assert.is(killed.code, 130, killed.stderr);
    // The name stands for another file today, and the file of the run is gone from the cache.
    const { models, files, data } = JSON.parse(readFileSync(join(run, 'manifest.json'), 'utf8'));
    // One of the 24 was left out of training: its transcript is suspect.
    assert.equal([data.train, data.suspect.dropped], [23, 1]);
    const other = Buffer.from(readFileSync(BUNDLED_POLICY));
    other.write('other', other.indexOf('voicegrpo tiny policy'));
    hub.add({
      type: 'model',
      id: 'unsloth/gemma-3-270m-it-GGUF',
      commit: '4'.repeat(40),
      files: { 'gemma-3-270m-it-BF16.gguf': other },
    });
    rmSync(join(root, 'hf'), { recursive: true });
    const resumed = await runCli(['train', '--resume', '--output-dir', run, '--json'], env);
    assert.is(resumed.code, 0, resumed.stderr);
    assert.is(models.policy.commit, '2'.repeat(40));
    assert.equal(readFileSync(files.policy), readFileSync(BUNDLED_POLICY));
    assert.not.ok(hub.requests.some(({ path }) => path.includes('4'.repeat(40))));

    const evaluate = async (...more: string[]) => {
      const args = ['eval', run, '--data', 'voicebench', '--samples-per-dataset', '12', '--json', ...more];
      const { code, stdout, stderr } = await runCli(args, env);
      assert.is(code, 0, stderr);
      assert.match(stderr, '23 of 36 clips are left out: the run was trained on them.');
      return JSON.parse(stdout).n;
    };
    assert.is(await evaluate(), 13);
    assert.is(await evaluate('--use-text'), 13);
    const stray = await runCli(['eval', run, '--split', 'test'], env);
    assert.is(stray.code, 2);
    assert.match(stray.stderr, /--split: expected --data/);
  } finally {
    await hub.close();
    rmSync(root, { recursive: true, force: true });
  }
});

test('a model as safetensors: fetched as a folder, converted once, by name and by path', async () => {
  const { hub, root, env } = await presetMachine();
  const folder = fileURLToPath(new URL('./golden/gemma-folder', import.meta.url));
  const files = Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]));
  hub.add({
    type: 'model',
    id: 'org/tiny',
    commit: '5'.repeat(40),
    files: { ...files, 'onnx/model.onnx': Buffer.alloc(9000) },
  });
  try {
    const pull = async () => {
      const { code, stdout, stderr } = await runCli(['models', 'pull', 'org/tiny', '--json'], env);
      assert.is(code, 0, stderr);
      return { ...JSON.parse(stdout)[0], stderr };
    };
    const first = await pull();
    assert.match(first.path, /converted\/[0-9a-f]{32}\.gguf$/);
    assert.is(first.file, 'config.json');
    assert.match(first.stderr, /To fetch from org\/tiny: 10 files, .*\n.*to GGUF, once/);
    assert.not.ok(hub.requests.some(({ path }) => path.includes('onnx')));
    const again = await pull();
    assert.is(again.path, first.path);
    assert.not.match(again.stderr, 'once');

    const output = join(root, 'own.gguf');
    cpSync(folder, join(root, 'tiny'), { recursive: true }); // the model's name is in the file
    const converted = await runCli(['convert', join(root, 'tiny'), '-o', output, '--json'], env);
    assert.is(converted.code, 0, converted.stderr);
    assert.ok(readFileSync(output).equals(readFileSync(first.path)));
    for (const [args, code, pattern] of [
      [['convert', root, '-o', output], 3, /expected a Hugging Face folder of a Gemma 3 model/],
      [['convert', folder, '-o', output, '--type', 'q3'], 2, /--type/],
      [['convert', folder, '-o', join(root, 'no', 'such', 'x.gguf')], 1, /x\.gguf/],
    ] as const) {
      const refused = await runCli([...args], env);
      assert.is(refused.code, code, refused.stderr);
      assert.match(refused.stderr, pattern);
    }
    const run = join(root, 'run');
    const trained = await runCli(
      [
        'train',
        '--config',
        'tiny',
        '--model',
        folder,
        '--max-steps',
        '1',
        '--samples-per-dataset',
        '4',
        '--held-out-per-dataset',
        '2',
        '--output-dir',
        run,
      ],
      env,
    );
    assert.is(trained.code, 0, trained.stderr);
    assert.ok(existsSync(join(run, 'best', 'adapter_model.safetensors')));
  } finally {
    await hub.close();
    rmSync(root, { recursive: true, force: true });
  }
});

test.run();
