/**
 * Which device computes, and the sentence where it cannot be the one that was asked for. Everything here is a function of what was
 * found; `load.ts` does the finding.
 */
import { problem, type VoiceGrpoError } from '../errors.js';
import type { CudaDevice, CudaOpened, CudaProbe } from './addon.js';

/** What a command computes with a model. */
export type Work = 'whisper' | 'policy';

/** What became of voicegrpo-cuda.node on this machine. */
export type CudaFinding =
  | { addon: 'missing'; file: string }
  | { addon: 'unloadable'; file: string; message: string } // of dlopen
  | { addon: 'loaded'; probe: CudaProbe };

export interface Choice {
  device: 'cpu' | `cuda:${number}`;
  /** 'NVIDIA H100 80GB HBM3'; null for the CPU */
  name: string | null;
  /** Why it is this one: a clause without full stop; null where it was asked for. */
  why: string | null;
}

/** @returns the number that was asked for, null for any; undefined if `request` is none of auto, cpu, cuda, cuda:N */
export function parseDevice(request: string): { kind: 'auto' | 'cpu' | 'cuda'; index: number | null } | undefined {
  const match = /^(?:(auto|cpu|cuda)|cuda:(\d{1,3}))$/.exec(request);
  if (match === null) return undefined;
  return match[2] === undefined
    ? { kind: match[1] as 'auto' | 'cpu' | 'cuda', index: null }
    : { kind: 'cuda', index: Number(match[2]) };
}

/**
 * @param open makes a context on one device; called at most once, for the one that would be used
 * @throws VoiceGrpoError E_CONFIG for another word, E_DEVICE where CUDA was asked for and cannot be used; E_MEMORY where it is full
 */
export function chooseDevice(
  request: string,
  needs: readonly Work[],
  find: () => CudaFinding,
  open: (index: number) => CudaOpened,
): Choice {
  const asked = parseDevice(request);
  if (asked === undefined) {
    throw problem({
      code: 'E_CONFIG',
      where: '--device',
      expected: 'auto, cpu, cuda or cuda:N',
      got: `'${request}'`,
      next: 'Correct it or leave it out.',
    });
  }
  if (asked.kind === 'cpu') return { device: 'cpu', name: null, why: null };
  const found = find();
  const index = asked.index ?? 0;
  const obstacle = obstacleOf(found, index, needs) ?? openingObstacle(found, index, open);
  if (obstacle === null) {
    const { name } = deviceOf(found, index) as CudaDevice;
    return { device: `cuda:${index}`, name, why: null };
  }
  if (asked.kind === 'cuda') throw obstacle;
  return { device: 'cpu', name: null, why: obstacle.message.replace(/\.$/, '') };
}

/** What stands against the device before it is touched; null: nothing. */
export function obstacleOf(found: CudaFinding, index: number, needs: readonly Work[]): VoiceGrpoError | null {
  if (found.addon === 'missing') {
    return device({
      expected: 'the CUDA addon',
      got: `no file ${found.file}`,
      next: 'Where a CUDA compiler (nvcc, 12.0 or newer) is, build it: npm run build:cuda. Or leave --device out for the CPU.',
    });
  }
  if (found.addon === 'unloadable') return unloadable(found);
  const { probe } = found;
  // The driver is asked for by the runtime; a runtime that is newer than the driver by a major version gets no answer.
  if (probe.driver === 0) {
    return device({
      expected: "NVIDIA's driver (libcuda.so.1)",
      got: 'none',
      next: 'Install the driver of your GPU; in a container start it with --gpus all (nvidia-container-toolkit). nvidia-smi must list the GPU.',
    });
  }
  if (probe.error === 'cudaErrorInsufficientDriver' || majorOf(probe.driver) < majorOf(probe.runtime)) {
    return device({
      expected: `a driver that serves CUDA ${versionText(probe.runtime)}, with which the addon was built`,
      got: `one that serves up to CUDA ${versionText(probe.driver)}`,
      next: `Update NVIDIA's driver, or build with a CUDA compiler of version ${majorOf(probe.driver)}: npm run build:cuda.`,
    });
  }
  if (probe.devices.length === 0) {
    const hidden = probe.error === '' || probe.error === 'cudaErrorNoDevice';
    return device({
      expected: 'an NVIDIA GPU',
      got: hidden ? 'none' : `${probe.error} (${probe.message})`,
      next: 'nvidia-smi must list it; CUDA_VISIBLE_DEVICES may hide it.',
    });
  }
  if (deviceOf(found, index) === undefined) {
    const list = probe.devices.map((one) => `cuda:${one.index} (${one.name})`).join(', ');
    return device({
      where: `--device cuda:${index}`,
      expected: `one of ${list}`,
      got: `number ${index}`,
      next: 'Correct it; CUDA_VISIBLE_DEVICES changes which devices are seen, and their numbers.',
    });
  }
  const lacking = needs.filter((work) => !probe.computes[work]);
  if (lacking.length > 0) {
    const names: Record<Work, string> = { whisper: 'Whisper', policy: 'the policy' };
    return device({
      expected: `a build that computes ${needs.map((work) => names[work]).join(' and ')} on the GPU`,
      got: `one that computes ${lacking.map((work) => names[work]).join(' and ')} on the CPU`,
      next: 'Leave --device out, or build a newer version: npm run build:cuda.',
    });
  }
  return null;
}

function openingObstacle(
  found: CudaFinding,
  index: number,
  open: (index: number) => CudaOpened,
): VoiceGrpoError | null {
  const { probe } = found as Extract<CudaFinding, { addon: 'loaded' }>;
  return openingProblem(deviceOf(found, index) as CudaDevice, open(index), probe.architectures);
}

/** Why a device that is there cannot be used; null: it can. */
export function openingProblem(
  { index, name, computeCapability, totalMemory }: CudaDevice,
  { error, message }: CudaOpened,
  architectures: string,
): VoiceGrpoError | null {
  const where = `cuda:${index} (${name})`;
  switch (error) {
    case '':
      return null;
    case 'cudaErrorNoKernelImageForDevice':
    case 'cudaErrorInvalidDeviceFunction':
    case 'cudaErrorUnsupportedPtxVersion':
      return device({
        where,
        expected: `kernels for its architecture, ${computeCapability.replace('.', '')}`,
        got: `a build for ${architectures}`,
        next: `VOICEGRPO_CUDA_ARCHITECTURES=${computeCapability.replace('.', '')} npm run build:cuda`,
      });
    case 'cudaErrorMemoryAllocation':
      return device({
        code: 'E_MEMORY',
        where,
        expected: `room for a context in its ${gigabytes(totalMemory)}`,
        got: 'a full device',
        next: 'Another process holds its memory (nvidia-smi shows which): wait for it, end it, or take another device.',
      });
    case 'cudaErrorDevicesUnavailable':
    case 'cudaErrorDeviceAlreadyInUse':
      return device({
        where,
        expected: 'a device that is free',
        got: 'one that another process has for itself (compute mode exclusive or prohibited)',
        next: 'nvidia-smi shows which: wait for it or take another device.',
      });
    default:
      return device({
        where,
        expected: 'a device that can be used',
        got: `${error} (${message})`,
        next: 'nvidia-smi and the kernel log (dmesg) say more about the device; a restart of the machine often helps.',
      });
  }
}

/** Libraries that the addon is linked with, and where each comes from. */
const LIBRARIES: readonly [RegExp, string][] = [
  [
    /libcublas(Lt)?\.so/,
    "cuBLAS of the CUDA toolkit that the addon was built with (Debian's package libcublas-MAJOR-MINOR, or pip install nvidia-cublas)",
  ],
  [/libcudart\.so/, 'the runtime of the CUDA toolkit that the addon was built with'],
  [/libcuda\.so/, "NVIDIA's driver"],
];

function unloadable({ file, message }: { file: string; message: string }): VoiceGrpoError {
  const line = message.split('\n')[0] as string;
  const missing = /([\w.+-]+\.so[\w.]*): cannot open shared object file/.exec(line)?.[1];
  if (missing === undefined) {
    return device({
      expected: `${file} to load`,
      got: line,
      next: 'Build it anew for this machine and this Node: npm run build:cuda.',
    });
  }
  const source = LIBRARIES.find(([pattern]) => pattern.test(missing))?.[1];
  return device({
    expected: `the library ${missing}`,
    got: 'none',
    next: `${source === undefined ? 'Install it' : `Install ${source}`}, and name its folder in LD_LIBRARY_PATH if it is not a usual one.`,
  });
}

/** One line for each fact, for doctor. Touches no device. */
export function describeCuda(found: CudaFinding): { ok: boolean; text: string } {
  const obstacle = obstacleOf(found, 0, []);
  if (obstacle !== null || found.addon !== 'loaded') {
    // An addon that was never built is no fault; one that cannot do its work is.
    return { ok: found.addon === 'missing', text: [obstacle?.message, obstacle?.hint].filter(Boolean).join(' ') };
  }
  const { probe } = found;
  const list = probe.devices.map(
    (one) =>
      `cuda:${one.index} ${one.name}, compute capability ${one.computeCapability}, ${gigabytes(one.totalMemory)}`,
  );
  const work = (['whisper', 'policy'] as const).filter((one) => probe.computes[one]).join(', ');
  return {
    ok: true,
    text:
      `${list.join('; ')}; built with CUDA ${versionText(probe.runtime)} for ${probe.architectures}, ` +
      `the driver serves ${versionText(probe.driver)}; computes there: ${work}`,
  };
}

/** 13000 → '13.0' */
export function versionText(version: number): string {
  return `${majorOf(version)}.${Math.floor((version % 1000) / 10)}`;
}

/** '79.2 GB' */
export function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

function majorOf(version: number): number {
  return Math.floor(version / 1000);
}

function deviceOf(found: CudaFinding, index: number): CudaDevice | undefined {
  return found.addon === 'loaded' ? found.probe.devices.find((one) => one.index === index) : undefined;
}

function device(parts: { code?: string; where?: string; expected: string; got: string; next: string }): VoiceGrpoError {
  return problem({ code: 'E_DEVICE', where: '--device cuda', ...parts });
}
