/** `voicegrpo transcribe --serve PORT`: serves one Whisper until a signal. */
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import type { Writable } from 'node:stream';
import { problem } from '../errors.js';
import { hubEnvironment } from '../hub/environment.js';
import { RequestLog } from '../server/request-log.js';
import { serveTranscription } from '../server/server.js';
import { type TranscribeOptions, Whisper } from '../whisper.js';
import { oneOf, wholeNumber } from './options.js';

/** What was typed; undefined where a flag was left out. */
export interface ServeFlags {
  serve: string | undefined;
  inputs: readonly string[];
  host: string;
  hostNames: readonly string[] | undefined;
  model: string | undefined;
  offline: boolean;
  threads: string | undefined;
  parallel: string | undefined;
  logFormat: string;
}

/** Requests at once where nothing is said: each takes working memory of its own. */
const PARALLEL = 4;
const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|::1)$/;

/**
 * @param defaults for what a request does not say
 * @param log requests, a line each, and what else is to be told
 * @returns the exit code, when the signal has fired and what was under way is done
 */
export async function serveModel(
  flags: ServeFlags,
  defaults: TranscribeOptions,
  log: Writable,
  signal: AbortSignal,
): Promise<number> {
  const port = wholeNumber('--serve', flags.serve ?? '', 0, 65535);
  const format = oneOf('--log-format', flags.logFormat, ['text', 'json']);
  const threads =
    flags.threads === undefined ? availableParallelism() : wholeNumber('--threads', flags.threads, 1, 512);
  const parallel =
    flags.parallel === undefined ? Math.min(threads, PARALLEL) : wholeNumber('--parallel', flags.parallel, 1, 64);
  if (flags.inputs.length > 0) {
    throw problem({
      code: 'E_USAGE',
      where: '--serve',
      expected: 'no files: they come with the requests',
      got: `'${flags.inputs[0]}'`,
      next: 'Leave the files out, or --serve.',
    });
  }
  const { model = 'bundled' } = flags;
  const lines = new RequestLog(log, format);
  await using whisper = await Whisper.open(model, {
    threads,
    parallel,
    hub: { ...hubEnvironment(), ...(flags.offline && { offline: true }) },
    onNote: (line) => lines.note(line),
    signal,
  });
  const modelName = basename(model).replace(/\.(bin|pt|pth|ckpt|safetensors)$/, '');
  await using server = await serveTranscription({
    whisper,
    modelName,
    port,
    host: flags.host,
    hostNames: flags.hostNames ?? [],
    parallel,
    defaults,
    log: { stream: log, format },
  });
  if (!LOOPBACK.test(flags.host)) {
    lines.note(`Whoever reaches ${flags.host} can use this server: it asks for no password.`);
  }
  lines.note(`Serving '${modelName}' at ${server.url} until Ctrl-C.`);
  if (!signal.aborted) await once(signal, 'abort');
  return 0;
}
