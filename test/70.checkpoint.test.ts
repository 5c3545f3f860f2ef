/** Early stopping, diagnoses, safetensors, and checkpoints that are there whole or not at all. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readSafetensors, type Tensor, writeSafetensors } from '../src/formats/safetensors.js';
import type { NativeAdapter } from '../src/native/addon.js';
import { loadNative } from '../src/native/load.js';
import {
  checkpointFault,
  listCheckpoints,
  newestCheckpoint,
  readAdapter,
  readCheckpoint,
  restoreAdapter,
  snapshotAdapter,
  writeCheckpoint,
} from '../src/pipeline/checkpoint.js';
import { diagnose } from '../src/pipeline/diagnosis.js';
import { classificationScores } from '../src/pipeline/evaluate.js';
import { afterEvaluation, INITIAL_STOPPING, type StoppingState } from '../src/pipeline/stopping.js';
import { writeFolderAtomic } from '../src/run/files.js';
import { truncateLines } from '../src/run/folder.js';
import { BUNDLED_POLICY } from '../src/run/inputs.js';

const folder = () => mkdtempSync(join(tmpdir(), 'voicegrpo-run-'));
const config = { base_model_name_or_path: 'm', r: 2, lora_alpha: 4, target_modules: ['q_proj', 'down_proj'] };
const state = (step: number) => ({
  step,
  stopping: INITIAL_STOPPING,
  recentPredictions: ['a', 'b'],
  numTokens: 12,
  stopReason: null,
  finished: false,
});

async function withAdapters(use: (make: (seed: number) => NativeAdapter) => void): Promise<void> {
  const policy = await loadNative().openPolicy(BUNDLED_POLICY, { type: 'auto', threads: 1 });
  const made: NativeAdapter[] = [];
  try {
    use((seed) => {
      const adapter = policy.createAdapter({ rank: 2, alpha: 4, targetModules: config.target_modules, seed });
      made.push(adapter);
      return adapter;
    });
  } finally {
    for (const adapter of made) adapter.close();
    policy.close();
  }
}

test('stopping: patience counts evaluations without a gain of min_delta', () => {
  const options = { patience: 2, minDelta: 0.1, targetAccuracy: null };
  let current: StoppingState = INITIAL_STOPPING;
  const stops: (string | null)[] = [];
  for (const [step, reward] of [1, 1.05, 1.2, 1.25, 1.29].entries()) {
    const decision = afterEvaluation(current, { step, reward, accuracy: 0 }, options);
    current = decision.state;
    stops.push(decision.stop);
  }
  assert.is(current.best?.step, 2);
  assert.equal(
    stops.map((stop) => stop !== null),
    [false, false, false, false, true],
  );
  const patient = afterEvaluation(
    { ...current, evaluationsWithoutGain: 99 },
    { step: 9, reward: 0, accuracy: 0 },
    { ...options, patience: 0 },
  );
  assert.is(patient.stop, null);
  const reached = afterEvaluation(
    current,
    { step: 9, reward: 0, accuracy: 0.9 },
    { ...options, patience: 0, targetAccuracy: 0.9 },
  );
  assert.match(reached.stop ?? '', 'reached the target');
});

test('diagnoses: collapsed, dead, solved, healthy', () => {
  const step = (deadShare: number, exactMatch: number, a: number) => ({
    deadShare,
    exactMatch,
    predictedShares: { a, b: 1 - a },
  });
  const of = (one: ReturnType<typeof step>) => diagnose([one, one, one], ['a', 'b']).join('\n');
  assert.match(of(step(1, 0.5, 1)), /collapsed to one label.*'a'[\s\S]*all groups are dead.*gradient is zero/);
  assert.match(of(step(1, 1, 0.5)), 'every answer is right');
  assert.is(of(step(0.5, 0.5, 0.5)), '');
  assert.equal(diagnose([step(1, 0, 1), step(1, 0, 1)], ['a', 'b']), []);
});

test('accuracy, macro-F1 and the confusion matrix with its column other', () => {
  const pairs: [string, string | null][] = [
    ['a', 'a'],
    ['a', 'a'],
    ['a', 'b'],
    ['b', 'b'],
    ['b', null],
    ['b', 'a'],
  ];
  const scores = classificationScores(
    pairs.map(([label, predicted]) => ({ label, predicted })),
    ['a', 'b', 'c'],
  );
  assert.is(scores.accuracy, 0.5);
  assert.equal(scores.confusion, [
    [2, 1, 0, 0],
    [1, 1, 0, 1],
    [0, 0, 0, 0],
  ]);
  assert.ok(Math.abs(scores.macro_f1 - (4 / 6 + 2 / 5) / 2) < 1e-12, 'a label without clips does not count');
});

test('safetensors: what is written is read; equal tensors give equal bytes; damage has a sentence', () => {
  const tensors = new Map<string, Tensor>([
    ['b', { shape: [2, 3], data: Float32Array.from([1, -2, 3.5, 0, 1e-30, 4]) }],
    ['a', { shape: [1], data: Float32Array.from([7]) }],
  ]);
  const bytes = writeSafetensors(tensors, { format: 'pt' });
  const back = readSafetensors(bytes);
  assert.equal(back.metadata, { format: 'pt' });
  assert.equal([...(back.tensors.get('b')?.data ?? [])], [...(tensors.get('b')?.data ?? [])]);
  assert.equal(writeSafetensors(new Map([...tensors].reverse()), { format: 'pt' }), bytes);
  assert.throws(() => readSafetensors(bytes.subarray(0, bytes.length - 1)), /should lie at bytes/);
  assert.throws(() => readSafetensors(bytes.subarray(0, 20)), /header should have/);
  assert.throws(() => readSafetensors(new Uint8Array(3)), /at least 8 bytes/);
  assert.throws(
    () => writeSafetensors(new Map([['x', { shape: [2], data: new Float32Array(3) }]])),
    /has 2 numbers, data has 3/,
  );
});

test('a checkpoint restores adapter, moments, updates and state', async () =>
  withAdapters((make) => {
    const path = folder();
    const first = make(1);
    for (const tensor of first.tensors) {
      tensor.data.forEach((_, i) => {
        tensor.data[i] = Math.fround(Math.sin(i + 1));
        tensor.expAvg[i] = Math.fround(i * 0.5);
        tensor.expAvgSq[i] = Math.fround(i * 0.25);
      });
    }
    first.updates = 5;
    const best = snapshotAdapter(make(3));
    writeCheckpoint(path, { adapter: first, config, state: state(5), best }, 2);
    const second = make(2);
    const found = newestCheckpoint(path, () => assert.unreachable());
    const restored = readCheckpoint(found as string, second);
    assert.equal(restored.state, state(5));
    assert.is(second.updates, 5);
    for (const [i, tensor] of second.tensors.entries()) {
      for (const key of ['data', 'expAvg', 'expAvgSq'] as const) {
        assert.equal(tensor[key], first.tensors[i]?.[key], `${tensor.name} ${key}`);
      }
    }
    assert.is(restored.best?.size, best.size);
    for (const [name, { data }] of best) {
      assert.equal(restored.best?.get(name)?.data, data, name);
    }
    const names = [...readAdapter(found as string).keys()];
    assert.ok(names.includes('base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight'), names[0] ?? '');
  }));

test('only the newest checkpoints are kept, and a damaged one is passed over', async () =>
  withAdapters((make) => {
    const path = folder();
    const adapter = make(1);
    for (const step of [5, 10, 15]) {
      writeCheckpoint(path, { adapter, config, state: state(step), best: null }, 2);
    }
    assert.equal(listCheckpoints(path), ['step-000010', 'step-000015']);
    const newest = join(path, 'step-000015');
    assert.is(checkpointFault(newest), null);
    for (const name of readdirSync(newest)) {
      const file = join(newest, name);
      const bytes = readFileSync(file);
      for (const at of [0, bytes.length >> 1, bytes.length - 2]) {
        const damaged = Buffer.from(bytes);
        damaged[at] = (damaged[at] as number) ^ 1;
        writeFileSync(file, damaged);
        const faults: string[] = [];
        const found = newestCheckpoint(path, (_, fault) => faults.push(fault));
        // A flipped bit in the manifest's own unhashed words (its spaces, the step) may leave every hash valid.
        assert.ok(found === join(path, 'step-000010') || name === 'manifest.json', `${name} at ${at}`);
        assert.ok(found === newest || faults.length === 1);
      }
      writeFileSync(file, bytes);
    }
    mkdirSync(join(path, 'step-000020.tmp'));
    mkdirSync(join(path, 'step-000025'));
    assert.is(
      newestCheckpoint(path, () => assert.unreachable()),
      newest,
      'folders without a manifest are no checkpoints',
    );
  }));

test('an adapter of other shapes is refused by name', async () =>
  withAdapters((make) => {
    const snapshot = new Map(snapshotAdapter(make(1)));
    const [name, tensor] = [...snapshot][0] as [string, Tensor];
    snapshot.set(name, { shape: [1, tensor.data.length], data: tensor.data });
    assert.throws(() => restoreAdapter(make(2), snapshot, 'here'), /here: expected 'base_model/);
    snapshot.delete(name);
    assert.throws(() => restoreAdapter(make(2), snapshot, 'here'), /no such matrix/);
  }));

test('a folder is replaced whole', () => {
  const path = join(folder(), 'best');
  writeFolderAtomic(
    path,
    new Map([
      ['a', '1'],
      ['old', 'x'],
    ]),
  );
  writeFolderAtomic(path, new Map([['a', '2']]));
  assert.equal(readdirSync(path), ['a']);
  assert.is(readFileSync(join(path, 'a'), 'utf8'), '2');
  assert.not(existsSync(`${path}.tmp`));
  assert.not(existsSync(`${path}.old`));
});

test('metrics of steps after the checkpoint, and a line cut off by a kill, are dropped', () => {
  const file = join(folder(), 'metrics.jsonl');
  writeFileSync(file, '{"step":0}\n{"step":1}\n{"step":2}\n{"st');
  truncateLines(file, 5);
  assert.is(readFileSync(file, 'utf8'), '{"step":0}\n{"step":1}\n{"step":2}\n');
  truncateLines(file, 1);
  assert.is(readFileSync(file, 'utf8'), '{"step":0}\n{"step":1}\n');
});

test.run();
