/** voicegrpo export RUN --format FORMAT: a trained policy for PEFT, transformers, llama.cpp or Ollama. */
import { join } from 'node:path';
import { Command, Option } from 'clipanion';
import { EXPORT_FORMATS, type ExportFormat, type ExportType, exportRun } from '../export/export.js';
import { requireFree } from '../export/place.js';
import { Transfer } from '../run/progress.js';
import { openTrainedRun } from '../run/trained.js';
import { ConfigCommand } from './config-command.js';
import { megabytes } from './data-command.js';
import { oneOf } from './options.js';

const FORMATS = Object.keys(EXPORT_FORMATS) as ExportFormat[];
const ADAPTERS = ['best', 'last'] as const;

export class ExportCommand extends ConfigCommand {
  static override paths = [['export']];
  static override usage = Command.Usage({
    category: 'Models',
    description: 'Write a trained policy for PEFT, transformers, llama.cpp or Ollama.',
    details:
      'peft: the adapter for PeftModel.from_pretrained. gguf-lora: the adapter for `llama-cli --lora`. merged: a whole model for ' +
      'transformers. gguf: a whole model for llama.cpp and, with the Modelfile, Ollama. Each with a model card. What was written is ' +
      'read back and compared with the trained policy; if it is another, the export fails and nothing is kept.',
    examples: [
      ['An adapter', 'voicegrpo export runs/tiny --format peft'],
      ['For Ollama', 'voicegrpo export runs/tiny --format gguf --type q4_k_m -o my-model'],
      ['For transformers', 'voicegrpo export runs/tiny --format merged --type bf16 -o my-model'],
    ],
  });

  directory = Option.String({ required: true, name: 'RUN' });
  format = Option.String('--format', { required: true, description: FORMATS.join(', ') });
  type = Option.String('--type', {
    description: `merged: ${EXPORT_FORMATS.merged.types.join(', ')}. gguf: ${EXPORT_FORMATS.gguf.types.join(', ')}. The first where absent; adapters are f32.`,
  });
  output = Option.String('-o,--output', { description: 'The folder to write; RUN/export/FORMAT-TYPE where absent.' });
  overwrite = Option.Boolean('--overwrite', false, { description: 'Replace an export that is there.' });
  adapter = Option.String('--adapter', 'best', { description: ADAPTERS.join(' or ') });
  baseModel = Option.String('--base-model', {
    description: "The base model's name on the hub, for PEFT and the model card, where the run had a file.",
  });

  constructor() {
    super(['policy.model', 'threads']);
  }

  protected async run(signal: AbortSignal): Promise<number> {
    const format = oneOf('--format', this.format, FORMATS);
    const types: readonly ExportType[] = EXPORT_FORMATS[format].types;
    const type = oneOf('--type', this.type ?? (types[0] as ExportType), types);
    const choice = oneOf('--adapter', this.adapter, ADAPTERS);
    const output = this.output ?? join(this.directory, 'export', `${format}-${type}`);
    requireFree(output, this.overwrite);
    const progress = this.progress();
    await using hub = this.hub(progress);
    using run = await openTrainedRun(
      this.directory,
      choice,
      [...this.settings(), { flag: '--device', path: 'device', value: 'cpu' }],
      { hub, progress, signal },
    );
    let transfer: Transfer | undefined;
    try {
      const result = await exportRun(run, {
        ...{ format, type, output, signal },
        overwrite: this.overwrite,
        adapter: choice,
        baseModel: this.baseModel,
        release: () => run[Symbol.dispose](),
        note: (text) => progress.update(text, false),
        progress: (written, total) => {
          transfer ??= new Transfer(progress, output, total, 'written');
          transfer.at(written);
        },
      });
      progress.end();
      const { agreement, bytes, files, baseModel } = result;
      if (baseModel === null && format === 'peft') {
        progress.line(
          "The base model's name on the hub is not known, so the files do not say it: --base-model org/name does.",
        );
      }
      this.print(
        this.json
          ? JSON.stringify(result)
          : [
              `${output}: ${format}, ${type}, ${megabytes(bytes)}: ${files.join(', ')}`,
              `Read back: log-probabilities within ${agreement.maxDifference.toExponential(1)} of the trained policy's on ${agreement.prompts} prompts; ${(100 * agreement.share).toFixed(1)}% of what it learned is there.`,
            ].join('\n'),
      );
      return 0;
    } finally {
      progress.end();
    }
  }
}
