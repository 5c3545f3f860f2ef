/** voicegrpo convert: models of PyTorch and Hugging Face to the files that this program, llama.cpp and whisper.cpp read. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Command, Option } from 'clipanion';
import { problem } from '../errors.js';
import { convertGemmaFolder, type GemmaWeightType } from '../formats/gemma3-gguf.js';
import { convertWhisper, WHISPER_TYPES } from '../formats/whisper-ggml.js';
import { isModelFolder } from '../run/converted.js';
import { Progress, Transfer } from '../run/progress.js';
import { BaseCommand } from './base.js';
import { megabytes } from './data-command.js';
import { oneOf } from './options.js';

const GEMMA_TYPES = ['auto', 'f32', 'f16', 'bf16', 'q8_0'] as const satisfies readonly GemmaWeightType[];

export class ConvertCommand extends BaseCommand {
  static override paths = [['convert']];
  static override usage = Command.Usage({
    category: 'Models',
    description: "Write a Gemma 3 folder as GGUF, or a Whisper checkpoint in whisper.cpp's format.",
    details:
      'Gemma 3: a folder with config.json, safetensors and tokenizer. Whisper: a checkpoint of PyTorch (wpt.pt), safetensors, or a ' +
      'Hugging Face folder. Nothing in them is executed. `--model DIR` and `--whisper wpt.pt` do the same once, into the cache.',
    examples: [
      ['In the type of the weights', 'voicegrpo convert gemma-3-270m-it -o gemma.gguf'],
      ['A Whisper checkpoint', 'voicegrpo convert wpt.pt -o ggml-model.bin --type q5_1'],
    ],
  });

  input = Option.String({ required: true, name: 'MODEL' });
  output = Option.String('-o,--output', { required: true, description: 'The file to write, replaced if it is there.' });
  type = Option.String('--type', {
    description: `Gemma: ${GEMMA_TYPES.join(', ')} (auto: as stored). Whisper: ${WHISPER_TYPES.join(', ')}; f16 where absent.`,
  });
  json = Option.Boolean('--json', false, { description: 'Print one JSON value on stdout and nothing else there.' });

  protected async run(signal: AbortSignal): Promise<number> {
    const progress = new Progress(this.context.stderr);
    let transfer: Transfer | undefined;
    const told = (written: number, total: number) => {
      transfer ??= new Transfer(progress, this.output, total, 'written');
      transfer.at(written);
    };
    try {
      const result = isGemma(this.input)
        ? await convertGemmaFolder(this.input, this.output, {
            type: oneOf('--type', this.type ?? 'auto', GEMMA_TYPES),
            signal,
            progress: told,
          })
        : await convertWhisper(this.input, this.output, {
            type: oneOf('--type', this.type ?? 'f16', WHISPER_TYPES),
            signal,
            progress: told,
          });
      progress.end();
      const { bytes, tensors, parameters, type } = result;
      this.print(
        this.json
          ? JSON.stringify({ output: this.output, ...result })
          : `${this.output}: ${megabytes(bytes)}, ${tensors} tensors, ${(parameters / 1e6).toFixed(1)} M parameters, ${type}`,
      );
      return 0;
    } finally {
      progress.end();
    }
  }
}

/** A folder whose config.json speaks of no Whisper; a file is one. */
function isGemma(input: string): boolean {
  if (existsSync(input) && statSync(input).isDirectory()) {
    if (isModelFolder(input)) {
      return !/"model_type"\s*:\s*"whisper"/.test(readFileSync(join(input, 'config.json'), 'utf8'));
    }
    throw problem({
      code: 'E_MODEL',
      expected: 'a Hugging Face folder of a Gemma 3 model, with config.json',
      where: input,
      got: 'none',
      next: 'name the folder that has config.json, model.safetensors and tokenizer.json',
    });
  }
  return false;
}
