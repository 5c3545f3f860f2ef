/**
 * Segments to the cues of a subtitle file, in the way of openai-whisper's SubtitlesWriter: without word times a cue is a segment; with
 * them lines and cues can be bounded and the word that is being said can be underlined.
 */
import type { WhisperSegment, WhisperWord } from '../native/addon.js';

/** What a subtitle needs of a segment. */
export type CueSegment = Pick<WhisperSegment, 'start' | 'end' | 'text' | 'words'>;

/** All of them need word times. */
export interface CueOptions {
  /** Longest line, characters. */
  maxLineWidth?: number | undefined;
  /** Most lines of a cue; has an effect with maxLineWidth only. */
  maxLineCount?: number | undefined;
  /** Most words of a cue; has no effect with maxLineWidth. */
  maxWordsPerLine?: number | undefined;
  /** A cue for each word, underlined where it is said. */
  highlightWords?: boolean | undefined;
}

export interface Cue {
  start: number; // s
  end: number; // s
  text: string;
}

/** A pause after which a new cue begins where cues may run across segments, s. */
const LONG_PAUSE = 3;

export function cues(segments: readonly CueSegment[], options: CueOptions = {}): Cue[] {
  if (segments[0]?.words == null) {
    return segments.map(({ start, end, text }) => ({ start, end, text: text.trim().replaceAll('-->', '->') }));
  }
  const groups = wordGroups(segments, options);
  return options.highlightWords ? groups.flatMap(highlighted) : groups.map(plain);
}

function plain(words: readonly WhisperWord[]): Cue {
  return { start: words[0]!.start, end: words.at(-1)!.end, text: words.map(({ text }) => text).join('') };
}

function highlighted(words: readonly WhisperWord[]): Cue[] {
  const result: Cue[] = [];
  const { text } = plain(words);
  let last = words[0]!.start;
  for (const [i, { start, end }] of words.entries()) {
    if (last !== start) {
      result.push({ start: last, end: start, text });
    }
    const marked = words.map((word, j) => (j === i ? word.text.replace(/^(\s*)(.*)$/, '$1<u>$2</u>') : word.text));
    result.push({ start, end, text: marked.join('') });
    last = end;
  }
  return result;
}

/** The words of each cue; the first word of a line has lost its space, and of a further line begins with a line break. */
function wordGroups(segments: readonly CueSegment[], options: CueOptions): WhisperWord[][] {
  const { maxLineWidth = 1000, maxLineCount, maxWordsPerLine = 1000 } = options;
  const keepsSegments = options.maxLineWidth === undefined || maxLineCount === undefined;
  const groups: WhisperWord[][] = [];
  let group: WhisperWord[] = [];
  let lineLength = 0;
  let lines = 1;
  let last = segments.flatMap(({ words }) => words ?? [])[0]?.start ?? segments[0]?.start ?? 0;
  for (const { words } of segments) {
    for (const [i, word] of (words ?? []).entries()) {
      const longPause = !keepsSegments && word.start - last > LONG_PAUSE;
      const breaks = i % maxWordsPerLine === 0 && group.length > 0 && keepsSegments;
      const length = characters(word.text);
      let { text } = word;
      if (lineLength > 0 && lineLength + length <= maxLineWidth && !longPause && !breaks) {
        lineLength += length;
      } else {
        text = text.trim();
        if (breaks || (group.length > 0 && maxLineCount !== undefined && (longPause || lines >= maxLineCount))) {
          groups.push(group);
          group = [];
          lines = 1;
        } else if (lineLength > 0) {
          lines++;
          text = `\n${text}`;
        }
        lineLength = characters(text.trim());
      }
      group.push({ ...word, text });
      last = word.start;
    }
  }
  return group.length > 0 ? [...groups, group] : groups;
}

/** Code points, as Python counts. */
function characters(text: string): number {
  return [...text].length;
}
