/** voicegrpo completion SHELL: a script that completes commands, flags and presets. */
import { Command, Option } from 'clipanion';
import { bashCompletion, fishCompletion, zshCompletion } from '../completion/scripts.js';
import { completionTree } from '../completion/tree.js';
import { problem } from '../errors.js';
import { BaseCommand } from './base.js';

const SHELLS = new Map([
  ['bash', bashCompletion],
  ['zsh', zshCompletion],
  ['fish', fishCompletion],
]);

export class CompletionCommand extends BaseCommand {
  static override paths = [['completion']];
  static override usage = Command.Usage({
    description: 'A script that completes commands, flags and presets in bash, zsh or fish.',
    examples: [
      ['For bash, in ~/.bashrc', 'source <(voicegrpo completion bash)'],
      ['For fish, in config.fish', 'voicegrpo completion fish | source'],
    ],
  });

  shell = Option.String({ required: true, name: 'bash|zsh|fish' });

  protected async run(): Promise<number> {
    const script = SHELLS.get(this.shell);
    if (script === undefined) {
      const expected = [...SHELLS.keys()].join(', ');
      const where = 'voicegrpo completion';
      throw problem({ code: 'E_USAGE', expected, where, got: `'${this.shell}'`, next: 'name one of these shells' });
    }
    this.print(script(completionTree(this.cli.definitions())).trimEnd());
    return 0;
  }
}
