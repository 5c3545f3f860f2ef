/** voicegrpo convert: a model folder to the file that this program and llama.cpp read. */
import { Command, Option } from 'clipanion';
import { problem } from '../errors.js';
import { convertGemmaFolder, type GemmaWeightType } from '../formats/gemma3-gguf.js';
import { isModelFolder } from '../run/converted.js';
import { Progress, Transfer } from '../run/progress.js';
import { BaseCommand } from './base.js';
import { megabytes } from './data-command.js';
import { oneOf } from './options.js';

const TYPES = ['auto', 'f32', 'f16', 'bf16', 'q8_0'] as const satisfies readonly GemmaWeightType[];

export class ConvertCommand extends BaseCommand {
  static override paths = [['convert']];
  static override usage = Command.Usage({
    category: 'Models',
    description: 'Write the GGUF of a Gemma 3 folder (config.json, safetensors, tokenizer).',
    details:
      'Nothing but the folder is read, and nothing in it is executed. `--model DIR` does the same once, into the cache.',
    examples: [['In the type of the weights', 'voicegrpo convert gemma-3-270m-it -o gemma.gguf']],
  });

  input = Option.String({ required: true, name: 'DIR' });
  output = Option.String('-o,--output', { required: true, description: 'The GGUF file, replaced if it is there.' });
  type = Option.String('--type', 'auto', { description: `${TYPES.join(', ')}; auto: as the weights are stored.` });
  json = Option.Boolean('--json', false, { description: 'Print one JSON value on stdout and nothing else there.' });

  protected async run(signal: AbortSignal): Promise<number> {
    const type = oneOf('--type', this.type, TYPES);
    if (!isModelFolder(this.input)) {
      throw problem({
        code: 'E_MODEL',
        expected: 'a Hugging Face folder of a Gemma 3 model, with config.json',
        where: this.input,
        got: 'none',
        next: 'name the folder that has config.json, model.safetensors and tokenizer.json',
      });
    }
    const progress = new Progress(this.context.stderr);
    let transfer: Transfer | undefined;
    try {
      const result = await convertGemmaFolder(this.input, this.output, {
        type,
        signal,
        progress: (written, total) => {
          transfer ??= new Transfer(progress, this.output, total, 'written');
          transfer.at(written);
        },
      });
      progress.end();
      const { bytes, tensors, parameters, type: written } = result;
      this.print(
        this.json
          ? JSON.stringify({ output: this.output, ...result })
          : `${this.output}: ${megabytes(bytes)}, ${tensors} tensors, ${(parameters / 1e6).toFixed(1)} M parameters, ${written}`,
      );
      return 0;
    } finally {
      progress.end();
    }
  }
}
