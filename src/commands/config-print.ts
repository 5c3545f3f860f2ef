/** voicegrpo config print: every value of a configuration with where it is from. */
import { Command, Option } from 'clipanion';
import { type LoadedConfig, loadConfig } from '../config/load.js';
import { LEAVES } from '../config/schema.js';
import { problem } from '../errors.js';
import { openRun } from '../run/folder.js';
import { ConfigCommand } from './config-command.js';
import { textTable } from './text-table.js';

interface Setting {
  path: string;
  value: unknown;
  /** 'default', 'preset tiny', 'file my.json', 'flag --seed'; 'not stored' for a setting that is newer than the run. */
  origin: string;
}

export class ConfigPrintCommand extends ConfigCommand {
  static override paths = [['config', 'print']];
  static override usage = Command.Usage({
    category: 'Configuration',
    description:
      'Every value that train would take with these flags, or that a run was made with, and where it is from.',
    details: 'An origin is `default` (of the schema), `preset NAME`, `file PATH` or `flag --NAME`.',
    examples: [
      ['What a preset and a flag come to', 'voicegrpo config print --config tiny --seed 7'],
      ['What a run was made with', 'voicegrpo config print runs/tiny --json'],
    ],
  });

  config = Option.String('--config', { description: 'A preset or a JSON file; without it `default`.' });
  words = Option.Rest({ name: 'RUN' });

  constructor() {
    super(null);
  }

  protected async run(): Promise<number> {
    const settings = settingsOf(this.load());
    this.print(
      this.json
        ? JSON.stringify(Object.fromEntries(settings.map(({ path, value, origin }) => [path, { value, origin }])))
        : textTable(
            settings.map(({ path, value, origin }) => [path, JSON.stringify(value), origin]),
            'lll',
          ),
    );
    return 0;
  }

  /** A single word is a run, unless a list began before it: `--datasets a b`. */
  private load(): LoadedConfig {
    const [run, ...more] = this.words;
    const takesWords = (this as unknown as Record<string, unknown>)['--datasets'] !== undefined;
    if (run === undefined || more.length > 0 || takesWords) {
      return loadConfig(this.config ?? 'default', this.settings(this.words));
    }
    const flags = [...(this.config === undefined ? [] : ['--config']), ...this.settings().map(({ flag }) => flag)];
    if (flags.length > 0) {
      throw problem({
        code: 'E_USAGE',
        expected: 'a run or a configuration with flags',
        where: 'voicegrpo config print',
        got: `the run '${run}' and ${flags.join(', ')}`,
        next: 'leave out one of them: the values of a run are fixed',
      });
    }
    return openRun(run).loaded;
  }
}

/** In the order of the schema. */
function settingsOf({ config, origins }: LoadedConfig): Setting[] {
  return [...LEAVES.keys()].map((path) => ({
    path,
    value: path.split('.').reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], config),
    origin: origins[path] ?? 'not stored',
  }));
}
