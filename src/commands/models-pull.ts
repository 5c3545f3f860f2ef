/** voicegrpo models pull: fetches models of the hub, so that runs need no connection. */
import { statSync } from 'node:fs';
import { Command, Option } from 'clipanion';
import { problem } from '../errors.js';
import { findModel, type ModelKind, modelName } from '../hub/models.js';
import { fetchModel, originOf } from '../run/inputs.js';
import { Progress } from '../run/progress.js';
import { BaseCommand } from './base.js';
import { megabytes } from './data-command.js';

export class ModelsPullCommand extends BaseCommand {
  static override paths = [['models', 'pull']];
  static override usage = Command.Usage({
    category: 'Models',
    description: 'Fetch models of the hub into the cache that Python shares.',
    details:
      "'org/name' takes the GGUF file with the least loss, 'org/name:FILE' any file; a short name is one of ggerganov/whisper.cpp.",
    examples: [
      ['Policy and Whisper', 'voicegrpo models pull unsloth/gemma-3-270m-it base'],
      ['A file of your choice', 'voicegrpo models pull unsloth/gemma-3-270m-it-GGUF:gemma-3-270m-it-Q8_0.gguf'],
    ],
  });

  names = Option.Rest({ name: 'NAME', required: 1 });
  json = Option.Boolean('--json', false, { description: 'Print one JSON value on stdout and nothing else there.' });
  offline = Option.Boolean('--offline', false, { description: 'Make no request to the hub.' });

  protected async run(signal: AbortSignal): Promise<number> {
    const progress = new Progress(this.context.stderr);
    await using hub = this.openHub(progress, this.offline);
    const pulled: object[] = [];
    for (const name of this.names) {
      const kind: ModelKind = name.includes('/') && !/whisper/i.test(name) ? 'policy' : 'whisper';
      const named = modelName(kind, name);
      if (named === null) {
        throw problem({
          code: 'E_USAGE',
          expected: "'org/name', 'org/name:FILE' or a short name of Whisper",
          where: 'voicegrpo models pull',
          got: `'${name}'`,
          next: 'try unsloth/gemma-3-270m-it, or base',
        });
      }
      const model = await findModel(hub, kind, named, signal);
      const path = await fetchModel(model, { hub, progress, signal });
      pulled.push({ name, path, bytes: statSync(path).size, ...originOf(model) });
      if (!this.json) {
        this.print(`${path}  ${megabytes(statSync(path).size)}`);
      }
    }
    if (this.json) {
      this.print(JSON.stringify(pulled));
    }
    return 0;
  }
}
