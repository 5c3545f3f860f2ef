/** Which device computes, and what someone reads whose machine cannot do what was asked for. Probes are made up: no GPU is needed. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { presentError } from '../src/errors.js';
import type { CudaOpened, CudaProbe } from '../src/native/addon.js';
import {
  type CudaFinding,
  chooseDevice,
  describeCuda,
  obstacleOf,
  parseDevice,
  versionText,
} from '../src/native/devices.js';
import { deviceReport, loadNative, useDevice, usedDevice } from '../src/native/load.js';
import { fittingShape, memoryProblem, type StepShape } from '../src/native/memory.js';
import { deviceLine, deviceName, deviceOfManifest } from '../src/run/device.js';

const H100 = { index: 0, name: 'NVIDIA H100 80GB HBM3', computeCapability: '9.0', totalMemory: 85e9 };
const PROBE: CudaProbe = {
  runtime: 13000,
  driver: 13020,
  error: '',
  message: '',
  devices: [H100, { ...H100, index: 1 }],
  architectures: '80 90',
  computes: { whisper: true, policy: true },
};
const found = (changes: Partial<CudaProbe> = {}): CudaFinding => ({ addon: 'loaded', probe: { ...PROBE, ...changes } });
const opened = (error = '', message = ''): CudaOpened => ({ error, message, freeMemory: error === '' ? 80e9 : 0 });

function choose(request: string, finding: CudaFinding, opening = opened()) {
  const asked: number[] = [];
  const choice = chooseDevice(
    request,
    ['policy', 'whisper'],
    () => finding,
    (index) => {
      asked.push(index);
      return opening;
    },
  );
  return { choice, asked };
}

/** What stands on the terminal, and the exit code. */
function refusal(request: string, finding: CudaFinding, opening = opened()): { text: string; exitCode: number } {
  try {
    choose(request, finding, opening);
  } catch (error) {
    return presentError(error);
  }
  throw new Error(`${request} was not refused`);
}

test('words for a device', () => {
  assert.equal(parseDevice('cuda:12'), { kind: 'cuda', index: 12 });
  assert.equal(parseDevice('auto'), { kind: 'auto', index: null });
  for (const wrong of ['gpu', 'cuda:', 'cuda:-1', 'CUDA', 'cuda:1234', ''])
    assert.is(parseDevice(wrong), undefined, wrong);
  const { text, exitCode } = refusal('gpu', found());
  assert.match(text, "expected auto, cpu, cuda or cuda:N, got 'gpu'");
  assert.is(exitCode, 2);
});

test('a device that works is taken, and opened once; the CPU is taken without a look at CUDA', () => {
  for (const [request, device, number] of [
    ['auto', 'cuda:0', 0],
    ['cuda', 'cuda:0', 0],
    ['cuda:1', 'cuda:1', 1],
  ] as const) {
    const { choice, asked } = choose(request, found());
    assert.equal(choice, { device, name: H100.name, why: null });
    assert.equal(asked, [number]);
  }
  const unasked = () => {
    throw new Error('looked');
  };
  assert.is(chooseDevice('cpu', ['policy'], unasked, unasked).device, 'cpu');
});

const CASES: [name: string, finding: CudaFinding, opening: CudaOpened, parts: string[], exitCode?: number][] = [
  [
    'no addon',
    { addon: 'missing', file: '/p/voicegrpo-cuda.node' },
    opened(),
    ['/p/voicegrpo-cuda.node', 'npm run build:cuda'],
  ],
  [
    'no cuBLAS',
    {
      addon: 'unloadable',
      file: 'f',
      message: 'libcublas.so.13: cannot open shared object file: No such file or directory',
    },
    opened(),
    ['library libcublas.so.13', 'pip install nvidia-cublas', 'LD_LIBRARY_PATH'],
  ],
  [
    'a driver library that the addon is linked with',
    {
      addon: 'unloadable',
      file: 'f',
      message: 'libcuda.so.1: cannot open shared object file: No such file or directory',
    },
    opened(),
    ['library libcuda.so.1', "NVIDIA's driver"],
  ],
  [
    'another fault of the addon',
    { addon: 'unloadable', file: 'f', message: 'f: invalid ELF header\nmore' },
    opened(),
    ['invalid ELF header', 'Build it anew'],
  ],
  [
    'no driver',
    found({ driver: 0, error: 'cudaErrorInsufficientDriver', devices: [] }),
    opened(),
    ['libcuda.so.1', 'got none', '--gpus all'],
  ],
  [
    'an old driver',
    found({ driver: 12040, error: 'cudaErrorInsufficientDriver', devices: [] }),
    opened(),
    ['CUDA 13.0', 'up to CUDA 12.4', 'version 12'],
  ],
  [
    'no GPU',
    found({ error: 'cudaErrorNoDevice', message: 'no CUDA-capable device is detected', devices: [] }),
    opened(),
    ['an NVIDIA GPU, got none', 'CUDA_VISIBLE_DEVICES'],
  ],
  [
    'a runtime that is at odds with its driver',
    found({ error: 'cudaErrorUnknown', message: 'unknown error', devices: [] }),
    opened(),
    ['cudaErrorUnknown (unknown error)'],
  ],
  [
    'kernels for other cards',
    found(),
    opened('cudaErrorNoKernelImageForDevice'),
    ['architecture, 90, got a build for 80 90', 'VOICEGRPO_CUDA_ARCHITECTURES=90 npm run build:cuda'],
  ],
  ['a full device', found(), opened('cudaErrorMemoryAllocation'), ['85.0 GB', 'a full device', 'nvidia-smi'], 4],
  [
    'a device another process has for itself',
    found(),
    opened('cudaErrorDevicesUnavailable'),
    ['compute mode exclusive'],
  ],
  [
    'a device that fell off',
    found(),
    opened('cudaErrorECCUncorrectable', 'uncorrectable ECC error'),
    ['cudaErrorECCUncorrectable (uncorrectable ECC error)', 'dmesg'],
  ],
  [
    'a build that leaves the policy on the CPU',
    found({ computes: { whisper: true, policy: false } }),
    opened(),
    ['computes the policy on the CPU'],
  ],
];

for (const [name, finding, opening, parts, exitCode = 2] of CASES) {
  test(`${name}: cuda is refused with the reason and what to do, auto takes the CPU and says why`, () => {
    const refused = refusal('cuda', finding, opening);
    for (const part of parts) assert.match(refused.text, part);
    assert.is(refused.exitCode, exitCode);
    assert.is(refused.text.split('\n').length, 2, refused.text);
    const { choice } = choose('auto', finding, opening);
    assert.is(choice.device, 'cpu');
    assert.ok(choice.why !== null && refused.text.includes(choice.why), choice.why ?? 'no reason');
  });
}

test('a number that no device has is answered with those that are there; nothing is opened', () => {
  const { text } = refusal('cuda:7', found());
  assert.match(text, 'cuda:0 (NVIDIA H100 80GB HBM3), cuda:1 (NVIDIA H100 80GB HBM3), got number 7');
});

test('a newer driver of the same or a later major version is not in the way', () => {
  for (const driver of [13000, 13020, 14000]) assert.is(obstacleOf(found({ driver }), 0, ['policy']), null);
  assert.is.not(obstacleOf(found({ driver: 12090 }), 0, []), null);
  assert.is(versionText(12080), '12.8');
});

test('doctor: every device and what is computed there; an addon that was never built is no fault', () => {
  const { ok, text } = describeCuda(found({ computes: { whisper: true, policy: false } }));
  assert.ok(ok);
  for (const part of ['cuda:1 NVIDIA H100', 'compute capability 9.0', '85.0 GB', 'CUDA 13.0 for 80 90', 'serves 13.2'])
    assert.match(text, part);
  assert.match(text, /computes there: whisper$/);
  assert.is(describeCuda({ addon: 'missing', file: 'f' }).ok, true);
  assert.is(describeCuda(found({ driver: 0 })).ok, false);
});

test('what a run says and keeps of its device', () => {
  const gpu = choose('auto', found()).choice;
  assert.is(deviceName(gpu), 'NVIDIA H100 80GB HBM3 (cuda:0)');
  assert.is(deviceLine(gpu), 'Computing on NVIDIA H100 80GB HBM3 (cuda:0).');
  assert.is(deviceOfManifest({ device: deviceName(gpu) }), 'cuda');
  assert.is(deviceOfManifest({ device: 'cpu' }), 'cpu');
  assert.is(deviceOfManifest({}), 'cpu');
  assert.match(deviceLine(choose('auto', found({ driver: 0 })).choice) ?? '', 'Computing on the CPU (');
  assert.is(deviceLine(choose('auto', { addon: 'missing', file: 'f' }).choice), null);
});

test('a file that is no addon: cuda is refused, auto goes on with the CPU addon', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'voicegrpo-device-')), 'broken.node');
  writeFileSync(file, 'not a shared library');
  process.env.VOICEGRPO_CUDA_ADDON = file;
  assert.throws(
    () => useDevice('cuda', ['whisper']),
    (error: Error) => error.message.includes(`expected ${file} to load`),
  );
  const choice = useDevice('auto', ['whisper']);
  assert.is(choice.device, 'cpu');
  assert.equal(usedDevice(), choice);
  assert.is(loadNative().devices, undefined);
  const { ok, found: text } = deviceReport();
  assert.is(ok, false);
  assert.match(text, '--device auto takes cpu');
});

// Bytes that grow with each number, as a real estimate does.
const estimate = ({ promptsPerStep: B, numGenerations: G, maxPromptLength: P, maxCompletionLength: L }: StepShape) =>
  1e9 + B * (P + G * L) * 1e6;
const SHAPE: StepShape = { promptsPerStep: 32, numGenerations: 16, maxPromptLength: 256, maxCompletionLength: 64 };
const BOUNDS = { partsPerGeneration: 4, shortestCompletion: 4 };

test('the smaller setting is the largest that fits, and leaves as much as it can as it was', () => {
  assert.equal(fittingShape(SHAPE, BOUNDS, 100e9, estimate), SHAPE);
  for (let available = 1.5e9; available < 45e9; available += 0.7e9) {
    const shape = fittingShape(SHAPE, BOUNDS, available, estimate);
    const smallest = estimate({ ...SHAPE, promptsPerStep: 4, numGenerations: 2, maxCompletionLength: 4 });
    assert.is(shape === null, smallest > available, `${available}`);
    if (shape === null) continue;
    assert.ok(estimate(shape) <= available);
    assert.is(shape.promptsPerStep % BOUNDS.partsPerGeneration, 0);
    if (shape.maxCompletionLength < 64) assert.is(shape.promptsPerStep, 4);
    if (shape.numGenerations < 16) assert.is(shape.maxCompletionLength, 4);
    if (shape.promptsPerStep < 32) {
      const more =
        shape.numGenerations < 16
          ? { ...shape, numGenerations: shape.numGenerations + 1 }
          : shape.maxCompletionLength < 64
            ? { ...shape, maxCompletionLength: shape.maxCompletionLength + 1 }
            : { ...shape, promptsPerStep: shape.promptsPerStep + 4 };
      assert.ok(estimate(more) > available, JSON.stringify(shape));
    }
  }
});

test('what does not fit is said with numbers and flags, and has its own exit code', () => {
  const { text, exitCode } = presentError(memoryProblem('cuda:0', SHAPE, BOUNDS, 20e9, estimate));
  assert.is(exitCode, 4);
  assert.match(
    text,
    'cuda:0: expected 42.0 GB of free memory for a step (32 prompts of 256 tokens, 16 completions of 64 each), got 20.0 GB.',
  );
  assert.match(text, /This fits, with \d+\.\d GB: --prompts-per-step 12\./);
  assert.match(
    presentError(memoryProblem('cuda:0', SHAPE, BOUNDS, 1e9, estimate)).text,
    'Not even one short group fits',
  );
});

test.run();
