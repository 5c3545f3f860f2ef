/** The device of a command: chosen once, before a model is opened, told to the person, kept in the run's manifest. */
import type { Choice, Work } from '../native/devices.js';
import { useDevice } from '../native/load.js';

/**
 * @param needs what the command computes on the device
 * @param note gets one line where a GPU is used, or where there is one that cannot be
 * @returns 'cpu' or 'NVIDIA H100 80GB HBM3 (cuda:0)', as in the manifest
 * @throws VoiceGrpoError as `chooseDevice` does
 */
export function prepareDevice(request: string, needs: readonly Work[], note: (line: string) => void): string {
  const choice = useDevice(request, needs);
  const line = deviceLine(choice);
  if (line !== null) note(line);
  return deviceName(choice);
}

export function deviceName({ device, name }: Choice): string {
  return name === null ? device : `${name} (${device})`;
}

/** Nothing is said where the CPU was asked for, or where there is no CUDA addon: that is how most installations are. */
export function deviceLine(choice: Choice): string | null {
  if (choice.name !== null) return `Computing on ${deviceName(choice)}.`;
  if (choice.why === null || choice.why.includes('expected the CUDA addon')) return null;
  return `Computing on the CPU (${choice.why}).`;
}

/** The request that a resumed run begins with: rounding differs between devices, so it stays on the kind it began on. */
export function deviceOfManifest(manifest: Record<string, unknown>): string {
  return /\(cuda:\d+\)$/.test(String(manifest.device)) ? 'cuda' : 'cpu';
}
