/** When the CUDA addon is built and for what, on machines that are made up. The build itself: tools/cuda-compile-check. */
import { chmodSync, mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { absolute, cudaPlan, findGpus, findNvcc } from '../tools/cuda.mjs';

const nvcc = { command: '/cuda/bin/nvcc', version: '13.0' };

test('auto: with a compiler and a GPU, for the kinds of GPUs that are there', () => {
  const plan = cudaPlan({ nvcc, gpus: ['9.0', '9.0', '8.6', '12.0'] });
  assert.equal(plan, { build: true, architectures: '90;86;120', nvcc: '/cuda/bin/nvcc' });
});

test('auto: what is missing is told, and is no fault', () => {
  for (const [found, part] of [
    [{ nvcc: null, gpus: ['9.0'] }, 'no CUDA compiler'],
    [{ nvcc, gpus: [] }, 'lists no GPU'],
    [{ nvcc: { ...nvcc, version: '11.8' }, gpus: ['8.0'] }, 'CUDA 11.8; 12.0 or newer'],
    [{ setting: 'off', nvcc, gpus: ['9.0'] }, 'VOICEGRPO_CUDA=off'],
  ] as const) {
    const plan = cudaPlan({ ...found, gpus: [...found.gpus] });
    assert.is(plan.build, false);
    assert.is(plan.fault, false);
    assert.match(plan.reason ?? '', part);
  }
});

test('on: without a GPU the architectures must be named; what is missing is a fault', () => {
  const unnamed = cudaPlan({ setting: 'on', nvcc, gpus: [] });
  assert.is(unnamed.fault, true);
  assert.match(unnamed.reason ?? '', 'VOICEGRPO_CUDA_ARCHITECTURES=90');
  assert.is(cudaPlan({ setting: 'on', list: '80, 90-virtual', nvcc, gpus: [] }).architectures, '80;90-virtual');
  assert.is(cudaPlan({ setting: 'on', nvcc: null, gpus: ['9.0'] }).fault, true);
});

test('a setting that is none, or an architecture, is a fault even with auto', () => {
  assert.match(cudaPlan({ setting: 'yes', nvcc, gpus: [] }).reason ?? '', "got 'yes'");
  const plan = cudaPlan({ list: 'sm_90', nvcc, gpus: ['9.0'] });
  assert.is(plan.fault, true);
  assert.match(plan.reason ?? '', "got 'sm_90'");
});

test('compiler and GPUs as their own programs tell of them', () => {
  const bin = mkdtempSync(join(tmpdir(), 'voicegrpo-cuda-'));
  const script = (name: string, text: string) => {
    writeFileSync(join(bin, name), `#!/bin/sh\necho '${text}'\n`);
    chmodSync(join(bin, name), 0o755);
  };
  script('nvcc', 'Cuda compilation tools, release 12.8, V12.8.93');
  script('nvidia-smi', '9.0\n8.9');
  const env = { PATH: `${bin}:/usr/bin:/bin` };
  assert.equal(findNvcc(env), { command: 'nvcc', version: '12.8' });
  assert.is(absolute('nvcc', env), join(bin, 'nvcc'));
  assert.equal(findGpus(env), ['9.0', '8.9']);
  script('nvidia-smi', 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.');
  assert.equal(findGpus(env), []);
  assert.is(findNvcc({ PATH: '/nowhere', CUDACXX: '/nowhere/nvcc' }), null);
  const home = mkdtempSync(join(tmpdir(), 'voicegrpo-cuda-home-'));
  symlinkSync(bin, join(home, 'bin'));
  assert.is(findNvcc({ PATH: '/usr/bin:/bin', CUDA_HOME: home })?.command, join(home, 'bin', 'nvcc'));
});

test.run();
