/** voicegrpo bench ops: the rate of the matrix product at the shapes of the model. */
import { availableParallelism } from 'node:os';
import { Command, Option } from 'clipanion';
import { benchProducts, PRODUCT_TYPES } from '../bench/products.js';
import { Progress } from '../run/progress.js';
import { BaseCommand } from './base.js';
import { oneOf, wholeNumber } from './options.js';

export class BenchOpsCommand extends BaseCommand {
  static override paths = [['bench', 'ops']];
  static override usage = Command.Usage({
    category: 'Benchmarks',
    description: 'measure the matrix product at the shapes of Gemma 3 270M',
    examples: [['One type on two threads', 'voicegrpo bench ops --type bf16 --threads 2']],
  });

  type = Option.String('--type', { description: 'storage of the weights: f32, f16, bf16 or q8_0; default: each' });
  threads = Option.String('--threads', String(availableParallelism()));
  json = Option.Boolean('--json', false, { description: 'one JSON array on stdout and nothing else' });

  protected async run(signal: AbortSignal): Promise<number> {
    const types = this.type === undefined ? PRODUCT_TYPES : [oneOf('--type', this.type, PRODUCT_TYPES)];
    const threads = wholeNumber('--threads', this.threads, 1, 512);
    const progress = new Progress(this.context.stderr);
    const done = ({ name, type }: { name: string; type: string }) => progress.update(`${type}: ${name}`, false);
    const results = await benchProducts(types, threads, done, signal);
    progress.end();
    if (this.json) {
      this.print(JSON.stringify(results));
      return 0;
    }
    this.print(
      `${'product'.padEnd(15)}${'type'.padEnd(6)}${'direction'.padEnd(10)}${'m·n·k'.padEnd(18)}GFLOP/s  of peak`,
    );
    for (const { name, type, direction, m, n, k, gflops, share_of_peak } of results) {
      this.print(
        `${name.padEnd(15)}${type.padEnd(6)}${direction.padEnd(10)}${`${m}·${n}·${k}`.padEnd(18)}${gflops.toFixed(0).padStart(7)}  ${(100 * share_of_peak).toFixed(0).padStart(5)} %`,
      );
    }
    return 0;
  }
}
