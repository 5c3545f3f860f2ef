/** voicegrpo report RUN...: the page of a run, or several runs on one page. */
import { Command, Option } from 'clipanion';
import { compareRuns } from '../report/compare.js';
import { page } from '../report/page.js';
import { writeReport } from '../report/write.js';
import { writeFileAtomic } from '../run/files.js';
import { BaseCommand } from './base.js';

export class ReportCommand extends BaseCommand {
  static override paths = [['report']];
  static override usage = Command.Usage({
    description: 'Write the report of a run again, or compare several runs.',
    examples: [
      ['RUN/report.html again', 'voicegrpo report runs/tiny'],
      ['Two runs on one page', 'voicegrpo report runs/a runs/b --output comparison.html'],
    ],
  });

  runs = Option.Rest({ required: 1, name: 'RUN' });
  output = Option.String('--output', 'comparison.html', { description: 'The file of a comparison.' });

  protected async run(): Promise<number> {
    const [first = '', ...others] = this.runs;
    if (others.length === 0) {
      this.print(writeReport(first));
    } else {
      writeFileAtomic(this.output, page(compareRuns(this.runs)).html);
      this.print(this.output);
    }
    return 0;
  }
}
