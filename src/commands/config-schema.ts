/** voicegrpo config schema: the JSON Schema of the configuration, for editors and other programs. */
import { Command } from 'clipanion';
import { SCHEMA } from '../config/schema.js';
import { BaseCommand } from './base.js';

export class ConfigSchemaCommand extends BaseCommand {
  static override paths = [['config', 'schema']];
  static override usage = Command.Usage({
    category: 'Configuration',
    description: 'The JSON Schema of the configuration: every key with its meaning, type, bounds and default.',
    examples: [['For an editor that checks JSON files', 'voicegrpo config schema > voicegrpo.schema.json']],
  });

  protected async run(): Promise<number> {
    this.print(JSON.stringify(SCHEMA, null, 2));
    return 0;
  }
}
