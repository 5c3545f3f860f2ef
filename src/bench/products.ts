/** The matrix product by itself, at the shapes of Gemma 3 270M. */
import type { ProductShape } from '../native/addon.js';
import { loadNative } from '../native/load.js';

export type ProductType = ProductShape['type'];
export const PRODUCT_TYPES: readonly ProductType[] = ['f32', 'f16', 'bf16', 'q8_0'];

/** [n, k] of a forward product, [k, n] of its backward one. */
const MATRICES = [
  { name: 'q_proj', rows: 1024, columns: 640 },
  { name: 'o_proj', rows: 640, columns: 1024 },
  { name: 'gate_proj', rows: 2048, columns: 640 },
  { name: 'down_proj', rows: 640, columns: 2048 },
  { name: 'head, a chunk', rows: 8192, columns: 640 },
] as const;

const ROWS = [16, 256, 512]; // tokens: a decoding step, a pass
const SECONDS = 0.25;

export interface ProductResult {
  name: string;
  type: ProductType;
  direction: ProductShape['direction'];
  m: number;
  n: number;
  k: number;
  gflops: number;
  share_of_peak: number; // of the best in the table
}

export async function benchProducts(
  types: readonly ProductType[],
  threads: number,
  done: (result: Omit<ProductResult, 'share_of_peak'>) => void,
  signal?: AbortSignal,
): Promise<ProductResult[]> {
  const results: (Omit<ProductResult, 'share_of_peak'> & { best: number })[] = [];
  for (const type of types) {
    for (const { name, rows, columns } of MATRICES) {
      for (const direction of ['forward', 'backward'] as const) {
        for (const m of ROWS) {
          const shape = { type, direction, m, ...sides(direction, rows, columns) };
          const rate = await loadNative().measureProduct({ ...shape, threads, seconds: SECONDS }, signal);
          const result = { name, ...shape, gflops: rate.gflops };
          results.push({ ...result, best: rate.best });
          done(result);
        }
      }
    }
  }
  const peak = Math.max(...results.map(({ best }) => best));
  return results.map(({ best, ...result }) => ({ ...result, share_of_peak: result.gflops / peak }));
}

/** GFLOP/s of the fastest repetition of any large product: the peak that a step is held against. */
export async function bestRate(type: ProductType, threads: number, signal?: AbortSignal): Promise<number> {
  let best = 0;
  for (const { rows, columns } of MATRICES) {
    for (const direction of ['forward', 'backward'] as const) {
      const shape = { type, direction, m: 512, ...sides(direction, rows, columns), threads, seconds: SECONDS };
      best = Math.max(best, (await loadNative().measureProduct(shape, signal)).best);
    }
  }
  return best;
}

function sides(direction: ProductShape['direction'], rows: number, columns: number): { n: number; k: number } {
  return direction === 'forward' ? { n: rows, k: columns } : { n: columns, k: rows };
}
