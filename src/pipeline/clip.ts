/** A short recording as one array of 16 kHz mono samples, with what is worth knowing about it. */
import { type AudioSource, openAudio, SAMPLE_RATE } from '../audio/stream.js';
import { problem } from '../errors.js';

export { SAMPLE_RATE } from '../audio/stream.js';

/** s. Longer recordings are for openAudio, which does not hold them in memory. */
const LONGEST = 2 * 3600;

export interface LoadedClip {
  file: string;
  /** SHA-256 of the file's bytes, hexadecimal. */
  hash: string;
  /** Mono at 16 kHz, in [-1, 1]. */
  samples: Float32Array;
  /** s */
  duration: number;
  /** Hz, of the file */
  sampleRate: number;
  channels: number;
  format: string;
  /** Largest absolute sample of the file, 1 is full scale. */
  peak: number;
  /** Root mean square over all channels. */
  rms: number;
}

/** @throws VoiceGrpoError E_AUDIO (or E_LIMIT) with a sentence that names the file */
export async function loadClip(
  source: AudioSource,
  options: { name?: string; signal?: AbortSignal } = {},
): Promise<LoadedClip> {
  await using stream = await openAudio(source, options);
  const pieces: Float32Array[] = [];
  let length = 0;
  if ((stream.info.duration ?? 0) > LONGEST) throw tooLong(stream.name);
  const hash = await stream.hash(); // before the last piece, after which the stream is closed
  for await (const piece of stream) {
    pieces.push(piece);
    length += piece.length;
    if (length > LONGEST * SAMPLE_RATE) throw tooLong(stream.name);
  }
  const { format, sampleRate, channels } = stream.info;
  const samples = joined(pieces, length);
  return { file: stream.name, hash, samples, format, sampleRate, channels, ...stream.summary };
}

function tooLong(where: string) {
  return problem({
    code: 'E_LIMIT',
    where,
    expected: `at most ${LONGEST / 3600} hours of audio`,
    got: 'more',
    next: 'Cut it into shorter files.',
  });
}

function joined(pieces: Float32Array[], length: number): Float32Array {
  if (pieces.length === 1) return pieces[0]!;
  const samples = new Float32Array(length);
  let at = 0;
  for (const piece of pieces) {
    samples.set(piece, at);
    at += piece.length;
  }
  return samples;
}
