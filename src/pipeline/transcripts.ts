/** The transcripts of many clips: from Whisper, or from the manifest where the configuration says so. */
import type { Config } from '../config/load.js';
import { problem, sentenceOf } from '../errors.js';
import type { Progress } from '../run/progress.js';
import type { DoubtReason } from '../transcription/doubt.js';
import type { Clip, TranscribedClip } from '../types.js';
import { clipName } from './data.js';
import { type Outcome, Transcriber } from './transcript.js';

/** What one file gave: its words with the reasons to doubt them, or a sentence that says why there are none. */
export type Heard =
  | { transcript: string; suspect?: DoubtReason[]; error?: undefined }
  | { transcript?: undefined; error: string; unheard?: true };

type TranscriptConfig = Pick<Config, 'data' | 'whisper'>;

/** Transcribes files; results have their order. A file that fails does not stop the others. */
export async function transcribeEach(
  files: readonly string[],
  config: TranscriptConfig,
  model: string | null,
  threads: number,
  progress: Progress,
  signal?: AbortSignal,
): Promise<Heard[]> {
  if (files.length === 0) {
    return [];
  }
  if (model === null) {
    throw problem({
      code: 'E_CONFIG',
      expected: 'a Whisper model for audio',
      where: 'whisper.model',
      got: "none: the run took the manifest's texts",
      next: 'add --whisper FILE.bin',
    });
  }
  const heard = new Array<Heard>(files.length);
  let count = 0;
  using transcriber = await Transcriber.open({
    model,
    language: config.whisper.language,
    longest: { seconds: config.data.max_duration, setting: 'data.max_duration' },
    threads,
  });
  const done = (outcome: Outcome, index: number) => {
    heard[index] = judged(outcome);
    count++;
    progress.update(`transcribed ${count} of ${files.length}`, count % 50 === 0 || count === files.length);
  };
  await transcriber.transcribeAll(files, done, signal);
  return heard;
}

function judged(outcome: Outcome): Heard {
  if ('error' in outcome) {
    return { error: sentenceOf(outcome.error) };
  }
  const { text, note, doubts } = outcome.transcript;
  if (text === '') {
    return { error: `${outcome.file}: no speech: ${note}.`, unheard: true };
  }
  const suspect = [...new Set(doubts.map(({ reason }) => reason))];
  return suspect.length === 0 ? { transcript: text } : { transcript: text, suspect };
}

export interface TranscribedClips {
  clips: TranscribedClip[];
  /** Clips that could be read, and in which nothing was heard. */
  unheard: Clip[];
}

/**
 * Gives each clip its transcript. Clips without one are left out and told.
 *
 * @throws VoiceGrpoError E_DATA if a label has no clip left
 */
export async function transcribeClips(
  clips: readonly Clip[],
  config: TranscriptConfig,
  model: string | null,
  threads: number,
  progress: Progress,
  signal?: AbortSignal,
): Promise<TranscribedClips> {
  const files = clips.map(({ file }) => file);
  const heard = config.data.use_text
    ? clips.map(referenceOf)
    : await transcribeEach(files, config, model, threads, progress, signal);
  const kept: TranscribedClip[] = [];
  const unheard: Clip[] = [];
  const left: string[] = [];
  for (const [i, clip] of clips.entries()) {
    const each = heard[i] as Heard;
    if (each.transcript === undefined) {
      left.push(each.error);
      if (each.unheard) unheard.push(clip);
    } else {
      kept.push({ ...clip, ...each });
    }
  }
  for (const error of left.slice(0, 5)) {
    progress.line(`Left out: ${error}`);
  }
  if (left.length > 5) {
    progress.line(`Left out: ${left.length - 5} more.`);
  }
  const lost = [...new Set(clips.map(({ label }) => label))].filter(
    (label) => !kept.some((clip) => clip.label === label),
  );
  if (lost.length > 0) {
    throw problem({
      code: 'E_DATA',
      expected: 'a transcript of at least one clip of each label',
      where: 'the clips',
      got: `none for ${lost.map((label) => `'${label}'`).join(', ')} (${left[0]})`,
      next: 'listen to the recordings, or choose another --whisper or --language',
    });
  }
  return { clips: kept, unheard };
}

function referenceOf(clip: Clip): Heard {
  return clip.reference === undefined || clip.reference.trim() === ''
    ? { error: `${clipName(clip)} has no text in the manifest, which data.use_text asks for.` }
    : { transcript: clip.reference };
}

/** How many clips have a transcript that is probably wrong: left out of the training clips, and kept among the held-out ones. */
export interface SuspectCounts {
  dropped: number;
  heldOut: number;
}

/**
 * Both sides in one go, so that the model is loaded once. With data.drop_suspect no training clip is left whose transcript is suspect.
 * Held-out clips stay: an evaluation without the difficult ones would flatter. `unheard` are held-out ones, too.
 */
export async function transcribeDataset(
  { train, heldOut }: { train: readonly Clip[]; heldOut: readonly Clip[] },
  config: TranscriptConfig,
  model: string | null,
  threads: number,
  progress: Progress,
  signal?: AbortSignal,
): Promise<{ train: TranscribedClip[]; heldOut: TranscribedClip[]; unheard: Clip[]; suspect: SuspectCounts }> {
  const { clips: all, unheard } = await transcribeClips(
    [...train, ...heldOut],
    config,
    model,
    threads,
    progress,
    signal,
  );
  const ids = new Set(heldOut.map(({ id }) => id));
  const heard = all.filter(({ id }) => !ids.has(id));
  const sides = {
    train: config.data.drop_suspect ? heard.filter(({ suspect }) => suspect === undefined) : heard,
    heldOut: all.filter(({ id }) => ids.has(id)),
  };
  const suspect = {
    dropped: heard.length - sides.train.length,
    heldOut: sides.heldOut.filter((clip) => clip.suspect !== undefined).length,
  };
  tellSuspect(heard, sides.heldOut, config.data.drop_suspect, progress);
  const labels = new Set(train.map(({ label }) => label));
  for (const [name, side] of Object.entries(sides)) {
    const lost = [...labels].filter((label) => !side.some((clip) => clip.label === label));
    if (lost.length > 0) {
      const dropped = name === 'train' && suspect.dropped > 0;
      throw problem({
        code: 'E_DATA',
        expected: `a transcribed ${name === 'train' ? 'training' : 'held-out'} clip of each label`,
        where: 'the clips',
        got: `none for ${lost.map((label) => `'${label}'`).join(', ')}${dropped ? ` (${suspect.dropped} with a suspect transcript were dropped)` : ''}`,
        next: `add recordings, or choose another --whisper or --language${dropped ? ', or keep them with --no-drop-suspect' : ''}`,
      });
    }
  }
  return { ...sides, unheard: unheard.filter(({ id }) => ids.has(id)), suspect };
}

function tellSuspect(
  train: readonly TranscribedClip[],
  heldOut: readonly TranscribedClip[],
  drop: boolean,
  progress: Progress,
): void {
  for (const [side, clips, fate] of [
    ['training', train, drop ? 'dropped' : 'kept'],
    ['held-out', heldOut, 'kept'],
  ] as const) {
    const reasons = clips.flatMap(({ suspect }) => (suspect === undefined ? [] : [suspect]));
    if (reasons.length > 0) {
      progress.line(
        `${reasons.length} of ${clips.length} ${side} clips have a suspect transcript (${tally(reasons.flat())}); ${fate}.`,
      );
    }
  }
}

/** 'repetition 3, avg_logprob 1' */
function tally(reasons: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const reason of reasons) {
    counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  return [...counts].map(([reason, count]) => `${reason} ${count}`).join(', ');
}
