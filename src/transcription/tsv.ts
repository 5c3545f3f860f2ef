/** Tab-separated values: start and end in whole milliseconds, text. */
import type { CueSegment } from './cues.js';
import { milliseconds } from './timestamp.js';

export function tsv(segments: readonly CueSegment[]): string {
  const lines = segments.map(
    ({ start, end, text }) => `${milliseconds(start)}\t${milliseconds(end)}\t${text.trim().replaceAll('\t', ' ')}\n`,
  );
  return `start\tend\ttext\n${lines.join('')}`;
}
