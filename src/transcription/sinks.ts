/** Where the results of recordings go: files of their own, a stream of lines, or one text in the order of the recordings. */
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { isSystemError, sentenceOf } from '../errors.js';
import type { Outcome } from '../pipeline/transcript.js';
import { writeFileRenamed } from '../run/files.js';
import { InOrder } from '../run/in-order.js';
import type { CueOptions } from './cues.js';
import { type FileFormat, type Format, type TextFormat, writtenAs } from './formats.js';
import { failureJson, type Provenance, transcriptionJson } from './json.js';

export interface Sink {
  /** @param index of the recording among all @returns what could not be written: a sentence each */
  put(outcome: Outcome, index: number): string[];
  /** Writes what waits for another recording, and what closes the whole. */
  end(): void;
}

export type Transcribed = Extract<Outcome, { transcript: unknown }>;

export interface Writing {
  /** At least one; several only where recordings have files of their own. */
  formats: readonly Format[];
  /** Of recordings. */
  count: number;
  cueOptions: CueOptions;
  provenance: Provenance;
}

/** @param names of the recordings' files without the extension; null: all goes to `write` */
export function openSink(
  names: ReadonlyMap<string, string> | null,
  writing: Writing,
  write: (text: string) => void,
): Sink {
  const { formats, provenance } = writing;
  const line = (outcome: Outcome) => write(`${JSON.stringify(record(outcome, provenance))}\n`);
  if (names !== null) {
    return {
      put: (outcome) => {
        if (formats.includes('jsonl')) line(outcome);
        return 'error' in outcome ? [] : writeFiles(names.get(outcome.file) as string, outcome, writing);
      },
      end: () => undefined,
    };
  }
  const format = formats[0] as Format;
  if (format === 'jsonl') {
    return {
      put: (outcome) => {
        line(outcome);
        return [];
      },
      end: () => undefined,
    };
  }
  const { tell, close } = format === 'json' ? jsonArray(provenance, write) : texts(format, writing, write);
  const inOrder = new InOrder<Outcome>(tell);
  return {
    put: (outcome, index) => {
      inOrder.put(index, outcome);
      return [];
    },
    end: () => {
      inOrder.flush();
      close();
    },
  };
}

/** What people call a recording. */
export function nameOf(file: string): string {
  return file === '-' ? 'stdin' : file;
}

interface Text {
  tell: (outcome: Outcome) => void;
  close: () => void;
}

/** A line for each record: with the tokens, an indented one would be hundreds of lines. */
function jsonArray(provenance: Provenance, write: (text: string) => void): Text {
  let before = '[\n';
  return {
    tell: (outcome) => {
      write(`${before}${JSON.stringify(record(outcome, provenance))}`);
      before = ',\n';
    },
    close: () => write(before === '[\n' ? '[\n]\n' : '\n]\n'),
  };
}

function texts(format: TextFormat, { count, cueOptions }: Writing, write: (text: string) => void): Text {
  return {
    tell: (outcome) => {
      if ('error' in outcome) return;
      write(
        format === 'txt' && count > 1
          ? `${nameOf(outcome.file)}: ${outcome.transcript.text.replace(/\s+/g, ' ')}`.trimEnd().concat('\n')
          : writtenAs(format, outcome.transcript, cueOptions),
      );
    },
    close: () => undefined,
  };
}

function record(outcome: Outcome, provenance: Provenance): object {
  const { file } = outcome;
  return 'error' in outcome
    ? failureJson(file, sentenceOf(outcome.error))
    : transcriptionJson(file, outcome.transcript.audio, outcome.transcript, provenance);
}

/**
 * The files of one recording. One that cannot be written does not stop the others.
 *
 * @param name path without the format's extension
 * @returns what could not be written: a sentence each
 */
function writeFiles(name: string, outcome: Transcribed, { formats, cueOptions, provenance }: Writing): string[] {
  const complaints: string[] = [];
  for (const format of formats) {
    if (format === 'jsonl') continue;
    const path = `${name}.${format satisfies FileFormat}`;
    const text =
      format === 'json'
        ? `${JSON.stringify(record(outcome, provenance))}\n`
        : writtenAs(format, outcome.transcript, cueOptions);
    try {
      mkdirSync(dirname(name), { recursive: true });
      writeFileRenamed(path, text);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      complaints.push(`${path}: not written: ${sentenceOf(error)}`);
    }
  }
  return complaints;
}
