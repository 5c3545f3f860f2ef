/** A worker thread that opens a Whisper of its own. `linger`: it tells when it has begun, and works until it is ended. */
import { parentPort, workerData } from 'node:worker_threads';
import { register } from 'tsx/esm/api';

register(); // --import reaches no worker
const { Whisper } = await import('../../src/whisper.ts');

/** @type {{ files: string[], linger: boolean }} */
const { files, linger } = workerData;
const whisper = await Whisper.open('bundled', { threads: 1, parallel: 2 });
if (linger) {
  const samples = new Float32Array(16000 * 600).map((_, i) => Math.sin(i * i * 1e-6) * 0.3 * Math.sin(i / 3000));
  const work = whisper.transcribe(samples);
  parentPort?.postMessage('begun');
  await work;
} else {
  const heard = await Promise.all(files.map((file) => whisper.transcribe(file)));
  parentPort?.postMessage(heard.map(({ text, segments }) => ({ text, segments })));
  whisper.close();
}
