/** Plain text: a line for each segment. */
import type { CueSegment } from './cues.js';

export function txt(segments: readonly CueSegment[]): string {
  return segments.map(({ text }) => `${text.trim()}\n`).join('');
}
