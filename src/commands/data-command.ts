/** What `voicegrpo data …` commands share: the source that flags and a configuration name, and its rows. */
import { Option } from 'clipanion';
import { type Config, loadConfig } from '../config/load.js';
import { problem } from '../errors.js';
import type { SourceContext } from '../pipeline/sources.js';
import { ConfigCommand, SOURCE_PATHS } from './config-command.js';

export abstract class DataCommand extends ConfigCommand {
  config = Option.String('--config', { description: "A preset or a JSON file; 'default' where absent." });
  words = Option.Rest();

  constructor() {
    super([...SOURCE_PATHS, 'seed', 'data.datasets', 'data.held_out_per_dataset', 'data.sampling_method']);
  }

  protected abstract work(config: Config, context: SourceContext): Promise<number>;

  protected async run(signal: AbortSignal): Promise<number> {
    const { config } = loadConfig(this.config ?? 'default', this.settings(this.words));
    const progress = this.progress();
    await using hub = this.hub(progress);
    return await this.work(config, { hub, progress, signal }); // the hub closes when this returns
  }

  /** @throws VoiceGrpoError E_CONFIG: the source is a folder or a manifest */
  protected notParquet(config: Config): Error {
    return problem({
      code: 'E_CONFIG',
      expected: 'a dataset of the hub, or parquet files',
      where: 'data.source',
      got: `'${config.data.source}', whose clips lie on this machine`,
      next: 'see them with voicegrpo data list',
    });
  }
}

/** Lines of a table: the first column to the left, the others to the right. */
export function columns(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => (row[i] ?? '').length)));
  return rows
    .map((row) =>
      row
        .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] as number) : cell.padStart(widths[i] as number)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
