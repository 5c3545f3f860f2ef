#!/usr/bin/env node
/** Registers the commands, nothing else. A usage error ends with exit code 2 and no stack. */
import { readFileSync } from 'node:fs';
import { Builtins, Cli } from 'clipanion';
import { BenchOpsCommand } from './commands/bench-ops.js';
import { BenchStepCommand } from './commands/bench-step.js';
import { ClassifyCommand } from './commands/classify.js';
import { CompletionCommand } from './commands/completion.js';
import { ConfigPrintCommand } from './commands/config-print.js';
import { ConfigSchemaCommand } from './commands/config-schema.js';
import { ConvertCommand } from './commands/convert.js';
import { DataListCommand } from './commands/data-list.js';
import { DataPreviewCommand } from './commands/data-preview.js';
import { DataPullCommand } from './commands/data-pull.js';
import { DoctorCommand } from './commands/doctor.js';
import { EvalCommand } from './commands/eval.js';
import { ExportCommand } from './commands/export.js';
import { ModelsListCommand } from './commands/models-list.js';
import { ModelsPullCommand } from './commands/models-pull.js';
import { ReplayCommand } from './commands/replay.js';
import { ReportCommand } from './commands/report.js';
import { RewardsLintCommand } from './commands/rewards-lint.js';
import { RewardsTestCommand } from './commands/rewards-test.js';
import { TrainCommand } from './commands/train.js';
import { TranscribeCommand } from './commands/transcribe.js';
import { explainUsageError } from './commands/usage-error.js';
import { WatchCommand } from './commands/watch.js';

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string;
};
const cli = new Cli({
  binaryName: 'voicegrpo',
  binaryLabel: 'voicegrpo',
  binaryVersion: version,
  enableColors: process.stdout.isTTY === true && process.stdout.hasColors(), // hasColors heeds NO_COLOR and FORCE_COLOR
});
for (const command of [
  TrainCommand,
  EvalCommand,
  ClassifyCommand,
  ReportCommand,
  WatchCommand,
  TranscribeCommand,
  DataListCommand,
  DataPreviewCommand,
  DataPullCommand,
  ModelsListCommand,
  ModelsPullCommand,
  RewardsTestCommand,
  RewardsLintCommand,
  ReplayCommand,
  ConfigPrintCommand,
  ConfigSchemaCommand,
  ConvertCommand,
  ExportCommand,
  DoctorCommand,
  CompletionCommand,
  BenchStepCommand,
  BenchOpsCommand,
]) {
  cli.register(command);
}
cli.register(Builtins.HelpCommand);
cli.register(Builtins.VersionCommand);

// `voicegrpo … | head` closes our stdout early: that is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

async function main(args: string[]): Promise<number> {
  try {
    return await cli.run(cli.process(args), Cli.defaultContext);
  } catch (error) {
    process.stderr.write(explainUsageError(cli, args, error)); // only parsing throws: commands turn their errors into exit codes
    return 2;
  }
}

process.exitCode = await main(process.argv.slice(2));
