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
import {
  constantRewards,
  diagnose,
  diagnoseEvaluations,
  diagnoseUpdates,
  type StepSummary,
} from '../src/pipeline/diagnosis.js';
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

const healthy: StepSummary = {
  deadShare: 0.5,
  exactMatch: 0.5,
  predictedShares: { a: 0.5, b: 0.5 },
  constantRewards: { exact_match: false, style: false },
  reward: 0.5,
  meanLength: 3,
};
const thrice = (changes: Partial<StepSummary>) => {
  const one = { ...healthy, ...changes };
  return diagnose([one, one, one], ['a', 'b']);
};

test('diagnoses: collapsed, dead, solved, healthy', () => {
  const of = (deadShare: number, exactMatch: number, a: number) =>
    thrice({ deadShare, exactMatch, predictedShares: { a, b: 1 - a } })
      .map(({ text }) => text)
      .join('\n');
  assert.match(of(1, 0.5, 1), /collapsed to one label.*'a'[\s\S]*all groups are dead.*gradient is zero/);
  assert.match(of(1, 1, 0.5), 'every answer is right');
  assert.is(of(0.5, 0.5, 0.5), '');
  const dead = { ...healthy, deadShare: 1 };
  assert.equal(diagnose([dead, dead], ['a', 'b']), []);
});

test('diagnoses: dead groups name the rewards that never varied', () => {
  const constant = constantRewards({ one: Float64Array.of(1, 1, 0, 0), two: Float64Array.of(1, 1, 0, 1) }, 2);
  assert.equal(constant, { one: true, two: false }, 'a difference between prompts is none within a group');
  const text = (constantRewards: Record<string, boolean>) => thrice({ deadShare: 1, constantRewards })[0]?.text ?? '';
  assert.match(text({ style: true, exact_match: false }), /: .*'style' never varied\. Try/);
  assert.not.match(text({ style: true, exact_match: false }), 'exact_match');
  assert.match(
    text({ style: true, exact_match: true }),
    /No reward varied: 'style', 'exact_match'\. Try.*rewards lint/,
  );
  assert.match(text({ style: true }), "The only reward, 'style', never varied");
  assert.not.match(text({ style: false }), 'style');
});

test('diagnoses: a zero gradient is told only where answers differed', () => {
  const zero = { live: true, gradNorm: 0 };
  assert.equal(
    diagnoseUpdates([zero, zero, zero]).map(({ key }) => key),
    ['zero gradient'],
  );
  assert.equal(diagnoseUpdates([zero, zero]), []);
  assert.equal(diagnoseUpdates([zero, { live: false, gradNorm: 0 }, zero]), [], 'dead groups have no gradient');
  assert.equal(diagnoseUpdates([zero, zero, { live: true, gradNorm: 1e-9 }]), []);
});

test('diagnoses: answers grow; the key stays while the figures change', () => {
  const lengths = (...values: number[]) =>
    diagnose(
      values.map((meanLength) => ({ ...healthy, meanLength })),
      ['a', 'b'],
    );
  const [found] = lengths(4, 4, 4, 4, 4, 10, 10, 10, 10, 10);
  assert.match(found?.text ?? '', /answers grow: 10\.0 tokens on average, 4\.0 in the first 5/);
  const [later] = lengths(4, 4, 4, 4, 4, 12, 12, 12, 12, 12);
  assert.is(later?.key, found?.key);
  assert.is.not(later?.text, found?.text);
  assert.equal(lengths(1, 1, 1, 1, 1, 3, 3, 3, 3, 3), [], 'two tokens more are no trouble');
  assert.equal(lengths(40, 40, 40, 40, 40, 50, 50, 50, 50, 50), [], 'nor is a quarter more');
  assert.equal(lengths(4, 4, 4, 4, 10, 10, 10, 10, 10), [], 'too few generations');
});

test('diagnoses: gamed where reward rises and held-out accuracy stays below its peak, beyond noise', () => {
  const of = (n: number, ...pairs: [accuracy: number, trainReward: number | null][]) =>
    diagnoseEvaluations(pairs.map(([accuracy, trainReward]) => ({ n, accuracy, trainReward })));
  const [gamed] = of(100, [0.5, null], [0.8, 0.4], [0.7, 0.6], [0.7, 0.7]);
  assert.is(gamed?.key, 'gamed');
  assert.match(gamed?.text ?? '', /0\.400 → 0\.700.*0\.800 → 0\.700, n 100/);
  assert.equal(of(100, [0.5, null], [0.8, 0.4], [0.6, 0.6], [0.78, 0.7]), [], 'one bad evaluation');
  assert.equal(of(100, [0.5, null], [0.8, 0.4], [0.77, 0.6], [0.77, 0.7]), [], 'less than a standard error, 0.04');
  assert.equal(of(10_000, [0.5, null], [0.8, 0.4], [0.78, 0.6], [0.78, 0.7]), [], 'less than 0.03');
  assert.equal(of(100, [0.5, null], [0.8, 0.4], [0.6, 0.3], [0.6, 0.3]), [], 'the reward fell too');
  assert.is(of(100, [0.8, null], [0.6, 0.4], [0.6, 0.5]).length, 0, 'the reward of before is that of the first steps');
  assert.is(of(100, [0.8, null], [0.6, 0.4], [0.6, 0.5], [0.6, 0.6])[0]?.key, 'gamed');
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
