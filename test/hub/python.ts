/** Python's huggingface_hub, the reference that our client is compared with, where a machine has it. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const LIMIT_MS = 120_000;

let found: string | null | undefined;

/** From this version on the cache has listings, a shared store and its tag. */
const RECENT = 'import huggingface_hub as hub; assert tuple(map(int, hub.__version__.split(".")[:2])) >= (2, 4)';

/**
 * VOICEGRPO_PYTHON or else python3 of the PATH: the first that has a recent huggingface_hub, or null. Asked once per process.
 */
export function findPython(): string | null {
  if (found === undefined) {
    found =
      [process.env.VOICEGRPO_PYTHON, 'python3'].find(
        (python) => python && spawnSync(python, ['-c', RECENT], { timeout: LIMIT_MS }).status === 0,
      ) ?? null;
  }
  return found;
}

/**
 * Runs a script. Asynchronous, because the hub that the script talks to may be served by this process.
 *
 * The script sees none of the caller's own hub settings, tokens or cache: HF_HOME is an empty folder that is removed
 * afterwards, unless `env` names one.
 *
 * @param env variables on top of this process's, such as HF_ENDPOINT, HF_TOKEN and HF_HOME
 * @returns code: null when the script was killed, which happens after two minutes
 */
export function runPython(
  python: string,
  script: string,
  env: Record<string, string> = {},
): Promise<{ stdout: string; stderr: string; code: number | null }> {
  const home = mkdtempSync(join(tmpdir(), 'voicegrpo-python-'));
  const inherited = Object.entries(process.env).filter(([name]) => !/^(HF_|HUGGING_?FACE)/.test(name));
  return new Promise((resolve, reject) => {
    const child = spawn(python, ['-c', script], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: LIMIT_MS,
      killSignal: 'SIGKILL',
      env: {
        ...Object.fromEntries(inherited),
        HF_HOME: home,
        HF_HUB_DISABLE_TELEMETRY: '1',
        HF_HUB_DISABLE_XET: '1',
        HF_HUB_DISABLE_PROGRESS_BARS: '1',
        NO_PROXY: '127.0.0.1,localhost',
        no_proxy: '127.0.0.1,localhost',
        PYTHONIOENCODING: 'utf-8',
        ...env,
      },
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const cleaned = () => rmSync(home, { recursive: true, force: true });
    child.on('error', (error) => {
      cleaned();
      reject(error);
    });
    child.on('close', (code) => {
      cleaned();
      resolve({ stdout, stderr, code });
    });
  });
}
