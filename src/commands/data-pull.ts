/** voicegrpo data pull: fetches what a run of this configuration would take, so that it needs no connection. */
import { Command, Option } from 'clipanion';
import type { Config } from '../config/load.js';
import { filesOf, openDataset, type SourceContext, tableOf } from '../pipeline/sources.js';
import { Transfer } from '../run/progress.js';
import { DataCommand, megabytes } from './data-command.js';

export class DataPullCommand extends DataCommand {
  static override paths = [['data', 'pull']];
  static override usage = Command.Usage({
    category: 'Data',
    description: 'Fetch the clips that `train` would take with the same flags.',
    details:
      'With --whole the parquet files of the datasets are fetched as they are, into the cache that Python shares.',
    examples: [
      ['For --config small', 'voicegrpo data pull --config small'],
      ['All of two datasets', 'voicegrpo data pull --whole --datasets ifeval commoneval'],
    ],
  });

  whole = Option.Boolean('--whole', false, { description: 'Whole files instead of the rows that are needed.' });

  protected async work(config: Config, context: SourceContext): Promise<number> {
    const files = await filesOf(config.data, context);
    if (files === null || files.pull === null) {
      throw this.notParquet(config);
    }
    if (!this.whole) {
      const { labels, train, heldOut, origin } = await openDataset(config.data, config.seed, context);
      const counts = labels.map((label) => ({
        label,
        train: train.filter((clip) => clip.label === label).length,
        held_out: heldOut.filter((clip) => clip.label === label).length,
      }));
      this.print(
        this.json
          ? JSON.stringify({ ...origin, datasets: counts })
          : counts
              .map(({ label, train: a, held_out: b }) => `${label}: ${a} training and ${b} held-out clips are here.`)
              .join('\n'),
      );
      return 0;
    }
    const table = await tableOf(config.data, files, undefined, []);
    const paths = new Set([...table.rows.values()].flatMap((rows) => rows.map(({ shard }) => shard.path)));
    const wanted = files.entries.filter(({ path }) => paths.has(path));
    const bytes = wanted.reduce((sum, { size }) => sum + size, 0);
    context.progress.line(`To fetch from ${files.name}: ${wanted.length} files, at most ${megabytes(bytes)}.`);
    const pulled: string[] = [];
    for (const entry of wanted) {
      const transfer = new Transfer(context.progress, entry.path, entry.size);
      pulled.push(await files.pull(entry, (done) => transfer.at(done)));
    }
    context.progress.end();
    this.print(this.json ? JSON.stringify({ ...files.origin, files: pulled }) : pulled.join('\n'));
    return 0;
  }
}
