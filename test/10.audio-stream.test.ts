/** Audio of any length and from anywhere, in bounded memory: pieces, levels, hashes, cuts. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  createWriteStream,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { quietPieces } from '../src/audio/pieces.js';
import { SPOOL_LIMIT } from '../src/audio/source.js';
import { type AudioSource, openAudio, openInput, SAMPLE_RATE } from '../src/audio/stream.js';
import type { VoiceGrpoError } from '../src/errors.js';
import { loadNative } from '../src/native/load.js';
import { loadClip } from '../src/pipeline/clip.js';
import {
  concat,
  decode,
  drain,
  fixture,
  floatWav,
  pcm16,
  random,
  resample,
  rmsOf,
  silentFlac,
  sine,
  wav,
  worst,
} from './audio/make.js';

const folder = mkdtempSync(join(tmpdir(), 'voicegrpo-stream-'));
test.after(() => rmSync(folder, { recursive: true, force: true }));

const NAMES = ['sweep.mp3', 'sweep.flac', 'sweep.ogg', 'opus-stereo.opus', 'opus-speech.opus', 'opus-surround.opus'];
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const refusal = async (promise: Promise<unknown>) => {
  const error = await promise.then(
    () => null,
    (e) => e as VoiceGrpoError,
  );
  assert.ok(error, 'no error came');
  return error;
};

/** Chunks of odd sizes, as a pipe gives them. */
function* chunks(bytes: Buffer): Generator<Buffer> {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = 1 + (random(i) % 5000);
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

/** Speech-like noise with pauses: loud and quiet stretches of 0.3 to 1 s. */
function murmur(seconds: number): Float32Array {
  let level = 0.3;
  let left = 0;
  return Float32Array.from({ length: seconds * SAMPLE_RATE }, (_, i) => {
    if (left-- <= 0) {
      level = level > 0.1 ? 0.01 : 0.3;
      left = 4800 + (random(i) % 11200);
    }
    return level * (random(i + 7) / 2 ** 31 - 1);
  });
}

test('a path, bytes and a stream give the same samples and the same facts', async () => {
  for (const name of NAMES) {
    const path = join('test', 'audio', name);
    const bytes = fixture(name);
    const sources: [string, AudioSource][] = [
      ['path', path],
      ['bytes', bytes],
      ['stream', Readable.from(chunks(bytes))],
      ['file stream', createReadStream(path)],
    ];
    const clip = await loadClip(path);
    for (const [kind, source] of sources) {
      const stream = await openAudio(source);
      const hash = await stream.hash();
      const { format, sampleRate, channels } = stream.info;
      assert.equal([format, sampleRate, channels], [clip.format, clip.sampleRate, clip.channels], `${name} ${kind}`);
      assert.is(worst(await drain(stream), clip.samples), 0, `${name} ${kind}`);
      const { duration, peak, rms } = stream.summary;
      assert.equal([duration, peak, rms, hash], [clip.duration, clip.peak, clip.rms, sha256(bytes)], `${name} ${kind}`);
    }
  }
});

test('the duration is known before decoding, and is the one that is counted', async () => {
  for (const name of NAMES) {
    const stream = await openAudio(fixture(name));
    const { duration } = stream.info;
    await drain(stream);
    assert.is(duration, stream.summary.duration, name);
  }
});

test('the addon gives the same samples in steps of any length', async () => {
  const files: [string, Buffer][] = [
    ...NAMES.slice(0, 3).map((name): [string, Buffer] => [name, fixture(name)]),
    ['wav', wav(pcm16(murmur(1)), { channels: 2 })],
  ];
  for (const [name, bytes] of files) {
    const whole = await decode(bytes, 1 << 20);
    for (const frames of [1000, 4096, 4097]) {
      const parts = await decode(bytes, frames);
      assert.is(worst(parts.samples, whole.samples), 0, `${name} in steps of ${frames}`);
      assert.equal(parts.level, whole.level, name);
    }
  }
});

test('a long file streamed is the whole file resampled', async () => {
  const long = sine(440, 44100, 95, 0.3).map((x, i) => x + 0.2 * (random(i) / 2 ** 31 - 1));
  const bytes = wav(pcm16(long), { rate: 44100 });
  const stream = await openAudio(bytes);
  const pieces: Float32Array[] = [];
  for await (const piece of stream) pieces.push(piece);
  assert.ok(pieces.length >= 4, `${pieces.length} pieces`);
  const { samples } = await decode(bytes);
  assert.is(worst(concat(pieces), await resample(samples, 44100)), 0);
});

test('the hash needs no decoding, and a stream is read only once', async () => {
  const path = join('test', 'audio', 'sweep.mp3');
  const stream = await openAudio(path);
  assert.is(await stream.hash(), sha256(fixture('sweep.mp3')));
  assert.throws(() => stream.summary, /not read to its end/);
  await drain(stream);
  assert.match((await refusal(drain(stream))).message, 'only once');
  await stream.close();
  await stream.close();
});

test('a loop that is left early closes the file', async () => {
  const file = join(folder, 'early.wav');
  writeFileSync(file, wav(pcm16(murmur(70))));
  const before = readdirSync('/dev/fd').length;
  for (let i = 0; i < 5; i++) {
    for await (const piece of await openAudio(file)) {
      assert.is(piece.length, 30 * SAMPLE_RATE);
      break;
    }
    await refusal(openAudio('package.json'));
    await (await openAudio(file)).close();
  }
  await new Promise((done) => setTimeout(done, 50));
  assert.is(readdirSync('/dev/fd').length, before);
});

test('ten hours of silence, four gigabytes that are not there: memory stays bounded', async () => {
  const script = `
    const { openAudio } = await import('./src/audio/stream.ts');
    const { quietPieces } = await import('./src/audio/pieces.ts');
    const warm = await openAudio(process.argv[1]);
    let most = 0, samples = 0, first = 0;
    for await (const piece of quietPieces(warm)) {
      samples += piece.samples.length;
      const { rss } = process.memoryUsage();
      if (first === 0 && samples > 600 * 16000) first = rss;
      most = Math.max(most, rss);
      if (piece.samples.some((x) => x !== 0)) throw new Error('not silent');
    }
    console.log(JSON.stringify({ samples, first, most, summary: warm.summary }));`;
  const flac = join(folder, 'silence.flac');
  const bytes = silentFlac(36000);
  assert.ok(bytes.length < 200_000, `${bytes.length}`);
  writeFileSync(flac, bytes);
  const { stdout, stderr } = spawnSync('node', ['--import', 'tsx', '--input-type=module', '-e', script, flac], {
    encoding: 'utf8',
  });
  assert.match(stdout, /samples/, stderr);
  const { samples, first, most, summary } = JSON.parse(stdout);
  assert.equal([samples / 16000, summary.duration, summary.peak, summary.rms], [36000, 36000, 0, 0]);
  assert.ok(most - first < 64e6, `${(most - first) / 1e6} MB more after 10 minutes`);
  assert.ok(most < 300e6, `${most / 1e6} MB in all`);

  const sparse = join(folder, 'sparse.wav'); // a header, and 3 GB of zeros that take no place
  writeFileSync(sparse, wav(Buffer.alloc(0), { dataBytes: 0xb0000000 }));
  truncateSync(sparse, 44 + 0xb0000000);
  const stream = await openAudio(sparse);
  assert.is(stream.info.duration, 0xb0000000 / 32000);
  await stream.close();
  for (const file of [sparse, flac]) {
    const error = await refusal(loadClip(file));
    assert.is(error.code, 'E_LIMIT');
    assert.match(error.message, /2 hours/);
  }
  for (const claim of [4e9, 0xfffffef0]) {
    const short = wav(Buffer.alloc(1000), { dataBytes: claim });
    assert.match((await refusal(openAudio(short))).message, 'truncated');
  }
});

test('stdin is collected in memory, or in a file without a name', async () => {
  const samples = murmur(30);
  const small = wav(pcm16(samples));
  assert.ok(small.length < SPOOL_LIMIT);
  const large = wav(Buffer.concat(Array(20).fill(pcm16(samples))), { dataBytes: 0xffffffff });
  assert.ok(large.length > SPOOL_LIMIT);
  const temporary = () => readdirSync(tmpdir()).filter((name) => /^voicegrpo-[0-9a-f]{8}-/.test(name));
  for (const bytes of [small, large]) {
    const stream = await openInput('-', { stdin: Readable.from(chunks(bytes)) });
    assert.equal([stream.name, temporary().length], ['<stdin>', 0]);
    assert.is(await stream.hash(), sha256(bytes));
    const stored = new Int16Array(bytes.buffer.slice(bytes.byteOffset + 44, bytes.byteOffset + bytes.length));
    assert.is(
      worst(
        await drain(stream),
        Float32Array.from(stored, (x) => x / 32768),
      ),
      0,
    );
    assert.is(stream.summary.duration, (bytes.length - 44) / 32000);
  }
  const error = await refusal(openInput('-', { stdin: Readable.from([]) }));
  assert.equal([error.code, error.message], ['E_AUDIO', '<stdin>: the file is empty']);
  const file = await openInput(join('test', 'audio', 'sweep.mp3'));
  assert.is(file.info.format, 'mp3');
  await file.close();
});

test('a real pipe is stdin, and a named pipe is a path', async () => {
  const script = `
    const { openInput } = await import('./src/audio/stream.ts');
    for (const input of process.argv.slice(1)) {
      const stream = await openInput(input);
      const hash = await stream.hash();
      let length = 0;
      for await (const piece of stream) length += piece.length;
      console.log(stream.name, length, hash);
    }`;
  const path = join('test', 'audio', 'sweep.flac');
  const command = `cat ${path} | node --import tsx --input-type=module -e "$SCRIPT" - <(cat ${path})`;
  const { stdout, stderr } = spawnSync('bash', ['-c', command], {
    encoding: 'utf8',
    env: { ...process.env, SCRIPT: script },
  });
  const expected = `12800 ${sha256(fixture('sweep.flac'))}`;
  const lines = stdout.trim().split('\n');
  assert.equal([lines.length, lines[0]], [2, `<stdin> ${expected}`], stderr);
  assert.ok(lines[1]!.endsWith(expected), stdout);
});

test('a signal stops collecting and decoding', async () => {
  const stuck = new Readable({ read() {} });
  const controller = new AbortController();
  const opening = openInput('-', { stdin: stuck, signal: controller.signal });
  controller.abort();
  assert.is((await refusal(opening)).name, 'AbortError');

  const second = new AbortController();
  const stream = await openAudio(wav(pcm16(murmur(70))), { signal: second.signal });
  const error = await refusal(
    (async () => {
      for await (const _ of stream) second.abort();
    })(),
  );
  assert.is((error as { code: string }).code, 'E_ABORTED');
});

test('a named pipe waits for its writer without taking a thread, and a signal ends the waiting', async () => {
  const pipes = Array.from({ length: 6 }, (_, i) => join(folder, `pipe-${i}`));
  for (const pipe of pipes) assert.is(spawnSync('mkfifo', [pipe]).status, 0);
  const controller = new AbortController();
  const waiting = pipes.map((pipe, i) => openAudio(pipe, i === 0 ? {} : { signal: controller.signal }));
  const file = join('test', 'audio', 'sweep.flac');
  const { samples } = await loadClip(file); // libuv has four threads: not all of them wait
  controller.abort();
  for (const opening of waiting.slice(1)) assert.is((await refusal(opening)).name, 'AbortError');
  createReadStream(file).pipe(createWriteStream(pipes[0]!));
  assert.is(worst(await drain(await waiting[0]!), samples), 0);
});

test('a stream that breaks gives its own error', async () => {
  const broken = Readable.from(
    (function* () {
      yield Buffer.from('RIFF');
      throw new Error('the line went dead');
    })(),
  );
  assert.match((await refusal(openAudio(broken))).message, 'went dead');
});

test('within full scale nothing is changed, above it everything is divided by the peak', async () => {
  const tone = sine(440, 16000, 1, 1);
  const peak = (samples: Float32Array) => samples.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const top = peak(tone);
  for (const [factor, expected] of [
    [0.5, 0.5],
    [1, 1],
    [3, 1],
    [30000, 1],
  ] as const) {
    const clip = await loadClip(floatWav(tone.map((x) => x * factor)));
    assert.ok(Math.abs(clip.peak - factor * top) < 1e-2 * factor, `peak ${clip.peak} for ${factor}`);
    assert.ok(Math.abs(peak(clip.samples) - expected * (factor > 1 ? 1 : top)) < 1e-6, `${peak(clip.samples)}`);
    assert.ok(Math.abs(clip.rms - (factor * 1) / Math.SQRT2) < 1e-3 * factor, `rms ${clip.rms}`);
  }
  const stereo = await loadClip(floatWav([4, 0, -2, -2, 0, 0], { channels: 2 }));
  assert.equal([...stereo.samples], [0.5, -0.5, 0]); // by the peak of the channels, not of their mean
});

test('a loud spot late in a long float WAV scales its beginning too', async () => {
  const samples = murmur(80);
  samples[75 * SAMPLE_RATE] = 8;
  const stream = await openAudio(floatWav(samples));
  assert.is(
    worst(
      await drain(stream),
      samples.map((x) => x / 8),
    ),
    0,
  );
  assert.is(stream.summary.peak, 8);
});

test('a lossy format that overshoots is divided by the peak up to its 30 s', async () => {
  const bytes = fixture('opus-speech.opus');
  const quiet = await loadClip(bytes);
  const gain = 24; // dB, in the header: well above full scale
  const loud = Buffer.from(bytes);
  loud.writeInt16LE(gain * 256, loud.indexOf('OpusHead') + 16);
  const { repairOgg } = await import('./audio/make.js');
  const clip = await loadClip(repairOgg(loud));
  assert.ok(clip.peak > 2 && Math.abs(clip.peak / quiet.peak - 10 ** (gain / 20)) < 1e-3, `${clip.peak}`);
  const expected = quiet.samples.map((x) => x / quiet.peak);
  assert.ok(worst(clip.samples, expected) < 1e-4, `${worst(clip.samples, expected)}`);
});

test('quiet pieces join to the whole, at exact offsets, however the stream comes', async () => {
  const samples = murmur(200);
  const cut = async (sizes: number[], longest?: number) => {
    const parts: Float32Array[] = [];
    for (let at = 0, i = 0; at < samples.length; i++) {
      parts.push(samples.subarray(at, at + sizes[i % sizes.length]!));
      at += sizes[i % sizes.length]!;
    }
    const pieces = [];
    for await (const piece of quietPieces(parts, longest === undefined ? {} : { longest })) pieces.push(piece);
    return pieces;
  };
  const pieces = await cut([480_000]);
  assert.ok(pieces.length >= 7, `${pieces.length}`);
  assert.is(worst(concat(pieces.map((piece) => piece.samples)), samples), 0);
  let at = 0;
  for (const piece of pieces.slice(0, -1)) {
    assert.is(piece.start, at / SAMPLE_RATE);
    assert.ok(piece.samples.length <= 30 * SAMPLE_RATE && piece.samples.length > 18 * SAMPLE_RATE);
    at += piece.samples.length;
    const around = rmsOf(samples.subarray(at - 800, at + 800));
    assert.ok(around < 0.02, `cut at ${at} where the level is ${around}`);
  }
  for (const sizes of [[1000], [7777, 1], [samples.length]]) assert.equal(await cut(sizes), pieces, `${sizes}`);
  for (const piece of await cut([50_000], 5)) assert.ok(piece.samples.length <= 5 * SAMPLE_RATE);
  assert.equal(await cut([480_000], 200), [{ start: 0, samples }]);
  for await (const _ of quietPieces([])) assert.unreachable('nothing gives no piece');
});

test('in silence pieces are cut too, and end', async () => {
  const pieces = [];
  for await (const piece of quietPieces([new Float32Array(70 * SAMPLE_RATE)])) pieces.push(piece.samples.length);
  assert.is(
    pieces.reduce((sum, n) => sum + n, 0),
    70 * SAMPLE_RATE,
  );
  assert.ok(pieces.every((n) => n > 0 && n <= 30 * SAMPLE_RATE));
});

test('a closed decoder says so', async () => {
  const audio = await loadNative().openAudio(fixture('sweep.mp3'));
  audio.close();
  audio.close();
  assert.is(((await refusal(audio.read({ frames: 10 }))) as { code: string }).code, 'E_CLOSED');
  const opus = await loadNative().openAudio(fixture('opus-speech.opus'));
  assert.is(((await refusal(opus.read({ frames: 10 }))) as { code: string }).code, 'E_ARGUMENT');
});

test('a file that is shortened while it is read gives an error, not the end of the process', async () => {
  const file = join(folder, 'shrinking.wav');
  writeFileSync(file, wav(pcm16(murmur(90))));
  const stream = await openAudio(file);
  const error = await refusal(
    (async () => {
      for await (const _ of stream) truncateSync(file, 100_000);
    })(),
  );
  assert.match(error.message, 'truncated');
  assert.ok(readFileSync(file).length === 100_000);
});

test('calls that wait for one another each tell the level and the head of their own samples', async () => {
  const native = loadNative();
  const rate = 8000;
  const bytes = wav(Buffer.alloc(2 * rate * 20), { rate });
  for (let round = 0; round < 50; round++) {
    const audio = await native.openAudio(bytes);
    const reads = await Promise.all(Array.from({ length: 20 }, () => audio.read({ frames: rate })));
    assert.equal(
      reads.map(({ frames }) => frames),
      reads.map((_, i) => rate * (i + 1)),
    );
    audio.close();
  }
  const links = ['opus-stereo.opus', 'opus-speech.opus', 'opus-stereo.opus', 'opus-speech.opus'].map(fixture);
  const channels = [2, 1, 2, 1];
  for (let round = 0; round < 50; round++) {
    const audio = await native.openAudio(Buffer.concat(links));
    const reads = await Promise.all(Array.from({ length: 40 }, () => audio.readPackets({ samples: 960 * 10 })));
    const heard = reads.filter(({ lengths }) => lengths.length > 0);
    assert.equal([...new Set(heard.map(({ link }) => link))], [0, 1, 2, 3]);
    assert.equal(
      heard.map(({ head }) => head.channels),
      heard.map(({ link }) => channels[link]),
    );
    audio.close();
  }
});

test('two readers of one descriptor do not move each other', async () => {
  const file = join(folder, 'chain.ogg');
  writeFileSync(file, Buffer.concat(Array(12).fill(fixture('sweep.ogg'))));
  const descriptor = openSync(file, 'r');
  const native = loadNative();
  const read = async () => {
    const audio = await native.openAudio(descriptor);
    const parts: Float32Array[] = [];
    for (;;) {
      const { samples } = await audio.read({ frames: 1000 });
      if (samples.length === 0) break;
      parts.push(samples);
    }
    audio.close();
    return concat(parts);
  };
  const alone = await read();
  assert.is(worst(alone, (await decode(readFileSync(file))).samples), 0);
  for (const samples of await Promise.all([read(), read(), read()])) {
    assert.is(samples.length, alone.length);
    assert.is(worst(samples, alone), 0);
  }
  closeSync(descriptor);
});

test('a Vorbis file that is shortened while it is read gives an error too', async () => {
  const bytes = Buffer.concat(Array(12).fill(fixture('sweep.ogg')));
  for (const length of [bytes.length - 1000, bytes.length / 2, 6000]) {
    const file = join(folder, 'shrinking.ogg');
    writeFileSync(file, bytes);
    const descriptor = openSync(file, 'r');
    const audio = await loadNative().openAudio(descriptor);
    closeSync(descriptor);
    truncateSync(file, length);
    const error = await refusal(audio.read({ frames: 1 << 20 }));
    assert.is((error as { code: string }).code, 'E_AUDIO');
    assert.match(error.message, /truncated|cannot be read/);
    audio.close();
  }
});

test('memory that JavaScript can take away or share is refused, with a sentence', async () => {
  const native = loadNative();
  const resampler = native.openResampler({ rate: 44100 });
  const resizable = new (ArrayBuffer as unknown as new (n: number, o: object) => ArrayBuffer)(400, {
    maxByteLength: 400,
  });
  for (const [buffer, kind] of [
    [resizable, 'resizable'],
    [new SharedArrayBuffer(400), 'shared'],
  ] as const) {
    for (const call of [
      () => resampler.push(new Float32Array(buffer as ArrayBuffer)),
      async () => native.isAudio(new Uint8Array(buffer as ArrayBuffer)),
      () => native.openAudio(new Uint8Array(buffer as ArrayBuffer)),
    ]) {
      const error = (await refusal(call())) as { code: string; message: string; hint: string };
      assert.is(error.code, 'E_ARGUMENT');
      assert.match(error.message, kind);
      assert.match(error.hint, 'slice()');
    }
  }
  resampler.close();
});

test('samples for the resampler are its own once the call is made', async () => {
  const { openResampler } = loadNative();
  const samples = murmur(2);
  const expected = await resample(samples, 44100);
  const resampler = openResampler({ rate: 44100 });
  const parts = [samples.slice(0, SAMPLE_RATE), samples.slice(SAMPLE_RATE)];
  const pushed = parts.map((part) => resampler.push(part)); // the second waits for the first
  for (const { buffer } of parts) new Float32Array(structuredClone(buffer, { transfer: [buffer] })).fill(9);
  const out = concat([...(await Promise.all(pushed)), await resampler.finish()]);
  assert.is(worst(out, expected), 0);
  resampler.close();
});

test.run();
