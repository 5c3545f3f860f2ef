/** Audio files to 16 kHz mono samples: formats, damaged files, resampling, and the question whether it could be speech. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { VoiceGrpoError } from '../src/errors.js';
import type { NativeError } from '../src/native/addon.js';
import { loadNative } from '../src/native/load.js';
import { loadClip, mixDown, resample, SAMPLE_RATE } from '../src/pipeline/clip.js';
import { whyNoSpeech } from '../src/pipeline/speech.js';
import { philox4x32 } from '../src/random.js';

const folder = mkdtempSync(join(tmpdir(), 'voicegrpo-audio-'));
const fixture = (name: string) => readFileSync(join('test', 'audio', name));
const decode = (bytes: Uint8Array) => loadNative().decodeAudio(bytes);

/** 32 random bits that depend on `index` alone. */
const random = (index: number) => philox4x32([index, 0, 0, 0], [10, 0])[0];

interface WavShape {
  rate?: number;
  channels?: number;
  bits?: number;
  /** 1 PCM, 3 float */
  encoding?: number;
  dataBytes?: number;
}

function wav(
  data: Buffer,
  { rate = 16000, channels = 1, bits = 16, encoding = 1, dataBytes = data.length }: WavShape = {},
): Buffer {
  const header = Buffer.alloc(44);
  header.write('RIFF', 0);
  header.writeUInt32LE((36 + dataBytes) >>> 0, 4);
  header.write('WAVEfmt ', 8);
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(encoding, 20);
  header.writeUInt16LE(channels, 22);
  header.writeUInt32LE(rate, 24);
  header.writeUInt32LE((rate * channels * (bits / 8)) >>> 0, 28);
  header.writeUInt16LE((channels * (bits / 8)) & 0xffff, 32);
  header.writeUInt16LE(bits, 34);
  header.write('data', 36);
  header.writeUInt32LE(dataBytes >>> 0, 40);
  return Buffer.concat([header, data]);
}

function sine(frequency: number, rate: number, seconds = 1, amplitude = 0.5): Float32Array {
  return Float32Array.from(
    { length: Math.round(rate * seconds) },
    (_, i) => amplitude * Math.sin((2 * Math.PI * frequency * i) / rate),
  );
}

function pcm16(samples: Float32Array): Buffer {
  return Buffer.from(Int16Array.from(samples, (x) => Math.round(x * 32767)).buffer);
}

/** Level of the sine of this frequency in `samples`, and of everything else, in dB of a sine of amplitude 0.5. */
function spectrumAt(samples: Float32Array, frequency: number): { level: number; rest: number } {
  const edge = 2000; // the filter's beginning and end
  const n = samples.length - 2 * edge;
  let c = 0;
  let s = 0;
  for (let i = edge; i < edge + n; i++) {
    const phase = (2 * Math.PI * frequency * i) / SAMPLE_RATE;
    c += (2 / n) * samples[i]! * Math.cos(phase);
    s += (2 / n) * samples[i]! * Math.sin(phase);
  }
  let rest = 0;
  for (let i = edge; i < edge + n; i++) {
    const phase = (2 * Math.PI * frequency * i) / SAMPLE_RATE;
    rest += (samples[i]! - c * Math.cos(phase) - s * Math.sin(phase)) ** 2;
  }
  return { level: 20 * Math.log10(Math.hypot(c, s) / 0.5), rest: 10 * Math.log10(rest / n / 0.125) };
}

async function audioError(bytes: Uint8Array, what: string): Promise<NativeError> {
  try {
    await decode(bytes);
  } catch (error) {
    assert.is((error as NativeError).code, 'E_AUDIO', what);
    assert.match((error as NativeError).hint, 'WAV, MP3, FLAC', what);
    return error as NativeError;
  }
  throw new Error(`${what}: no error came`);
}

test('WAV in every common width gives the same samples', async () => {
  const tone = sine(440, 16000, 0.1);
  const bytes = Buffer.from(Uint8Array.from(tone, (x) => Math.round(x * 127) + 128));
  const three = Buffer.alloc(tone.length * 3);
  tone.forEach((x, i) => {
    three.writeIntLE(Math.round(x * 8388607), 3 * i, 3);
  });
  const cases: [string, Buffer, number][] = [
    ['8 bits', wav(bytes, { bits: 8 }), 1e-2],
    ['16 bits', wav(pcm16(tone)), 1e-4],
    ['24 bits', wav(three, { bits: 24 }), 1e-6],
    ['float', wav(Buffer.from(tone.slice().buffer), { bits: 32, encoding: 3 }), 0],
  ];
  for (const [what, file, tolerance] of cases) {
    const audio = await decode(file);
    assert.is(audio.format, 'wav');
    assert.is(audio.samples.length, tone.length, what);
    const worst = Math.max(...audio.samples.map((x, i) => Math.abs(x - tone[i]!)));
    assert.ok(worst <= tolerance, `${what}: ${worst}`);
  }
});

test('MP3, FLAC and Ogg Vorbis are recognised by content and decoded whole', async () => {
  const expected = { mp3: [44100, 2], flac: [22050, 2], vorbis: [44100, 2] };
  for (const name of ['sweep.mp3', 'sweep.flac', 'sweep.ogg']) {
    const audio = await decode(fixture(name));
    const [rate, channels] = expected[audio.format as keyof typeof expected];
    assert.equal([audio.sampleRate, audio.channels], [rate, channels], name);
    const seconds = audio.samples.length / audio.channels / audio.sampleRate;
    assert.ok(Math.abs(seconds - 0.8) < 0.06, `${name}: ${seconds} s`);
    const power = audio.samples.reduce((sum, x) => sum + x * x, 0) / audio.samples.length;
    assert.ok(Math.abs(Math.sqrt(power) - 0.5 / Math.SQRT2) < 0.02, `${name}: rms ${Math.sqrt(power)}`);
  }
});

test('channels are averaged', () => {
  assert.equal([...mixDown(Float32Array.of(1, 0, 0.5, -0.5, 0.25, 0.75), 2)], [0.5, 0, 0.5]);
});

test('a file cut anywhere is an error, in every format', async () => {
  const files: [string, Buffer][] = [
    ['wav', wav(pcm16(sine(440, 16000, 0.2)))],
    ...['sweep.mp3', 'sweep.flac', 'sweep.ogg'].map((name): [string, Buffer] => [name, fixture(name)]),
  ];
  for (const [name, file] of files) {
    for (let k = 0; k < 40; k++) {
      const length = random(k) % (file.length - 1);
      await audioError(file.subarray(0, length), `${name} cut to ${length} of ${file.length} bytes`);
    }
  }
});

test('what is not audio says so', async () => {
  assert.match((await audioError(new Uint8Array(0), 'empty')).message, 'empty');
  assert.match((await audioError(Buffer.from('hello, this is a text\n'), 'text')).message, 'not audio');
  const noise = Buffer.from(Uint32Array.from({ length: 2000 }, (_, i) => random(i)).buffer);
  assert.match((await audioError(noise, 'random bytes')).message, 'not audio');
  assert.match((await audioError(readFileSync('package.json'), 'json')).message, 'not audio');
});

test('headers that lie are errors, and cost no memory', async () => {
  const data = pcm16(sine(440, 16000, 0.05));
  const before = process.memoryUsage().rss;
  for (const shape of [
    { rate: 0 },
    { rate: 10 },
    { rate: 4294967295 },
    { channels: 0 },
    { channels: 65535 },
    { bits: 0 },
  ] as WavShape[]) {
    await audioError(wav(data, shape), JSON.stringify(shape));
  }
  assert.match((await audioError(wav(data, { dataBytes: 1 << 30 }), 'a gigabyte')).message, 'truncated');
  assert.match((await audioError(wav(Buffer.alloc(0)), 'no data')).message, 'no audio');
  const nan = Float32Array.of(0, Number.NaN, 0, 0);
  await audioError(wav(Buffer.from(nan.buffer), { bits: 32, encoding: 3 }), 'NaN');
  assert.ok(process.memoryUsage().rss - before < 200e6);
});

test('a length that a pipe left open is taken as the rest of the file', async () => {
  const data = pcm16(sine(440, 16000, 0.05));
  assert.is((await decode(wav(data, { dataBytes: 0xffffffff }))).samples.length, data.length / 2);
});

test('a thousand files with damaged bytes: decoded or refused, never worse', async () => {
  let refused = 0;
  for (const [f, name] of ['sweep.mp3', 'sweep.flac', 'sweep.ogg'].entries()) {
    for (let k = 0; k < 334; k++) {
      const bytes = Buffer.from(fixture(name));
      for (let flip = 0; flip < 3; flip++) {
        const r = random(1000 + f * 10000 + k * 10 + flip);
        bytes[r % Math.min(bytes.length, k % 2 ? 400 : bytes.length)] = (r >>> 24) & 255;
      }
      const outcome = await decode(bytes).catch((error: NativeError) => error);
      if (outcome instanceof Error) {
        assert.ok(['E_AUDIO', 'E_LIMIT'].includes((outcome as NativeError).code), `${name} ${k}: ${outcome.message}`);
        refused++;
      }
    }
  }
  assert.ok(refused > 300, `${refused}`);
});

test('resampling is flat to 7 kHz within 0.1 dB, and nothing else comes out', async () => {
  for (const rate of [8000, 44100, 48000]) {
    for (const frequency of [100, 440, 1000, 3000, 3400, 5000, 7000].filter((f) => f < rate * 0.43)) {
      const { level, rest } = spectrumAt(await resample(sine(frequency, rate), rate), frequency);
      assert.ok(Math.abs(level) < 0.1, `${frequency} Hz at ${rate}: ${level} dB`);
      assert.ok(rest < -80, `${frequency} Hz at ${rate}: images ${rest} dB`);
    }
  }
});

test('what lies above 8 kHz is gone, not folded down', async () => {
  for (const rate of [44100, 48000]) {
    for (const frequency of [8500, 9000, 12000, 15000, 20000]) {
      const { rest } = spectrumAt(await resample(sine(frequency, rate), rate), 1);
      assert.ok(rest < -80, `${frequency} Hz at ${rate}: ${rest} dB`);
    }
  }
});

test('resampling keeps the length and the end', async () => {
  for (const rate of [8000, 11025, 22050, 44100, 48000, 96000, 192000]) {
    assert.is((await resample(sine(440, rate, 1), rate)).length, 16000, `${rate}`);
  }
  const long = await resample(sine(440, 44100, 30), 44100); // longer than one block of the library
  const expected = sine(440, 16000, 30);
  for (const i of [1000, 240000, 479000, 479900]) assert.ok(Math.abs(long[i]! - expected[i]!) < 1e-4, `sample ${i}`);
});

test('loadClip measures the file', async () => {
  const file = join(folder, 'stereo.wav');
  const left = sine(500, 8000, 1, 0.8);
  const interleaved = Float32Array.from({ length: 16000 }, (_, i) => (i % 2 === 0 ? left[i >> 1]! : 0));
  writeFileSync(file, wav(pcm16(interleaved), { rate: 8000, channels: 2 }));
  const clip = await loadClip(file);
  assert.equal([clip.sampleRate, clip.channels, clip.duration, clip.format], [8000, 2, 1, 'wav']);
  assert.ok(Math.abs(clip.peak - 0.8) < 1e-3);
  assert.ok(Math.abs(clip.rms - 0.4) < 1e-3, `${clip.rms}`); // 0.8/√2 in one channel of two
  assert.is(clip.samples.length, 16000);
  assert.match(clip.hash, /^[0-9a-f]{64}$/);
});

test('errors name the file', async () => {
  for (const [file, part] of [
    [join(folder, 'nothing.wav'), 'no such file'],
    [folder, 'folder'],
    ['package.json', 'not audio'],
  ] as const) {
    const error = (await loadClip(file).catch((e) => e)) as VoiceGrpoError;
    assert.is(error.code, 'E_AUDIO');
    assert.ok(error.message.startsWith(file) && error.message.includes(part), error.message);
  }
});

test('silence, noise, tones and crumbs are no speech; the bundled clips are', async () => {
  const noise = Float32Array.from({ length: 32000 }, (_, i) => (random(i) / 2 ** 32 - 0.5) * 0.2);
  assert.match(whyNoSpeech(new Float32Array(16000)) ?? '', 'silent');
  assert.match(whyNoSpeech(noise) ?? '', 'steady');
  assert.match(whyNoSpeech(sine(440, 16000, 2)) ?? '', 'steady');
  assert.match(whyNoSpeech(noise.subarray(0, 1000)) ?? '', 'ms');
  for (const label of ['ifeval', 'commoneval', 'wildvoice']) {
    for (let n = 0; n < 10; n++) {
      const { samples } = await loadClip(join('assets', 'clips', label, `${String(n * 7).padStart(3, '0')}.ogg`));
      assert.is(whyNoSpeech(samples), null, `${label} ${n * 7}`);
      // 10 dB of noise below the speech does not hide it.
      const rms = Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length);
      const noisy = samples.map((x, i) => x + (random(i) / 2 ** 32 - 0.5) * Math.sqrt(12) * rms * 0.316);
      assert.is(whyNoSpeech(noisy), null, `${label} ${n * 7} with noise`);
    }
  }
});

test.run();
