/** voicegrpo data preview: what is said in some rows, and a clip of each label to listen to. */
import { copyFileSync, mkdirSync } from 'node:fs';
import { extname, join } from 'node:path';
import { Command, Option } from 'clipanion';
import type { Config } from '../config/load.js';
import { loadClip } from '../pipeline/clip.js';
import { fetching, filesOf, type SourceContext, tableOf } from '../pipeline/sources.js';
import { clipsOfRows, orderRows, textsOf } from '../pipeline/table.js';
import { DataCommand } from './data-command.js';
import { wholeNumber } from './options.js';

interface Previewed {
  label: string;
  rows: number;
  texts: (string | null)[];
  sample?: { file: string; duration: number; sample_rate: number; channels: number; format: string };
}

export class DataPreviewCommand extends DataCommand {
  static override paths = [['data', 'preview']];
  static override usage = Command.Usage({
    category: 'Data',
    description: 'The texts of some rows of each dataset, and with --save a clip of each to listen to.',
    details: 'Without --save only texts are read, never audio.',
    examples: [['A clip of each', 'voicegrpo data preview --save /tmp/clips']],
  });

  count = Option.String('--rows', '3', { description: 'Rows of each dataset.' });
  save = Option.String('--save', { description: 'Folder for one clip of each dataset.' });

  protected async work(config: Config, context: SourceContext): Promise<number> {
    const count = wholeNumber('--rows', this.count, 1, 1000);
    const files = await filesOf(config.data, context);
    if (files === null) {
      throw this.notParquet(config);
    }
    const table = await tableOf(config.data, files, undefined, this.save === undefined ? ['text'] : ['audio']);
    const previewed: Previewed[] = [];
    for (const label of table.labels) {
      const all = table.rows.get(label) ?? [];
      const rows = orderRows(all, label, config.data.sampling_method, config.seed).slice(0, count);
      const texts = await textsOf(table, rows);
      const entry: Previewed = { label, rows: all.length, texts: rows.map((row) => texts.get(row) ?? null) };
      if (this.save !== undefined) {
        const [clip] = await fetching(table, rows.slice(0, 1), { ...config.data, use_text: false }, context, () =>
          clipsOfRows(table, label, rows.slice(0, 1), context.signal),
        );
        if (clip !== undefined) {
          mkdirSync(this.save, { recursive: true });
          // Every label another name, whatever a file system does not take.
          const file = join(
            this.save,
            `${label.replace(/[/\\:*?"<>|%\p{C}]/gu, encodeURIComponent)}${extname(clip.file)}`,
          );
          copyFileSync(clip.file, file);
          const { duration, sampleRate, channels, format } = await loadClip(file);
          entry.sample = { file, duration, sample_rate: sampleRate, channels, format };
        }
      }
      previewed.push(entry);
    }
    if (this.json) {
      this.print(JSON.stringify(previewed));
      return 0;
    }
    for (const { label, rows, texts, sample } of previewed) {
      this.print(`${label}, ${rows} rows`);
      for (const text of texts) {
        this.print(`  ${text === null ? '(no text)' : text.replace(/\s+/g, ' ').slice(0, 110)}`);
      }
      if (sample !== undefined) {
        this.print(
          `  ${sample.file}: ${sample.duration.toFixed(1)} s, ${sample.sample_rate} Hz, ${sample.channels} channel(s), ${sample.format}`,
        );
      }
    }
    return 0;
  }
}
