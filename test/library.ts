/** Errors of the library. */
import * as assert from 'uvu/assert';
import { VoiceGrpoError } from '../src/index.js';

/** What is thrown is a VoiceGrpoError with this code and message. */
export async function fails(work: () => unknown, code: string, message: RegExp): Promise<void> {
  try {
    await work();
  } catch (error) {
    assert.ok(error instanceof VoiceGrpoError, String(error));
    assert.is(error.code, code, error.message);
    return assert.match(error.message, message);
  }
  assert.unreachable(`no ${code}`);
}
