export interface CudaPlan {
  build: boolean;
  architectures?: string;
  nvcc?: string;
  reason?: string;
  fault?: boolean;
}
export function findNvcc(env?: NodeJS.ProcessEnv): { command: string; version: string } | null;
export function findGpus(env?: NodeJS.ProcessEnv): string[];
export function cudaPlan(found: {
  setting?: string;
  list?: string;
  nvcc: { command: string; version: string } | null;
  gpus: string[];
}): CudaPlan;
export function absolute(command: string, env?: NodeJS.ProcessEnv): string;
