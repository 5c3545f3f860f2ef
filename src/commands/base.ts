/** What all commands share: errors become sentences and exit codes, signals abort, stdout belongs to the result. */
import { Command } from 'clipanion';
import { presentError } from '../errors.js';
import { Hub } from '../hub/client.js';
import { hubEnvironment } from '../hub/environment.js';
import type { Progress } from '../run/progress.js';

const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

export abstract class BaseCommand extends Command {
  /** Does the work and returns the exit code. Long calls take `signal`. */
  protected abstract run(signal: AbortSignal): Promise<number>;

  override async execute(): Promise<number> {
    const controller = new AbortController();
    let interrupted: number | undefined;
    const listeners = Object.entries(SIGNALS).map(([name, exitCode]) => {
      const listener = () => {
        if (interrupted !== undefined) process.exit(exitCode); // a second signal does not wait
        interrupted = exitCode;
        controller.abort();
      };
      process.on(name, listener);
      return [name, listener] as const;
    });
    try {
      const exitCode = await this.run(controller.signal);
      return interrupted ?? exitCode;
    } catch (error) {
      if (interrupted !== undefined) {
        this.note('Stopped.');
        return interrupted;
      }
      const { text, exitCode } = presentError(error);
      this.note(text);
      return exitCode;
    } finally {
      for (const [name, listener] of listeners) process.off(name, listener);
    }
  }

  /** The hub of the environment. @param offline no request is made, as with HF_HUB_OFFLINE */
  protected openHub(progress: Progress, offline: boolean): Hub {
    const environment = hubEnvironment();
    return new Hub(offline ? { ...environment, offline } : environment, { note: (text) => progress.line(text) });
  }

  /** A line for people: always stderr. */
  protected note(line: string): void {
    this.context.stderr.write(`${line}\n`);
  }

  /** The result: stdout. */
  protected print(text: string): void {
    this.context.stdout.write(`${text}\n`);
  }
}
