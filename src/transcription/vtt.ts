/** WebVTT subtitles. */
import { type CueOptions, type CueSegment, cues } from './cues.js';
import { timestamp } from './timestamp.js';

export function vtt(segments: readonly CueSegment[], options: CueOptions = {}): string {
  const parts = cues(segments, options).map(
    ({ start, end, text }) => `${timestamp(start)} --> ${timestamp(end)}\n${text}\n\n`,
  );
  return `WEBVTT\n\n${parts.join('')}`;
}
