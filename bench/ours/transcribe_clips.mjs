/** A list of audio files, as many calls side by side as threads: one JSON line for each. Arguments: one JSON object, files. */

import { loadNative } from '../../dist/native/load.js';
import { loadClip } from '../../dist/pipeline/clip.js';

const { model, threads, ...options } = JSON.parse(process.argv[2]);
const files = process.argv.slice(3);
const whisper = await loadNative().openWhisper(model);
const parallel = Math.min(threads, files.length);
let next = 0;
const worker = async () => {
  while (next < files.length) {
    const file = files[next++];
    const { samples } = await loadClip(file);
    const { text } = await whisper.transcribe(samples, {
      language: 'en',
      threads: Math.max(1, Math.floor(threads / parallel)),
      ...options,
    });
    process.stdout.write(`${JSON.stringify({ file, text })}\n`);
  }
};
await Promise.all(Array.from({ length: parallel }, worker));
