/** SubRip subtitles. */
import { type CueOptions, type CueSegment, cues } from './cues.js';
import { timestamp } from './timestamp.js';

export function srt(segments: readonly CueSegment[], options: CueOptions = {}): string {
  const time = (seconds: number) => timestamp(seconds, { hours: true, decimal: ',' });
  return cues(segments, options)
    .map(({ start, end, text }, i) => `${i + 1}\n${time(start)} --> ${time(end)}\n${text}\n\n`)
    .join('');
}
