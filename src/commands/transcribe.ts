/** `voicegrpo transcribe FILE...` */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { Command, Option } from 'clipanion';
import { presentError, problem } from '../errors.js';
import { type Outcome, Transcriber } from '../pipeline/transcript.js';
import { BUNDLED_WHISPER, modelFile } from '../run/inputs.js';
import { Progress } from '../run/progress.js';
import { BaseCommand } from './base.js';
import { oneOf, wholeNumber } from './options.js';

export class TranscribeCommand extends BaseCommand {
  static override paths = [['transcribe']];
  static override usage = Command.Usage({
    description: 'write down what is said in audio files',
    details: `
      Reads WAV, MP3, FLAC and Ogg Vorbis at any sample rate. One file gives its text alone, several give a line "FILE: TEXT" each.
      A file without speech, or one that cannot be read, gives a line on stderr; the others are done all the same, and the exit
      code is 1.
    `,
    examples: [
      ['One recording', 'voicegrpo transcribe hello.wav'],
      ['Many, with a real Whisper model, as JSON', 'voicegrpo transcribe --model ggml-base.bin --json *.mp3'],
    ],
  });

  files = Option.Rest({ name: 'FILE', required: 1 });
  model = Option.String('--model', {
    description:
      "a Whisper model in ggml format, or a name on the hub such as 'base' or 'tiny.en'; default: the bundled one",
  });
  offline = Option.Boolean('--offline', false, { description: 'make no request to the hub' });
  language = Option.String('--language', 'auto', { description: "ISO code of the language, or 'auto'" });
  threads = Option.String('--threads', { description: 'default: all processors' });
  format = Option.String('--format', 'txt', { description: 'txt or json' });
  json = Option.Boolean('--json', false, {
    description: 'the same as --format json: one JSON array on stdout and nothing else',
  });

  protected async run(signal: AbortSignal): Promise<number> {
    const threads = this.threadCount();
    const json = this.json || this.wantsJson();
    using transcriber = await Transcriber.open({
      model: await this.modelPath(signal),
      language: this.language,
      threads,
    });
    const records: object[] = [];
    let failures = 0;
    const done = (outcome: Outcome) => {
      if ('error' in outcome) {
        failures++;
        this.note(presentError(outcome.error).text.split('\n')[0]!);
      }
      if (json) records.push(record(outcome));
      else if ('transcript' in outcome) this.print(this.line(outcome.file, outcome.transcript.text));
    };
    await transcriber.transcribeAll(this.files, done, signal);
    if (json) this.print(JSON.stringify(records, null, 2));
    return failures > 0 ? 1 : 0;
  }

  private line(file: string, text: string): string {
    const oneLine = text.replace(/\s+/g, ' ');
    return this.files.length === 1 ? oneLine : `${file}: ${oneLine}`;
  }

  /** The bundled model, a path, or a model of the hub. */
  private async modelPath(signal: AbortSignal): Promise<string> {
    if (this.model === undefined) return BUNDLED_WHISPER;
    const progress = new Progress(this.context.stderr);
    await using hub = this.openHub(progress, this.offline);
    const path = await modelFile('whisper', this.model, { hub, progress, signal });
    if (existsSync(path)) return path;
    throw problem({
      code: 'E_MODEL',
      where: '--model',
      expected: 'a Whisper model in ggml format',
      got: `'${this.model}': no such file`,
      next: "Give a path such as models/ggml-base.bin or a name such as 'base', or leave --model out for the bundled one.",
    });
  }

  private threadCount(): number {
    if (this.threads === undefined) return availableParallelism();
    return wholeNumber('--threads', this.threads, 1, 512);
  }

  private wantsJson(): boolean {
    return oneOf('--format', this.format, ['json', 'txt']) === 'json';
  }
}

/** What the JSON array holds for one file. Levels are shares of full scale, times in seconds. */
function record(outcome: Outcome): object {
  const { clip } = outcome;
  const audio = clip && {
    duration: rounded(clip.duration),
    sample_rate: clip.sampleRate,
    channels: clip.channels,
    format: clip.format,
    peak: rounded(clip.peak),
    rms: rounded(clip.rms),
  };
  if ('error' in outcome) {
    return {
      file: outcome.file,
      text: '',
      duration: null,
      ...audio,
      error: presentError(outcome.error).text.split('\n')[0],
    };
  }
  const { text, language, segments } = outcome.transcript;
  return {
    file: outcome.file,
    text,
    ...audio,
    language,
    segments: segments.map((s) => ({
      start: rounded(s.start),
      end: rounded(s.end),
      text: s.text.trim(),
      avg_logprob: rounded(s.avgLogProb),
      no_speech_prob: rounded(s.noSpeechProb),
    })),
  };
}

function rounded(value: number): number {
  return Math.round(value * 1e6) / 1e6;
}
