/** `voicegrpo transcribe FILE...` */
import { existsSync, mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { Command, Option } from 'clipanion';
import { expandInputs } from '../audio/inputs.js';
import { problem, sentenceOf } from '../errors.js';
import { VAD_MODEL, VAD_REPOSITORY } from '../hub/models.js';
import { type Outcome, Transcriber } from '../pipeline/transcript.js';
import { prepareDevice } from '../run/device.js';
import { BUNDLED_WHISPER, modelFile } from '../run/inputs.js';
import { Listening, Progress } from '../run/progress.js';
import type { CueOptions } from '../transcription/cues.js';
import type { Decoding } from '../transcription/decoding.js';
import { doubtSentence } from '../transcription/doubt.js';
import { type FileFormat, type Format, formatsOf } from '../transcription/formats.js';
import { outputNames } from '../transcription/output-files.js';
import { nameOf, openSink, type Transcribed } from '../transcription/sinks.js';
import { BaseCommand } from './base.js';
import { decimalNumber, oneOf, wholeNumber } from './options.js';
import { serveModel } from './serve-model.js';

export class TranscribeCommand extends BaseCommand {
  static override paths = [['transcribe']];
  static override usage = Command.Usage({
    description: 'write down what is said in audio files',
    details: `
      Takes files, folders (with all that is in them), globs, and - for stdin. Audio is known by its content.

      On stdout one recording gives its text, several give a line "FILE: TEXT" each, in the order of the arguments; jsonl gives a line as
      soon as a recording is done. With --output-dir or --beside the formats of one recording each (txt, srt, vtt, tsv, json) are files,
      written as soon as the recording is done.

      A recording without speech gives an empty text and a line on stderr. What cannot be read, and a file that cannot be written, gives a
      line on stderr; the others are done all the same, and the exit code is 1. A text that is probably wrong is called suspect, with the reason.

      A value that begins with a minus is given with an equals sign: --logprob-threshold=-0.8.
    `,
    examples: [
      ['One recording', 'voicegrpo transcribe hello.wav'],
      ['Many, with a real Whisper model, as JSON', 'voicegrpo transcribe --model ggml-base.bin --json *.mp3'],
      ['Subtitles beside each film of a folder', 'voicegrpo transcribe --model small --format srt --beside films/'],
      [
        'Several formats into a folder',
        'voicegrpo transcribe --model base --format srt,vtt,json --output-dir out talk.mp3',
      ],
      ['From a pipe', 'ffmpeg -i talk.mp4 -f wav - | voicegrpo transcribe --model base --format vtt - > talk.vtt'],
      ['German speech to English text', 'voicegrpo transcribe --model small --language de --translate rede.ogg'],
      [
        'Short lines, the word that is said underlined',
        'voicegrpo transcribe --model base --format vtt --max-line-width 42 --max-line-count 2 --highlight-words talk.mp3',
      ],
      ["A server for the OpenAI API's clients", 'voicegrpo transcribe --model base --serve 8000'],
      ['Only where someone speaks', 'voicegrpo transcribe --model base --vad --format jsonl meeting.flac'],
    ],
  });

  inputs = Option.Rest({ name: 'FILE' });
  model = Option.String('--model', {
    description:
      "a Whisper model in ggml format, or a name on the hub such as 'base' or 'tiny.en'; default: the bundled one",
  });
  offline = Option.Boolean('--offline', false, { description: 'make no request to the hub' });
  threads = Option.String('--threads', { description: 'default: all processors' });
  device = Option.String('--device', 'auto', {
    description: 'what computes: auto (a GPU where one can be used), cpu, cuda, cuda:N',
  });
  noCache = Option.Boolean('--no-cache', false, { description: 'listen again, and keep nothing' });

  format = Option.Array('--format', {
    description: 'txt (default), srt, vtt, tsv, json, jsonl, or all; several with commas or by giving it again',
  });
  json = Option.Boolean('--json', false, {
    description: 'the same as --format json: on stdout one JSON array and nothing else',
  });
  outputDir = Option.String('--output-dir', { description: 'folder for the files; it is made where it is missing' });
  beside = Option.Boolean('--beside', false, { description: 'put the files beside each recording' });
  maxLineWidth = Option.String('--max-line-width', { description: 'srt, vtt: longest line, characters' });
  maxLineCount = Option.String('--max-line-count', {
    description: 'srt, vtt: most lines of a subtitle, with --max-line-width',
  });
  maxWordsPerLine = Option.String('--max-words-per-line', { description: 'srt, vtt: most words of a subtitle' });
  highlightWords = Option.Boolean('--highlight-words', false, {
    description: 'srt, vtt: underline each word while it is said',
  });

  language = Option.String('--language', 'auto', { description: "ISO code of the language, or 'auto'" });
  translate = Option.Boolean('--translate', false, { description: 'to English' });
  initialPrompt = Option.String('--initial-prompt', { description: 'text that tells names, spelling or style' });
  wordTimestamps = Option.Boolean('--word-timestamps', false, { description: 'times of each word' });
  vad = Option.Boolean('--vad', false, { description: 'listen only where a voice is (Silero)' });
  vadModel = Option.String('--vad-model', {
    description: `a Silero model in ggml format, or a name on the hub; default: ${VAD_MODEL} of ${VAD_REPOSITORY}`,
  });
  window = Option.String('--window', {
    description:
      "'fitted' (default): the encoder sees the clip and a margin, and 30 s where that gives trouble; 'full': always 30 s",
  });
  beamSize = Option.String('--beam-size', { description: '1 is greedy; default 5' });
  bestOf = Option.String('--best-of', { description: 'candidates where the temperature is above 0; default 5' });
  temperature = Option.String('--temperature', { description: 'of the first try; default 0' });
  temperatureIncrement = Option.String('--temperature-increment', {
    description: 'added after a try that failed; 0: no other try; default 0.2',
  });
  entropyThreshold = Option.String('--entropy-threshold', {
    description: 'a try whose last tokens have less has failed: it repeats itself; default 2.4',
  });
  logProbThreshold = Option.String('--logprob-threshold', {
    description: 'a try whose mean log-probability is less has failed; default -1',
  });
  noSpeechThreshold = Option.String('--no-speech-threshold', {
    description: 'probability from which a doubtful try counts as silence; default 0.6',
  });

  serve = Option.String('--serve', {
    description:
      "a port: answers the OpenAI API's audio requests on this machine instead, until Ctrl-C; 0: any free port",
  });
  host = Option.String('--host', { description: 'with --serve: the address to listen on; default 127.0.0.1' });
  hostNames = Option.Array('--host-name', {
    description: 'with --serve: a name by which clients know this machine; several by giving it again',
  });
  parallel = Option.String('--parallel', { description: 'with --serve: requests worked on at once' });
  logFormat = Option.String('--log-format', { description: 'with --serve: text (default) or json' });

  protected async run(signal: AbortSignal): Promise<number> {
    this.checkServe();
    if (this.serve !== undefined) return this.runServer(signal);
    if (this.inputs.length === 0) throw noFiles();
    const threads =
      this.threads === undefined ? availableParallelism() : wholeNumber('--threads', this.threads, 1, 512);
    const formats = this.formats();
    const cueOptions = this.cueOptions();
    const asked = this.decoding(cueOptions);
    this.checkPlace(formats);
    const { inputs, failures } = await expandInputs(this.inputs);
    if (inputs.length === 0) throw failures[0];
    this.checkCount(formats, inputs.length);
    const fileFormats = formats.filter((format): format is FileFormat => format !== 'jsonl');
    const names = this.toFiles ? outputNames(inputs, this.outputDir ?? null, fileFormats) : null;
    if (this.outputDir !== undefined) makeFolder(this.outputDir);

    const progress = new Progress(this.context.stderr);
    for (const failure of failures) this.note(sentenceOf(failure));
    const vadModel = this.vad || this.vadModel !== undefined ? await this.vadPath(progress, signal) : null;
    const model = await this.modelPath(progress, signal);
    const cache = this.noCache ? { cache: null } : {};
    prepareDevice(this.device, ['whisper'], (line) => progress.line(line));
    using transcriber = await Transcriber.open({ ...asked, model, vadModel, threads, ...cache });
    const writing = { formats, count: inputs.length, cueOptions, provenance: transcriber.provenance };
    const sink = openSink(names, writing, (text) => this.context.stdout.write(text));
    const listening = new Listening(progress, inputs.length);
    let failed = failures.length > 0;
    const done = (outcome: Outcome, index: number) => {
      listening.done(nameOf(outcome.file));
      progress.end();
      const complaints = 'error' in outcome ? [sentenceOf(outcome.error)] : [];
      if ('transcript' in outcome) this.tell(outcome);
      complaints.push(...sink.put(outcome, index));
      for (const complaint of complaints) this.note(complaint);
      failed ||= complaints.length > 0;
    };
    try {
      await transcriber.transcribeAll(inputs, done, signal, (file, heard, total) =>
        listening.at(nameOf(file), heard, total),
      );
    } finally {
      progress.end();
      sink.end();
    }
    return failed ? 1 : 0;
  }

  /** What the flags say of decoding holds for what a request leaves open. */
  private async runServer(signal: AbortSignal): Promise<number> {
    const progress = new Progress(this.context.stderr);
    const vadModel = this.vad || this.vadModel !== undefined ? await this.vadPath(progress, signal) : undefined;
    prepareDevice(this.device, ['whisper'], (line) => progress.line(line));
    const {
      serve,
      inputs,
      host = '127.0.0.1',
      hostNames,
      model,
      offline,
      threads,
      parallel,
      logFormat = 'text',
    } = this;
    const flags = { serve, inputs, host, hostNames, model, offline, threads, parallel, logFormat };
    return serveModel(flags, { ...this.decoding({}), vadModel }, this.context.stderr, signal);
  }

  /** Flags of files with --serve, and flags of the server without it. */
  private checkServe(): void {
    const given = (flags: Record<string, unknown>) =>
      Object.keys(flags).filter((flag) => flags[flag] !== undefined && flags[flag] !== false);
    const stray =
      this.serve === undefined
        ? given({
            '--host': this.host,
            '--host-name': this.hostNames,
            '--parallel': this.parallel,
            '--log-format': this.logFormat,
          })
        : given({
            '--format': this.format,
            '--json': this.json,
            '--output-dir': this.outputDir,
            '--beside': this.beside,
            '--no-cache': this.noCache,
            '--max-line-width': this.maxLineWidth,
            '--max-line-count': this.maxLineCount,
            '--max-words-per-line': this.maxWordsPerLine,
            '--highlight-words': this.highlightWords,
          });
    if (stray.length === 0) return;
    const without = this.serve === undefined;
    throw problem({
      code: 'E_USAGE',
      where: stray.join(', '),
      expected: without ? '--serve PORT, which this is for' : 'no --serve, since each request says what it wants',
      got: without ? 'none' : `--serve ${this.serve}`,
      next: without ? 'Add --serve 8000, or leave it out.' : 'Leave it out.',
    });
  }

  /** What stderr says of a recording that was heard. */
  private tell({ file, transcript }: Transcribed): void {
    if (transcript.note !== null) {
      this.note(`${nameOf(file)}: no speech: ${transcript.note}.`);
    }
    if (transcript.doubts.length > 0) {
      this.note(`${nameOf(file)}: suspect: ${doubtSentence(transcript.doubts)}.`);
    }
  }

  private formats(): Format[] {
    const asked = [...(this.format ?? []), ...(this.json ? ['json'] : [])];
    return formatsOf(asked.length === 0 ? ['txt'] : asked);
  }

  private get toFiles(): boolean {
    return this.outputDir !== undefined || this.beside;
  }

  /** Formats and places that do not go together. */
  private checkPlace(formats: readonly Format[]): void {
    const wrong = (expected: string, where: string, got: string, next: string) =>
      problem({ code: 'E_USAGE', expected, where, got, next });
    if (this.outputDir !== undefined && this.beside) {
      throw wrong('one place for the files', '--output-dir, --beside', 'two', 'Leave one of them out.');
    }
    if (!this.toFiles && formats.length > 1) {
      const next = 'Add --output-dir DIR or --beside, or choose one format.';
      throw wrong('one format on stdout', '--format', formats.join(', '), next);
    }
    if (this.toFiles && formats.every((format) => format === 'jsonl')) {
      const next = 'Leave --output-dir and --beside out: voicegrpo transcribe --format jsonl … > transcripts.jsonl';
      throw wrong('a format of one recording each for files', '--format', 'jsonl, which goes to stdout', next);
    }
    if (this.beside && this.inputs.includes('-')) {
      throw wrong('a recording with a folder', '--beside', 'stdin', 'Give --output-dir DIR instead.');
    }
  }

  private checkCount(formats: readonly Format[], count: number): void {
    const [format] = formats;
    if (!this.toFiles && count > 1 && (format === 'srt' || format === 'vtt' || format === 'tsv')) {
      throw problem({
        code: 'E_USAGE',
        expected: `one recording as ${format} on stdout`,
        where: '--format',
        got: `${count} recordings`,
        next: 'Add --output-dir DIR or --beside.',
      });
    }
  }

  private cueOptions(): CueOptions {
    const whole = (option: string, text: string | undefined) =>
      text === undefined ? undefined : wholeNumber(option, text, 1, 10_000);
    const options = {
      maxLineWidth: whole('--max-line-width', this.maxLineWidth),
      maxLineCount: whole('--max-line-count', this.maxLineCount),
      maxWordsPerLine: whole('--max-words-per-line', this.maxWordsPerLine),
      highlightWords: this.highlightWords,
    };
    if (options.maxLineCount !== undefined && options.maxLineWidth === undefined) {
      throw problem({
        code: 'E_USAGE',
        expected: '--max-line-width, which lines are counted by',
        where: '--max-line-count',
        got: 'none',
        next: 'Add --max-line-width 42, or leave --max-line-count out.',
      });
    }
    return options;
  }

  private decoding({ maxLineWidth, maxWordsPerLine, highlightWords }: CueOptions): Partial<Decoding> {
    const whole = (option: string, text: string | undefined, most: number) =>
      text === undefined ? undefined : wholeNumber(option, text, 1, most);
    const decimal = (option: string, text: string | undefined, least: number, most: number) =>
      text === undefined ? undefined : decimalNumber(option, text, least, most);
    const asked = {
      language: this.language,
      translate: this.translate,
      initialPrompt: this.initialPrompt,
      beamSize: whole('--beam-size', this.beamSize, 8), // whisper.cpp's bound
      bestOf: whole('--best-of', this.bestOf, 8),
      temperature: decimal('--temperature', this.temperature, 0, 1),
      temperatureIncrement: this.increment(),
      entropyThreshold: decimal('--entropy-threshold', this.entropyThreshold, 0, 100),
      logProbThreshold: decimal('--logprob-threshold', this.logProbThreshold, -100, 0),
      noSpeechThreshold: decimal('--no-speech-threshold', this.noSpeechThreshold, 0, 1),
      window: this.window === undefined ? undefined : oneOf('--window', this.window, ['full', 'fitted']),
      // Lines are split, and words are underlined, by the times of words.
      wordTimestamps:
        this.wordTimestamps || highlightWords || maxLineWidth !== undefined || maxWordsPerLine !== undefined,
    };
    return Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined));
  }

  private increment(): number | undefined {
    const option = '--temperature-increment';
    const text = this.temperatureIncrement;
    // Smaller steps would be hundreds of tries.
    return text === undefined ? undefined : decimalNumber(option, text, Number(text) === 0 ? 0 : 0.01, 1);
  }

  /** The bundled model, a path, or a model of the hub. */
  private async modelPath(progress: Progress, signal: AbortSignal): Promise<string> {
    return this.model === undefined
      ? BUNDLED_WHISPER
      : this.find('--model', this.model, this.model, 'a Whisper model in ggml format', progress, signal);
  }

  private async vadPath(progress: Progress, signal: AbortSignal): Promise<string> {
    const name = this.vadModel ?? VAD_MODEL;
    const short = /^[a-z][a-z0-9.-]*$/.test(name) && !name.endsWith('.bin') && !existsSync(name);
    const full = short ? `${VAD_REPOSITORY}:ggml-${name}.bin` : name;
    return this.find('--vad-model', name, full, 'a Silero model in ggml format', progress, signal);
  }

  /** @param name what was typed @param full a path, or a name of the hub */
  private async find(
    option: string,
    name: string,
    full: string,
    expected: string,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<string> {
    await using hub = this.openHub(progress, this.offline);
    const path = await modelFile('whisper', full, { hub, progress, signal });
    if (existsSync(path)) return path;
    throw problem({
      code: 'E_MODEL',
      where: option,
      expected,
      got: `'${name}': no such file`,
      next:
        option === '--model'
          ? "Give a path such as models/ggml-base.bin or a name such as 'base', or leave --model out for the bundled one."
          : 'Correct the path, or leave --vad-model out and give --vad.',
    });
  }
}

function noFiles(): Error {
  return problem({
    code: 'E_USAGE',
    where: 'voicegrpo transcribe',
    expected: 'audio files, or --serve PORT',
    got: 'neither',
    next: 'Name a file: voicegrpo transcribe recording.wav',
  });
}

/** @throws VoiceGrpoError E_USAGE */
function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true });
  } catch (error) {
    throw problem({
      code: 'E_USAGE',
      expected: 'a folder that can be written',
      where: '--output-dir',
      got: (error as Error).message,
      next: 'Choose another --output-dir.',
    });
  }
}
