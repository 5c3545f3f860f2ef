/** The transcripts of many clips: from Whisper, or from the manifest where the configuration says so. */
import type { Config } from '../config/load.js';
import { presentError, problem } from '../errors.js';
import type { Progress } from '../run/progress.js';
import type { Clip, TranscribedClip } from '../types.js';
import { clipName } from './data.js';
import { type Outcome, Transcriber } from './transcript.js';

/** What one file gave: its words, or a sentence that says why there are none. */
export type Heard = { transcript: string; error?: undefined } | { transcript?: undefined; error: string };

type TranscriptConfig = Pick<Config, 'data' | 'whisper'>;

/** Transcribes files, in their order. A file that fails does not stop the others. */
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
  const heard: Heard[] = [];
  using transcriber = await Transcriber.open({ model, language: config.whisper.language, threads });
  const done = (outcome: Outcome) => {
    heard.push(judged(outcome, config.data.max_duration));
    progress.update(
      `transcribed ${heard.length} of ${files.length}`,
      heard.length % 50 === 0 || heard.length === files.length,
    );
  };
  await transcriber.transcribeAll(files, done, signal);
  return heard;
}

function judged(outcome: Outcome, maxDuration: number): Heard {
  if ('error' in outcome) {
    return { error: presentError(outcome.error).text.split('\n')[0] as string };
  }
  const { clip, text } = outcome.transcript;
  return clip.duration > maxDuration
    ? { error: `${clip.file} lasts ${clip.duration.toFixed(1)} s, longer than data.max_duration (${maxDuration} s).` }
    : { transcript: text };
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
): Promise<TranscribedClip[]> {
  const files = clips.map(({ file }) => file);
  const heard = config.data.use_text
    ? clips.map(referenceOf)
    : await transcribeEach(files, config, model, threads, progress, signal);
  const kept: TranscribedClip[] = [];
  const left: string[] = [];
  for (const [i, clip] of clips.entries()) {
    const { transcript, error } = heard[i] as Heard;
    if (transcript === undefined) {
      left.push(error);
    } else {
      kept.push({ ...clip, transcript });
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
  return kept;
}

function referenceOf(clip: Clip): Heard {
  return clip.reference === undefined || clip.reference.trim() === ''
    ? { error: `${clipName(clip)} has no text in the manifest, which data.use_text asks for.` }
    : { transcript: clip.reference };
}

/** Both sides in one go, so that the model is loaded once. */
export async function transcribeDataset(
  { train, heldOut }: { train: readonly Clip[]; heldOut: readonly Clip[] },
  config: TranscriptConfig,
  model: string | null,
  threads: number,
  progress: Progress,
  signal?: AbortSignal,
): Promise<{ train: TranscribedClip[]; heldOut: TranscribedClip[] }> {
  const all = await transcribeClips([...train, ...heldOut], config, model, threads, progress, signal);
  const ids = new Set(heldOut.map(({ id }) => id));
  const sides = { train: all.filter(({ id }) => !ids.has(id)), heldOut: all.filter(({ id }) => ids.has(id)) };
  const labels = new Set(train.map(({ label }) => label));
  for (const [name, side] of Object.entries(sides)) {
    const lost = [...labels].filter((label) => !side.some((clip) => clip.label === label));
    if (lost.length > 0) {
      throw problem({
        code: 'E_DATA',
        expected: `a transcribed ${name === 'train' ? 'training' : 'held-out'} clip of each label`,
        where: 'the clips',
        got: `none for ${lost.map((label) => `'${label}'`).join(', ')}`,
        next: 'add recordings, or choose another --whisper or --language',
      });
    }
  }
  return sides;
}
