/** Audio of any kind as the pieces that Whisper hears. */
import { quietPieces } from '../audio/pieces.js';
import { type AudioSource, openAudio } from '../audio/stream.js';
import { problem } from '../errors.js';
import type { RecordedPiece } from './hearing.js';

export interface Recording {
  pieces: AsyncIterable<RecordedPiece>;
  /** Ends what was opened, also if not all of it was read. Twice is fine. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * @param audio samples (mono, 16 kHz), which stay where they are; or a path, bytes or a stream of a file
 * @param name what messages call a file
 * @throws VoiceGrpoError E_AUDIO
 */
export async function openRecording(
  audio: Float32Array | AudioSource,
  name: string | undefined,
  signal?: AbortSignal,
): Promise<Recording> {
  if (audio instanceof Float32Array) {
    return { pieces: unmoved(audio), async [Symbol.asyncDispose]() {} };
  }
  const stream = await openAudio(audio, { name, signal });
  return { pieces: quietPieces(stream), [Symbol.asyncDispose]: () => stream.close() };
}

/** The pieces of samples, as views. @throws VoiceGrpoError E_ARGUMENT where their buffer is transferred or resized meanwhile */
async function* unmoved(samples: Float32Array): AsyncGenerator<RecordedPiece, void, undefined> {
  const { length } = samples;
  for await (const piece of quietPieces([samples])) {
    yield piece;
    if (samples.length !== length) {
      throw problem({
        code: 'E_ARGUMENT',
        where: 'samples',
        expected: `${length} samples until the call has ended`,
        got: `${samples.length}: their buffer was transferred or resized`,
        next: 'Pass a copy: samples.slice().',
      });
    }
  }
}
