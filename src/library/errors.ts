/** Errors of the addon as VoiceGrpoErrors. */
import { VoiceGrpoError } from '../errors.js';

/** A failure that has a sentence for the user as the one class for those; anything else as it is. */
export function asVoiceGrpoError(error: unknown): unknown {
  const { code, hint } = error as { code?: unknown; hint?: unknown };
  return error instanceof Error &&
    !(error instanceof VoiceGrpoError) &&
    typeof code === 'string' &&
    /^E_[A-Z]+$/.test(code)
    ? new VoiceGrpoError(error.message, { code, hint: typeof hint === 'string' ? hint : '', cause: error })
    : error;
}

export async function safely<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw asVoiceGrpoError(error);
  }
}
