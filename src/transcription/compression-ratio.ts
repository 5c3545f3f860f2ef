/** How well a text compresses: a text that repeats itself compresses too well. */
import { deflateSync } from 'node:zlib';

/** Bytes of the text over bytes of its zlib stream, as openai-whisper has it; 0 for an empty text. */
export function compressionRatio(text: string): number {
  const bytes = Buffer.from(text, 'utf8');
  return bytes.length === 0 ? 0 : bytes.length / deflateSync(bytes).length;
}
