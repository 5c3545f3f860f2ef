/** The shapes that are measured, and `voicegrpo bench step` as a function. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export const SHAPE = { prompts: 2, generations: 8, promptTokens: 127, completionTokens: 16, loraR: 16 };
/** That of the Python programme this one takes the place of. */
export const SHORT_SHAPE = { prompts: 1, generations: 4, promptTokens: 200, completionTokens: 5, loraR: 8 };

/** {promptTokens: 3} as --prompt-tokens 3 */
export function options(values) {
  return Object.entries(values).flatMap(([key, value]) => [
    `--${key.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`,
    String(value),
  ]);
}

/** In a process of its own, whose peak memory is that of these steps alone. */
export async function measureSteps(values) {
  const cli = fileURLToPath(new URL('../dist/cli.js', import.meta.url));
  const args = [cli, 'bench', 'step', '--json', ...options(values)];
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 1 << 26 });
  return JSON.parse(stdout);
}
