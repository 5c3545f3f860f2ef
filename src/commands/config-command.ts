/** A command that takes the configuration's flags. */
import { Option } from 'clipanion';
import { CONFIG_FLAGS, type ConfigFlag, flagValue } from '../config/flags.js';
import type { FlagSetting } from '../config/load.js';
import { problem } from '../errors.js';
import type { Hub } from '../hub/client.js';
import { Progress } from '../run/progress.js';
import { BaseCommand } from './base.js';

/** Values that say which clips a source has and how to read them. */
export const SOURCE_PATHS = [
  'data.source',
  'data.revision',
  'data.split',
  'data.audio_column',
  'data.text_column',
  'data.label_column',
  'data.samples_per_dataset',
  'data.use_text',
] as const;

export abstract class ConfigCommand extends BaseCommand {
  json = Option.Boolean('--json', false, { description: 'Print one JSON value on stdout and nothing else there.' });
  verbose = Option.Boolean('-v,--verbose', false, { description: 'Tell more on stderr.' });
  offline = Option.Boolean('--offline', false, {
    description: 'Make no request to the hub: what is in the cache must do. As HF_HUB_OFFLINE=1.',
  });

  readonly #flags: readonly ConfigFlag[];

  /** @param paths configuration values that this command has flags for; null: all */
  constructor(paths: readonly string[] | null) {
    super();
    this.#flags = CONFIG_FLAGS.filter(({ path }) => paths === null || paths.includes(path));
    for (const { flag, kind, description } of this.#flags) {
      // clipanion finds options among the properties of an instance; the table makes these.
      const option =
        kind === 'boolean'
          ? Option.Boolean(flag, { description })
          : kind === 'list'
            ? Option.Array(flag, { description })
            : Option.String(flag, { description });
      Object.defineProperty(this, flag, { value: option, writable: true, enumerable: true, configurable: true });
    }
  }

  /** The flags that were given. @param words what stood after a list's first value: `--datasets a b c` */
  protected settings(words: readonly string[] = []): FlagSetting[] {
    const given: FlagSetting[] = [];
    let rest = words;
    for (const { flag, path, kind } of this.#flags) {
      const value = (this as unknown as Record<string, string | string[] | boolean | undefined>)[flag];
      if (value === undefined) {
        continue;
      }
      if (Array.isArray(value)) {
        given.push({ flag, path, value: [...value, ...rest].flatMap((text) => flagValue(kind, text) as string[]) });
        rest = [];
      } else {
        given.push({ flag, path, value: typeof value === 'boolean' ? value : flagValue(kind, value) });
      }
    }
    if (rest.length > 0) {
      throw problem({
        code: 'E_USAGE',
        expected: 'flags only',
        where: 'the command line',
        got: rest.map((word) => `'${word}'`).join(' '),
        next: 'see voicegrpo --help',
      });
    }
    return given;
  }

  protected hub(progress: Progress): Hub {
    return this.openHub(progress, this.offline);
  }

  protected progress(): Progress {
    return new Progress(this.context.stderr);
  }
}
