/** A line for a command line that cannot be parsed: what is wrong, the nearest name that exists, where to read on. */
import { type Cli, UsageError } from 'clipanion';
import { nearest } from '../config/sentences.js';

/**
 * @param args what was typed after `voicegrpo`
 * @param error what clipanion threw
 */
export function explainUsageError(cli: Cli, args: readonly string[], error: unknown): string {
  if (!(error instanceof Error)) {
    throw error;
  }
  const commands = cli.definitions().filter(({ path }) => !/ -/.test(path));
  const names = commands.map(({ path }) => path.split(' ')[1] as string);
  const command = commands[names.indexOf(args[0] ?? '')];
  if (command === undefined) {
    const close = args[0] === undefined ? null : nearest(args[0], names);
    const what = args[0] === undefined ? 'no command' : `unknown command '${args[0]}'`;
    return `voicegrpo: ${what}${close === null ? '' : `: did you mean '${close}'?`}\nCommands: ${names.join(', ')}. \`voicegrpo --help\` tells what they do.\n`;
  }
  const unknown = /^Unsupported option name \("(.*)"\)/m.exec(error.message)?.[1];
  const options = command.options.flatMap(({ definition }) => (definition.split(' ')[0] as string).split(','));
  const help = `\`${command.path} --help\` lists what it takes.\n`;
  if (unknown !== undefined) {
    const close = nearest(unknown, options);
    return `${command.path}: unknown option '${unknown}'${close === null ? '.' : `: did you mean '${close}'?`}\n${help}`;
  }
  const first = (error instanceof UsageError ? error.message : (error.message.split('\n')[0] as string)).trim();
  return `${command.path}: ${first.charAt(0).toLowerCase()}${first.slice(1)}\n${help}`;
}
