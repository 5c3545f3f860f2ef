/** The command line, run from its sources. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

export interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

/**
 * @param env on top of this process's
 * @param watch sees the process and what it has written to stderr so far
 * @param input stdin
 */
export function runCli(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
  watch?: (child: ChildProcess, stderr: string) => void,
  input?: Uint8Array,
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--import', 'tsx', join(root, 'src', 'cli.ts'), ...args], {
      cwd: root,
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
      watch?.(child, stderr);
    });
    child.on('error', reject);
    child.stdin.on('error', () => undefined); // a command that does not read it
    child.stdin.end(input);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}
