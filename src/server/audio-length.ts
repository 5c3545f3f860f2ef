/** How long a recording may be: a small file can hold days of silence, and whatever is listened to takes somebody else's turn. */
import { openAudio, SAMPLE_RATE } from '../audio/stream.js';
import { ApiError } from './api-error.js';

/**
 * Refuses by what the file says, else by counting: what it says can be missing, or less than what is in it. Decoding takes little time
 * beside listening, and stops at the bound.
 *
 * @param longest s
 * @returns the length, s
 * @throws ApiError 400; VoiceGrpoError E_AUDIO
 */
export async function checkedLength(path: string, longest: number, signal: AbortSignal): Promise<number> {
  await using audio = await openAudio(path, { name: 'file', signal });
  if ((audio.info.duration ?? 0) > longest) throw tooLong(longest);
  let samples = 0;
  for await (const piece of audio) {
    samples += piece.length;
    if (samples > longest * SAMPLE_RATE) throw tooLong(longest);
  }
  return samples / SAMPLE_RATE;
}

function tooLong(longest: number): ApiError {
  return new ApiError(400, `The recording is longer than ${longest} s, which is the most that this server takes.`, {
    param: 'file',
    code: 'audio_too_long',
  });
}
