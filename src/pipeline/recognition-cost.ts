/** What recognition errors cost: the policy's answers to what Whisper wrote beside its answers to what was said, on the same clips. */
import { problem } from '../errors.js';
import { sumErrors, type WordErrors, wordErrorRate, wordErrors } from '../transcription/word-error-rate.js';
import type { Clip, Evaluation, Prediction, TranscribedClip } from '../types.js';
import { classificationScores } from './evaluate.js';

/** Names as they stand in JSON. */
export interface LabelErrors extends WordErrors {
  /** Clips. */
  n: number;
  /** Null without a word. */
  word_error_rate: number | null;
  /** Clips whose transcript is suspect. */
  suspect: number;
  /** Clips in which nothing was heard: every word is deleted, and there is no answer. */
  unheard: number;
}

export interface RecognitionCost {
  /** Clips without a text, which are not compared. */
  without_text: number;
  labels: Record<string, LabelErrors>;
  total: LabelErrors;
  transcripts: Scores;
  references: Scores;
  /** References minus transcripts: above 0 where recognition errors cost something. */
  cost: Scores;
  /** Answers that are right with the text and wrong with the transcript. */
  lost: number;
  /** Answers that are right with the transcript and wrong with the text. */
  gained: number;
}

interface Scores {
  accuracy: number;
  macro_f1: number;
}

/**
 * @param heard the evaluation of `clips` with their transcripts
 * @param answer evaluates other clips in the same way
 * @param unheard clips in which nothing was heard
 * @throws VoiceGrpoError E_DATA where no clip has a text
 */
export async function recognitionCost(
  clips: readonly TranscribedClip[],
  heard: Evaluation,
  answer: (clips: readonly TranscribedClip[]) => Promise<Evaluation>,
  unheard: readonly Clip[] = [],
): Promise<RecognitionCost> {
  const all = [
    ...clips.map((clip, i) => ({ clip, prediction: heard.predictions[i] as Prediction })),
    ...unheard.map((clip) => ({ clip: { ...clip, transcript: '' } as TranscribedClip, prediction: noAnswer(clip) })),
  ];
  const compared = all.flatMap(({ clip, prediction }) =>
    clip.reference === undefined || clip.reference.trim() === ''
      ? []
      : [{ clip, reference: clip.reference, prediction }],
  );
  if (compared.length === 0) {
    throw problem({
      code: 'E_DATA',
      expected: 'clips with a text (the manifest\'s "text", or --text-column)',
      where: '--references',
      got: `none among ${all.length}`,
      next: 'add the texts, or leave --references out',
    });
  }
  const read = await answer(compared.map(({ clip, reference }) => ({ ...clip, transcript: reference })));
  const right = ({ label, predicted }: Prediction) => label === predicted;
  const before = compared.map(({ prediction }) => prediction);
  const transcripts = scoresOf(before, heard.labels);
  const references = scoresOf(read.predictions, heard.labels);
  const pairs = before.map((prediction, i) => [right(prediction), right(read.predictions[i] as Prediction)] as const);
  const errorsOf = (some: typeof compared): LabelErrors => {
    const errors = sumErrors(some.map(({ clip, reference }) => wordErrors(reference, clip.transcript)));
    return {
      n: some.length,
      word_error_rate: wordErrorRate(errors),
      ...errors,
      suspect: some.filter(({ clip }) => clip.suspect !== undefined).length,
      unheard: some.filter(({ clip }) => clip.transcript === '').length,
    };
  };
  return {
    without_text: all.length - compared.length,
    labels: Object.fromEntries(
      heard.labels
        .map((label) => [label, compared.filter(({ clip }) => clip.label === label)] as const)
        .filter(([, some]) => some.length > 0)
        .map(([label, some]) => [label, errorsOf(some)]),
    ),
    total: errorsOf(compared),
    transcripts,
    references,
    cost: {
      accuracy: references.accuracy - transcripts.accuracy,
      macro_f1: references.macro_f1 - transcripts.macro_f1,
    },
    lost: pairs.filter(([transcript, text]) => text && !transcript).length,
    gained: pairs.filter(([transcript, text]) => transcript && !text).length,
  };
}

function noAnswer({ id, label }: Clip): Prediction {
  return { id, label, answer: '', predicted: null, reward: 0, probabilities: {}, label_mass: 0 };
}

function scoresOf(predictions: readonly Prediction[], labels: readonly string[]): Scores {
  const { accuracy, macro_f1 } = classificationScores(predictions, labels);
  return { accuracy, macro_f1 };
}
