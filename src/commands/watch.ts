/** voicegrpo watch RUN: the page of a run while it goes on. */
import { once } from 'node:events';
import { Command, Option } from 'clipanion';
import { watchRun } from '../watch/server.js';
import { BaseCommand } from './base.js';
import { wholeNumber } from './options.js';

export class WatchCommand extends BaseCommand {
  static override paths = [['watch']];
  static override usage = Command.Usage({
    description: 'Serve the page of a run on the loopback while it goes on; /metrics is for Prometheus.',
    examples: [['At http://127.0.0.1:8765', 'voicegrpo watch runs/tiny --port 8765']],
  });

  directory = Option.String({ required: true, name: 'RUN' });
  port = Option.String('--port', '8765', { description: '0 takes any that is free.' });
  host = Option.String('--host', '127.0.0.1', {
    description: 'Address to listen on. Whoever reaches it sees the run.',
  });

  protected async run(signal: AbortSignal): Promise<number> {
    const port = wholeNumber('--port', this.port, 0, 65535);
    await using server = await watchRun({ run: this.directory, port, host: this.host });
    this.print(server.url);
    this.note('Serving until Ctrl-C.');
    if (!signal.aborted) await once(signal, 'abort');
    return 0;
  }
}
