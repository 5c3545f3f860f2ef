/** voicegrpo models list: the models in the cache. */
import { Command, Option } from 'clipanion';
import { cachedModels } from '../hub/models.js';
import { Progress } from '../run/progress.js';
import { BaseCommand } from './base.js';
import { columns, megabytes } from './data-command.js';

export class ModelsListCommand extends BaseCommand {
  static override paths = [['models', 'list']];
  static override usage = Command.Usage({
    category: 'Models',
    description: 'The model files in the cache that --model and --whisper can take without a connection.',
  });

  json = Option.Boolean('--json', false, { description: 'Print one JSON value on stdout and nothing else there.' });

  protected async run(): Promise<number> {
    await using hub = this.openHub(new Progress(this.context.stderr), true);
    const models = cachedModels(hub.cache);
    if (this.json) {
      this.print(JSON.stringify(models));
    } else if (models.length === 0) {
      this.note(`No model in ${hub.cache.root}. Fetch one: voicegrpo models pull unsloth/gemma-3-270m-it base`);
    } else {
      this.print(
        columns([
          ['file', 'size', 'revisions'],
          ...models.map(({ repository, file, bytes, revisions, commit }) => [
            `${repository}:${file}`,
            megabytes(bytes),
            revisions.length > 0 ? revisions.join(', ') : commit.slice(0, 12),
          ]),
        ]),
      );
    }
    return 0;
  }
}
