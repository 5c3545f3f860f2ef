/** All WAV files of a folder, one after another, once for each line on stdin. Arguments: one JSON object. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Transcriber } from '../../dist/pipeline/transcript.js';
import { serve } from '../worker.mjs';

const { model, speech, threads } = JSON.parse(process.argv[2]);
const files = readdirSync(speech)
  .filter((name) => name.endsWith('.wav'))
  .sort()
  .map((name) => join(speech, name));
const transcriber = await Transcriber.open({ model, language: 'en', threads, cache: null });
await serve({ files: files.length }, async () => {
  let characters = 0;
  await transcriber.transcribeAll(files, (outcome) => {
    if ('error' in outcome) throw outcome.error;
    characters += outcome.transcript.text.length;
  });
  return { characters };
});
