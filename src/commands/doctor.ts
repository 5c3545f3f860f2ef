/** voicegrpo doctor: what this installation has, and with --online what the hub answers. */
import { Command, Option } from 'clipanion';
import { failed, localChecks } from '../doctor/checks.js';
import type { Hub } from '../hub/client.js';
import { hubEnvironment } from '../hub/environment.js';
import { cachedModels, findModel, modelName, sizeOf } from '../hub/models.js';
import { VOICEBENCH } from '../pipeline/sources.js';
import { hubFiles, openTable, shardsOf } from '../pipeline/table.js';
import { Progress } from '../run/progress.js';
import { BaseCommand } from './base.js';
import { megabytes } from './data-command.js';

/** The models that the presets name. */
const MODELS = [
  ['policy', 'unsloth/gemma-3-270m-it'],
  ['whisper', 'base'],
] as const;

const MARKS = { ok: 'ok  ', warning: 'WARN', failure: 'FAIL' } as const;

export class DoctorCommand extends BaseCommand {
  static override paths = [['doctor']];
  static override usage = Command.Usage({
    description:
      'What this installation has and what to do about it; with --online also what the hub answers, from footers and listings alone.',
    details: 'Exit code 1 with a failure, 0 with warnings alone. It works where the addon does not load.',
  });

  online = Option.Boolean('--online', false, { description: 'Ask the hub; less than 1 MB a file is read.' });
  json = Option.Boolean('--json', false, { description: 'Print one JSON value on stdout and nothing else there.' });

  protected async run(signal: AbortSignal): Promise<number> {
    const progress = new Progress(this.context.stderr);
    const checks = await localChecks();
    const check = async (name: string, work: () => string | Promise<string>) => {
      try {
        checks.push({ name, severity: 'ok', found: await work(), fix: null });
      } catch (error) {
        signal.throwIfAborted();
        checks.push(failed(name, error));
      }
    };
    await check('models', async () => {
      await using hub = this.openHub(progress, true);
      const models = cachedModels(hub.cache).map(({ repository, file }) => `${repository}:${file}`);
      return models.length === 0 ? 'none in the cache; the bundled ones need none' : models.join(', ');
    });
    await check('hub', () => {
      const { endpoint, cache, token, offline } = hubEnvironment();
      return `${endpoint}, ${token === null ? 'no token' : 'with a token'}${offline ? ', offline' : ''}, cache ${cache}`;
    });
    if (this.online && checks.at(-1)?.severity === 'ok') {
      await using hub = this.openHub(progress, false);
      for (const [kind, name] of MODELS) {
        await check(`model ${name}`, async () => {
          const model = await findModel(hub, kind, modelName(kind, name)!, signal);
          const { entry, commit, repository } = model;
          return `${repository.id} at ${commit.slice(0, 12)}: ${entry.path}, ${megabytes(sizeOf(model))}`;
        });
      }
      await check('data voicebench', () => this.voiceBench(hub, signal, check));
    }
    if (this.json) {
      this.print(JSON.stringify(checks));
    } else {
      const width = Math.max(...checks.map(({ name }) => name.length));
      for (const { name, severity, found, fix } of checks) {
        this.print(`${MARKS[severity]} ${name.padEnd(width)}  ${found}`.trimEnd());
        if (fix !== null) this.print(`${' '.repeat(MARKS.ok.length + width + 3)}${fix}`);
      }
    }
    return checks.some(({ severity }) => severity === 'failure') ? 1 : 0;
  }

  /** Tree and footers of each dataset; sizes of row groups say what a row costs. */
  private async voiceBench(
    hub: Hub,
    signal: AbortSignal,
    check: (name: string, work: () => string | Promise<string>) => Promise<void>,
  ): Promise<string> {
    const files = await hubFiles(hub, VOICEBENCH.id, VOICEBENCH.revision, signal);
    const names = [...new Set(shardsOf(files.entries, VOICEBENCH.split).map(({ config }) => config))];
    for (const name of names) {
      await check(`data ${name}`, async () => {
        const { rows } = await openTable(files, {
          datasets: [name],
          split: VOICEBENCH.split,
          audioColumn: 'audio',
          textColumn: 'prompt',
          labelColumn: null,
          needs: ['audio'],
        });
        const own = rows.get(name) ?? [];
        const shards = [...new Set(own.map(({ shard }) => shard))];
        const groups = shards.flatMap(({ parquet }) =>
          parquet.groups.map(({ rows: count, indexed }, i) => ({
            count,
            indexed,
            bytes: parquet.columnRanges(i, 'audio').reduce((sum, [start, end]) => sum + end - start, 0),
          })),
        );
        const largest = Math.max(...groups.map(({ bytes }) => bytes));
        const size = shards.reduce((sum, { size: bytes }) => sum + bytes, 0);
        return (
          `${own.length} rows in ${shards.length} files, ${megabytes(size)}; ${groups.length} row groups of at most ` +
          `${Math.max(...groups.map(({ count }) => count))} rows, audio up to ${megabytes(largest)} each, ` +
          `${groups.every(({ indexed }) => indexed) ? 'with' : 'without'} a page index`
        );
      });
    }
    return `${names.length} datasets at ${VOICEBENCH.revision.slice(0, 12)}, ${megabytes(files.fetched.bytes)} read`;
  }
}
