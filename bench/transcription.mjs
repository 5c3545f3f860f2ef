/**
 * node bench/transcription.mjs --dir DIR --peers PYTHON SPEECH…
 *
 * Transcribes each folder SPEECH (audio files and transcripts.tsv, as bench/spoken-clips.mjs writes them) with Whisper base:
 * `voicegrpo transcribe` with the fitted and with the full window, faster-whisper in int8 and float32, openai-whisper, and whisper.cpp's own
 * program where DIR/whisper-cli has it (`npm run test:real -- DIR --only wer` builds it). Each side is started anew for each
 * round, so loading counts; the sides take turns. Prints word error rates, peak memory, and wall and processor time as ratios
 * to the first side's.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { sumErrors, wordErrorRate, wordErrors } from '../dist/transcription/word-error-rate.js';

const here = fileURLToPath(new URL('.', import.meta.url));
const usage = `usage: node bench/transcription.mjs --dir DIR --peers PYTHON SPEECH… [--only NAME,…] [--rounds N] [--clips N] [--threads N] [--beam N] [--json FILE]

  --dir DIR       ggml-base.bin, faster-whisper-base/, base.pt, whisper-cli/
  --peers PYTHON  with faster-whisper and openai-whisper; it also measures
  --only NAMES    of: ours, ours-full, faster-int8, faster-f32, openai, whisper-cli
  --clips N       the first N clips of each folder`;
const { values: flags, positionals: folders } = parseArgs({
  allowPositionals: true,
  options: {
    dir: { type: 'string' },
    peers: { type: 'string' },
    only: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    clips: { type: 'string', default: '1000000' },
    threads: { type: 'string', default: String(availableParallelism()) },
    beam: { type: 'string', default: '5' },
    json: { type: 'string' },
  },
});
if (!flags.dir || !flags.peers || folders.length === 0) {
  console.error(usage);
  process.exit(2);
}
const { dir, peers, threads, beam } = flags;
const python = (program, ...args) => [peers, join(here, 'peers', program), ...args];
const ours = (window) => (files) => [
  process.execPath,
  join(here, '..', 'dist', 'cli.js'),
  ...['transcribe', '--model', join(dir, 'ggml-base.bin'), '--no-cache', '--format', 'jsonl', '--language', 'en'],
  ...['--threads', threads, '--beam-size', beam, '--window', window],
  ...files,
];
const peer =
  (engine, model, type = 'float32') =>
  (files) =>
    python(
      'transcribe_clips.py',
      engine,
      ...['--model', join(dir, model), '--compute-type', type, '--threads', threads, '--beam', beam],
      ...files,
    );
const cli = join(dir, 'whisper-cli', 'bin', 'whisper-cli');
const SIDES = {
  ours: ours('fitted'),
  'ours-full': ours('full'),
  'faster-int8': peer('faster-whisper', 'faster-whisper-base', 'int8'),
  'faster-f32': peer('faster-whisper', 'faster-whisper-base'),
  openai: peer('openai-whisper', 'base.pt'),
  'whisper-cli': (files) => [
    cli,
    '-m',
    join(dir, 'ggml-base.bin'),
    '-t',
    threads,
    '-bs',
    beam,
    '-np',
    '-otxt',
    ...files,
  ],
};
const names = flags.only?.split(',') ?? Object.keys(SIDES).filter((name) => name !== 'whisper-cli' || existsSync(cli));
const unknown = names.filter((name) => !(name in SIDES));
if (unknown.length > 0) {
  console.error(`unknown: ${unknown.join(', ')}\n${usage}`);
  process.exit(2);
}
if (!names.includes('whisper-cli')) console.log(`without whisper.cpp's own program (${cli})`);

/** One start of a side over all files: its figures, and the text of each file. */
function run(name, files) {
  const command = SIDES[name](files);
  const { status, stdout, stderr } = spawnSync(peers, [join(here, 'peers', 'measured.py'), ...command], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (status !== 0) throw new Error(`${name} ended with ${status}:\n${stderr.slice(-2000)}`);
  const records = stdout
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line));
  const texts = new Map(records.filter(({ file }) => file).map(({ file, text }) => [file, text]));
  if (name === 'whisper-cli') for (const file of files) texts.set(file, readFileSync(`${file}.txt`, 'utf8'));
  return { ...records.at(-1), texts };
}

/** Errors over words of all clips, as `voicegrpo eval --references` counts them. */
const rateOf = (clips, texts) =>
  wordErrorRate(sumErrors(clips.map(({ file, said }) => wordErrors(said, texts.get(file) ?? ''))));

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
// whisper.cpp's program writes beside its input.
const copies = mkdtempSync(join(tmpdir(), 'transcription-'));
try {
  const clips = folders.flatMap((folder, i) =>
    readFileSync(join(folder, 'transcripts.tsv'), 'utf8')
      .trim()
      .split('\n')
      .slice(0, Number(flags.clips))
      .map((line) => {
        const [name, said] = line.split('\t');
        const file = join(copies, `${i}-${basename(name)}`);
        copyFileSync(join(folder, name), file);
        return { file, said };
      }),
  );
  const files = clips.map(({ file }) => file);
  console.log(
    `${cpus()[0]?.model}, ${threads} threads, Node ${process.version}: ${files.length} clips, beams of ${beam}`,
  );
  const sides = Object.fromEntries(names.map((name) => [name, { rounds: [] }]));
  for (let round = 0; round < Number(flags.rounds); round++) {
    for (const name of names) {
      const { texts, ...figures } = run(name, files);
      sides[name].rounds.push(figures);
      sides[name].word_error_rate = rateOf(clips, texts);
      console.log(
        `  round ${round + 1}, ${name}: ${figures.seconds.toFixed(1)} s, processor ${figures.cpu_seconds.toFixed(1)} s`,
      );
    }
  }
  console.log('\n| | seconds | of the first | processor seconds | of the first | peak memory | word error rate |');
  console.log('|---|---|---|---|---|---|---|');
  const of = (name, key) => median(sides[name].rounds.map((figures) => figures[key]));
  for (const name of names) {
    const ratio = (key) => (of(name, key) / of(names[0], key)).toFixed(2);
    console.log(
      `| ${name} | ${of(name, 'seconds').toFixed(1)} | ${ratio('seconds')} | ${of(name, 'cpu_seconds').toFixed(1)} | ` +
        `${ratio('cpu_seconds')} | ${(of(name, 'peak_rss_bytes') / 1e6).toFixed(0)} MB | ` +
        `${(100 * sides[name].word_error_rate).toFixed(2)} % |`,
    );
  }
  if (flags.json)
    writeFileSync(flags.json, `${JSON.stringify({ clips: files.length, threads, beam, sides }, null, 2)}\n`);
} finally {
  rmSync(copies, { recursive: true, force: true });
}
