/** voicegrpo data list: what a source holds. */
import { statSync } from 'node:fs';
import { Command } from 'clipanion';
import type { Config } from '../config/load.js';
import { listClips } from '../pipeline/data.js';
import { filesOf, type SourceContext, splitOf } from '../pipeline/sources.js';
import { openTable, shardsOf } from '../pipeline/table.js';
import { columns, DataCommand, megabytes } from './data-command.js';

interface Listed {
  name: string;
  files: number;
  rows: number;
  bytes: number;
}

export class DataListCommand extends DataCommand {
  static override paths = [['data', 'list']];
  static override usage = Command.Usage({
    category: 'Data',
    description: 'The datasets of a source, their rows and sizes. No audio is fetched.',
    examples: [
      ['VoiceBench', 'voicegrpo data list'],
      [
        'Another dataset of the hub, with labels in a column',
        'voicegrpo data list --data org/name --label-column intent',
      ],
    ],
  });

  protected async work(config: Config, context: SourceContext): Promise<number> {
    const { data } = config;
    const files = await filesOf(data, context);
    const split = splitOf(data);
    let listed: Listed[];
    if (files === null) {
      const all = listClips(data.source, data.datasets);
      const clips = all.filter(({ label }) => data.datasets.length === 0 || data.datasets.includes(label));
      listed = [...new Set(clips.map(({ label }) => label))].map((name) => {
        const own = clips.filter(({ label }) => label === name);
        return {
          name,
          files: own.length,
          rows: own.length,
          bytes: own.reduce((sum, { file }) => sum + statSync(file).size, 0),
        };
      });
    } else {
      const table = await openTable(files, {
        datasets: data.datasets,
        split,
        audioColumn: data.audio_column,
        textColumn: data.text_column,
        labelColumn: data.label_column,
        needs: [],
      });
      listed = table.labels.map((name) => {
        const rows = table.rows.get(name) ?? [];
        const shards = new Set(rows.map(({ shard }) => shard));
        // With a column of labels every label lies in every file: their sizes say nothing of one label.
        const bytes = data.label_column === null ? [...shards].reduce((sum, { size }) => sum + size, 0) : Number.NaN;
        return { name, files: shards.size, rows: rows.length, bytes };
      });
    }
    const bytes =
      files === null ? null : shardsOf(files.entries, split).reduce((sum, { entry }) => sum + entry.size, 0);
    if (this.json) {
      const datasets = listed.map(({ bytes: own, ...rest }) => ({ ...rest, bytes: Number.isNaN(own) ? null : own }));
      this.print(JSON.stringify({ source: data.source, ...files?.origin, ...(files && { split, bytes }), datasets }));
      return 0;
    }
    if (files !== null) {
      const { commit } = files.origin as { commit?: string };
      this.print(
        `${files.name}${commit === undefined ? '' : ` at ${commit.slice(0, 12)}`}, split '${split}', ${megabytes(bytes as number)}`,
      );
    }
    const total = listed.reduce((sum, { rows }) => sum + rows, 0);
    this.print(
      columns([
        ['dataset', 'files', 'rows', 'share', 'size'],
        ...listed.map(({ name, files: count, rows, bytes: own }) => [
          name,
          String(count),
          String(rows),
          `${((100 * rows) / total).toFixed(1)}%`,
          Number.isNaN(own) ? '' : megabytes(own),
        ]),
      ]),
    );
    return 0;
  }
}
