/** voicegrpo bench step: the time and memory of whole GRPO steps. */
import { availableParallelism } from 'node:os';
import { Command, Option } from 'clipanion';
import { PRODUCT_TYPES } from '../bench/products.js';
import { benchStep, type StepBenchmark } from '../bench/step.js';
import { prepareDevice } from '../run/device.js';
import { BUNDLED_POLICY } from '../run/inputs.js';
import { BaseCommand } from './base.js';
import { oneOf, wholeNumber } from './options.js';

export class BenchStepCommand extends BaseCommand {
  static override paths = [['bench', 'step']];
  static override usage = Command.Usage({
    category: 'Benchmarks',
    description: 'measure whole GRPO steps, from rollout to optimizer',
    details: `
      Random prompts of a fixed length, completions forced to a fixed length. \`bound_seconds\` is the time that the step's matrix
      products would take at the best rate of the product, measured in the same run.
    `,
    examples: [['A real model', 'voicegrpo bench step --model gemma-3-270m.gguf --prompts 2 --generations 8']],
  });

  model = Option.String('--model', BUNDLED_POLICY, { description: 'a Gemma 3 GGUF file; default: the bundled policy' });
  type = Option.String('--type', 'auto', { description: 'storage of the base weights: auto, f32, f16, bf16, q8_0' });
  prompts = Option.String('--prompts', '2', { description: 'prompts of a step' });
  generations = Option.String('--generations', '8', { description: 'completions of a prompt' });
  promptTokens = Option.String('--prompt-tokens', '127');
  completionTokens = Option.String('--completion-tokens', '16');
  loraR = Option.String('--lora-r', '16');
  threads = Option.String('--threads', String(availableParallelism()));
  device = Option.String('--device', 'cpu', { description: 'auto, cpu, cuda or cuda:N' });
  steps = Option.String('--steps', '5', { description: 'measured steps, after one that is not' });
  seed = Option.String('--seed', '42');
  json = Option.Boolean('--json', false, { description: 'one JSON object on stdout and nothing else' });

  protected async run(signal: AbortSignal): Promise<number> {
    const number = (name: string, text: string, most: number, least = 1) => wholeNumber(`--${name}`, text, least, most);
    const device = prepareDevice(this.device, ['policy'], (line) => this.note(line));
    const result = await benchStep(
      {
        model: this.model,
        device,
        type: oneOf('--type', this.type, ['auto', ...PRODUCT_TYPES]),
        prompts: number('prompts', this.prompts, 1024),
        generations: number('generations', this.generations, 1024),
        promptTokens: number('prompt-tokens', this.promptTokens, 32768),
        completionTokens: number('completion-tokens', this.completionTokens, 32768),
        loraR: number('lora-r', this.loraR, 1024),
        threads: number('threads', this.threads, 512),
        steps: number('steps', this.steps, 100_000),
        seed: number('seed', this.seed, 2 ** 31, 0),
      },
      (step, seconds) => this.note(`step ${step}: ${seconds.toFixed(3)} s`),
      signal,
    );
    this.print(this.json ? JSON.stringify(result) : table(result));
    return 0;
  }
}

function table(result: StepBenchmark): string {
  const { within_passes: within, total, ...parts } = result.breakdown;
  const line = (name: string, seconds: number) =>
    `${name.padEnd(14)}${seconds.toFixed(3).padStart(8)} s ${((100 * seconds) / total).toFixed(1).padStart(5)} %`;
  return [
    line('step, median', total),
    ...Object.entries(parts).map(([name, seconds]) => line(`  ${name}`, seconds)),
    'within the passes:',
    ...Object.entries(within).map(([name, seconds]) => line(`  ${name}`, seconds)),
    `products: ${(result.flops / 1e12).toFixed(3)} TFLOP, peak ${result.peak_gflops.toFixed(0)} GFLOP/s (${result.base_type}, ${result.cpu}), bound ${result.bound_seconds.toFixed(3)} s; the step takes ${result.times_bound.toFixed(2)} times that`,
    `peak memory: ${(result.peak_rss_bytes / 1e9).toFixed(2)} GB`,
  ].join('\n');
}
