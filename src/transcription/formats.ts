/** The formats that a transcription is written in. */
import { problem } from '../errors.js';
import type { CueOptions } from './cues.js';
import { srt } from './srt.js';
import type { Transcription } from './transcription.js';
import { tsv } from './tsv.js';
import { txt } from './txt.js';
import { vtt } from './vtt.js';

const TEXT_WRITERS = { txt, srt, vtt, tsv } as const;

export type TextFormat = keyof typeof TEXT_WRITERS;
/** Formats of one recording each. */
export type FileFormat = TextFormat | 'json';
/** 'jsonl' is a stream over recordings: a line as soon as one is done. */
export type Format = FileFormat | 'jsonl';

export const FORMATS: readonly Format[] = ['txt', 'srt', 'vtt', 'tsv', 'json', 'jsonl'];
const FILE_FORMATS = FORMATS.filter((format): format is FileFormat => format !== 'jsonl');

/**
 * The formats that were asked for, each once, in the order of FORMATS. 'all' are those of one recording each, as in openai-whisper.
 *
 * @param asked names, or several with commas between them
 * @throws VoiceGrpoError E_USAGE
 */
export function formatsOf(asked: readonly string[]): Format[] {
  const names = new Set<string>();
  for (const name of asked.flatMap((value) => value.split(','))) {
    if (name !== 'all' && !FORMATS.includes(name as Format)) {
      throw problem({
        code: 'E_USAGE',
        where: '--format',
        expected: `some of ${FORMATS.join(', ')}, or all`,
        got: `'${name}'`,
        next: 'Correct it or leave it out.',
      });
    }
    for (const each of name === 'all' ? FILE_FORMATS : [name]) {
      names.add(each);
    }
  }
  return FORMATS.filter((format) => names.has(format));
}

export function writtenAs(
  format: TextFormat,
  { segments }: Pick<Transcription, 'segments'>,
  options: CueOptions,
): string {
  return TEXT_WRITERS[format](segments, options);
}
