// Whether the CUDA addon is built beside the CPU's, and for which GPUs. Node's own modules alone: it runs at install.

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

const OLDEST = '12.0'; // bf16 in cuBLAS and ggml-cuda as it is compiled here

/** The first nvcc of CUDACXX, PATH, CUDA_PATH, CUDA_HOME, /usr/local/cuda, with its version; null: none. */
export function findNvcc(env = process.env) {
  const folders = [env.CUDA_PATH, env.CUDA_HOME, '/usr/local/cuda'].filter(Boolean);
  const candidates = env.CUDACXX
    ? [env.CUDACXX]
    : ['nvcc', ...folders.map((folder) => path.join(folder, 'bin', 'nvcc'))];
  for (const command of candidates) {
    const { status, stdout } = spawnSync(command, ['--version'], { encoding: 'utf8', env });
    const version = status === 0 ? /release (\d+\.\d+)/.exec(stdout)?.[1] : undefined;
    if (version !== undefined) return { command, version };
  }
  return null;
}

/** Compute capabilities of the GPUs that the driver lists, '9.0'; [] without driver or GPU. */
export function findGpus(env = process.env) {
  const { status, stdout } = spawnSync('nvidia-smi', ['--query-gpu=compute_cap', '--format=csv,noheader'], {
    encoding: 'utf8',
    env,
  });
  return status === 0 ? (stdout.match(/^\d+\.\d+$/gm) ?? []) : [];
}

/**
 * @param setting VOICEGRPO_CUDA: auto, on, off; undefined is auto
 * @param list VOICEGRPO_CUDA_ARCHITECTURES: '80,90'; undefined: those of the GPUs
 * @returns `build`; `architectures` in CMake's form; `reason`, a sentence: why it is not built. Where it was asked for and cannot be, `fault` is true.
 */
export function cudaPlan({ setting = 'auto', list, nvcc, gpus }) {
  const no = (reason, fault = setting === 'on') => ({ build: false, reason, fault });
  if (!['auto', 'on', 'off'].includes(setting)) {
    return no(`VOICEGRPO_CUDA: expected auto, on or off, got '${setting}'.`, true);
  }
  if (setting === 'off') return no('VOICEGRPO_CUDA=off.');
  const named = list?.split(/[;,\s]+/).filter(Boolean) ?? [];
  const wrong = named.find((one) => !/^\d{2,3}[af]?(-real|-virtual)?$/.test(one));
  if (wrong !== undefined) {
    return no(`VOICEGRPO_CUDA_ARCHITECTURES: expected compute capabilities such as 80,90, got '${wrong}'.`, true);
  }
  if (nvcc === null) {
    return no(
      'no CUDA compiler was found (nvcc; looked for CUDACXX, then PATH, CUDA_PATH, CUDA_HOME, /usr/local/cuda). ' +
        'The CUDA toolkit has it: https://developer.nvidia.com/cuda-downloads',
    );
  }
  if (older(nvcc.version, OLDEST)) return no(`nvcc is of CUDA ${nvcc.version}; ${OLDEST} or newer is needed.`);
  if (setting === 'auto' && gpus.length === 0) return no('nvidia-smi lists no GPU.');
  const architectures = named.length > 0 ? named : [...new Set(gpus.map((one) => one.replace('.', '')))];
  if (architectures.length === 0) {
    return no(
      'nvidia-smi lists no GPU, so it is not known what to compile for. Name it: VOICEGRPO_CUDA_ARCHITECTURES=90 ' +
        '(75: RTX 20, 80: A100, 86: RTX 30, 89: RTX 40 and L40, 90: H100 and H200, 120: RTX 50).',
    );
  }
  return { build: true, architectures: architectures.join(';'), nvcc: nvcc.command };
}

function older(a, b) {
  const [x, y] = [a, b].map((text) => text.split('.').map(Number));
  return x[0] - y[0] < 0 || (x[0] === y[0] && x[1] < y[1]);
}

/** The nvcc as a path for CMake, which does not look where findNvcc does. */
export function absolute(command, env = process.env) {
  if (path.isAbsolute(command)) return command;
  const folder = (env.PATH ?? '').split(path.delimiter).find((one) => fs.existsSync(path.join(one, command)));
  return folder === undefined ? command : path.join(folder, command);
}
