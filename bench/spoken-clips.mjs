/**
 * node bench/spoken-clips.mjs FOLDER [--clips N] [--join N]
 *
 * Speaks the sentences of the bundled clips with espeak-ng, two voices in turn, adds white noise at 20 and 10 dB below the
 * speech in turn, and writes 16 kHz WAV files with transcripts.tsv (file name, tab, what was said). Every third clip has two
 * sentences, so that they last from 2 to 10 seconds. --join puts N clips in a row into one file, half a second of silence
 * between them, for long audio. The same espeak-ng gives the same bytes.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { loadClip, SAMPLE_RATE } from '../dist/pipeline/clip.js';
import { philox4x32 } from '../dist/random.js';

const VOICES = ['en-us', 'en-gb'];
const NOISE_DB = [20, 10];
const SEED = 7;

const {
  values: { clips, join: joined },
  positionals: [folder],
} = parseArgs({
  allowPositionals: true,
  options: { clips: { type: 'string', default: '120' }, join: { type: 'string', default: '1' } },
});
if (!folder || !(Number(clips) > 0) || !(Number(joined) > 0)) {
  console.error('usage: node bench/spoken-clips.mjs FOLDER [--clips N] [--join N]');
  process.exit(2);
}

const manifest = fileURLToPath(new URL('../assets/clips/manifest.jsonl', import.meta.url));
const sentences = readFileSync(manifest, 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line).text);

function speak(voice, text, file) {
  const { status, error, stderr } = spawnSync('espeak-ng', ['-v', voice, '-s', '165', '-w', file, text]);
  if (error) throw new Error(`espeak-ng: ${error.message}; on Debian: apt-get install espeak-ng`);
  if (status !== 0) throw new Error(`espeak-ng ended with ${status}: ${stderr}`);
}

/** Normal noise from counted random numbers (Box and Muller). */
function addNoise(samples, decibels, clip) {
  const level = Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length) * 10 ** (-decibels / 20);
  return samples.map((x, i) => {
    const [u, v] = philox4x32([i, clip, 0, 0], [SEED, 0]);
    return x + level * Math.sqrt(-2 * Math.log((u + 1) / 2 ** 32)) * Math.cos((2 * Math.PI * v) / 2 ** 32);
  });
}

function wav(samples) {
  const bytes = Buffer.alloc(44 + 2 * samples.length);
  bytes.write('RIFF', 0);
  bytes.writeUInt32LE(36 + 2 * samples.length, 4);
  bytes.write('WAVEfmt ', 8);
  bytes.writeUInt32LE(16, 16);
  bytes.writeUInt16LE(1, 20); // PCM
  bytes.writeUInt16LE(1, 22); // channels
  bytes.writeUInt32LE(SAMPLE_RATE, 24);
  bytes.writeUInt32LE(2 * SAMPLE_RATE, 28);
  bytes.writeUInt16LE(2, 32);
  bytes.writeUInt16LE(16, 34);
  bytes.write('data', 36);
  bytes.writeUInt32LE(2 * samples.length, 40);
  samples.forEach((x, i) => {
    bytes.writeInt16LE(Math.round(Math.max(-1, Math.min(1, x)) * 32767), 44 + 2 * i);
  });
  return bytes;
}

mkdirSync(folder, { recursive: true });
const spoken = join(tmpdir(), `spoken-${process.pid}.wav`);
const lines = [];
let row = []; // clips of one file
let said = [];
for (let i = 0, at = 0; i < Number(clips); i++) {
  const count = i % 3 === 2 ? 2 : 1;
  const text = Array.from({ length: count }, () => sentences[(at++ * 7) % sentences.length]).join(' ');
  const voice = VOICES[i % 2];
  const decibels = NOISE_DB[(i >> 1) % 2];
  speak(voice, text, spoken);
  const { samples } = await loadClip(spoken);
  if (row.length > 0) row.push(new Float32Array(SAMPLE_RATE / 2));
  row.push(addNoise(samples, decibels, i));
  said.push(text);
  if (said.length < Number(joined) && i + 1 < Number(clips)) continue;
  const name = `${String(i).padStart(3, '0')}-${voice}-${decibels}dB.wav`;
  writeFileSync(join(folder, name), wav(Float32Array.from(row.flatMap((part) => [...part]))));
  lines.push(`${name}\t${said.join(' ')}\n`);
  [row, said] = [[], []];
}
writeFileSync(join(folder, 'transcripts.tsv'), lines.join(''));
