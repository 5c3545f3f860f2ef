/** Audio files of every format to samples: what is decoded, what is refused and how, and the question whether it could be speech. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OpusFrames } from '../src/audio/opus.js';
import { openAudio } from '../src/audio/stream.js';
import type { VoiceGrpoError } from '../src/errors.js';
import { loadNative } from '../src/native/load.js';
import { loadClip } from '../src/pipeline/clip.js';
import { whyNoSpeech } from '../src/pipeline/speech.js';
import {
  concat,
  decode,
  fixture,
  floats,
  floatWav,
  oggPages,
  pcm16,
  random,
  read,
  repairOgg,
  rmsOf,
  sine,
  type WavShape,
  wav,
  worst,
} from './audio/make.js';

const folder = mkdtempSync(join(tmpdir(), 'voicegrpo-audio-'));
const SWEEPS = ['sweep.mp3', 'sweep.flac', 'sweep.ogg'];
const OPUS = ['opus-stereo', 'opus-speech', 'opus-surround'];

async function audioError(bytes: Uint8Array, what: string): Promise<VoiceGrpoError> {
  try {
    await read(bytes);
  } catch (error) {
    const { code, message, hint, stack } = error as VoiceGrpoError;
    assert.is(code, 'E_AUDIO', `${what}: ${stack}`);
    assert.match(message, /^<bytes>: .+/, what);
    assert.ok(hint.length > 10, what);
    return error as VoiceGrpoError;
  }
  throw new Error(`${what}: no error came`);
}

/** Opus at 48 kHz, the channels averaged. */
async function decodeOpus(bytes: Uint8Array): Promise<Float32Array> {
  const opus = new OpusFrames(await loadNative().openAudio(bytes), 'opus');
  try {
    const parts: Float32Array[] = [];
    for (;;) {
      const { samples } = await opus.read({ frames: 10_000 });
      if (samples.length === 0) return concat(parts);
      parts.push(samples);
    }
  } finally {
    opus.close();
  }
}

test('WAV in every width gives the same samples', async () => {
  const tone = sine(440, 16000, 0.1);
  const bytes = Buffer.from(Uint8Array.from(tone, (x) => Math.round(x * 127) + 128));
  const three = Buffer.alloc(tone.length * 3);
  tone.forEach((x, i) => {
    three.writeIntLE(Math.round(x * 8388607), 3 * i, 3);
  });
  const four = Buffer.from(Int32Array.from(tone, (x) => Math.round(x * 2147483647)).buffer);
  const doubles = Buffer.from(Float64Array.from(tone).buffer);
  const cases: [string, Buffer, number][] = [
    ['8 bits', wav(bytes, { bits: 8 }), 1e-2],
    ['16 bits', wav(pcm16(tone)), 1e-4],
    ['24 bits', wav(three, { bits: 24 }), 1e-6],
    ['32 bits', wav(four, { bits: 32 }), 1e-7],
    ['float', floatWav(tone), 0],
    ['double', wav(doubles, { bits: 64, encoding: 3 }), 0],
    ['extensible 24 bits', wav(three, { bits: 24, extensible: true }), 1e-6],
    ['extensible float', floatWav(tone, { extensible: true }), 0],
  ];
  for (const [what, file, tolerance] of cases) {
    const audio = await decode(file);
    assert.equal([audio.format, audio.sampleRate, audio.channels, audio.frames], ['wav', 16000, 1, 1600], what);
    assert.ok(worst(audio.samples, tone) <= tolerance, `${what}: ${worst(audio.samples, tone)}`);
  }
});

/** RF64: the size is in a chunk of its own. */
function rf64(data: Buffer, dataBytes: bigint): Buffer {
  const plain = wav(data, { dataBytes: 0xffffffff });
  const ds64 = Buffer.alloc(36);
  ds64.write('ds64', 0);
  ds64.writeUInt32LE(28, 4);
  ds64.writeBigUInt64LE(BigInt(data.length) + 72n, 8);
  ds64.writeBigUInt64LE(dataBytes, 16);
  const file = Buffer.concat([plain.subarray(0, 12), ds64, plain.subarray(12)]);
  file.write('RF64', 0);
  file.writeUInt32LE(0xffffffff, 4);
  return file;
}

/** W64: GUIDs as names, 64-bit sizes that count their header. */
function w64(data: Buffer, dataBytes = BigInt(data.length)): Buffer {
  const guid = (name: string, rest: string) => Buffer.concat([Buffer.from(name), Buffer.from(rest, 'hex')]);
  const size = (value: bigint) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(value);
    return bytes;
  };
  const OTHERS = 'f3acd3118cd100c04f8edb8a';
  return Buffer.concat([
    guid('riff', '2e91cf11a5d628db04c10000'),
    size(BigInt(104 + data.length)),
    guid('wave', OTHERS),
    guid('fmt ', OTHERS),
    size(40n),
    wav(data).subarray(20, 36),
    guid('data', OTHERS),
    size(24n + dataBytes),
    data,
  ]);
}

test('RF64, W64 and RIFX are WAV too', async () => {
  const tone = sine(440, 16000, 0.1);
  const data = pcm16(tone);
  const rifx = wav(data);
  rifx.write('RIFX', 0);
  for (const at of [4, 16, 24, 28, 40]) rifx.subarray(at, at + 4).swap32();
  for (const at of [20, 22, 32, 34]) rifx.subarray(at, at + 2).swap16();
  rifx.subarray(44).swap16();
  for (const [what, file] of [
    ['RF64', rf64(data, BigInt(data.length))],
    ['W64', w64(data)],
    ['RIFX', rifx],
  ] as const) {
    const audio = await decode(file);
    assert.equal([audio.format, audio.frames], ['wav', 1600], what);
    assert.ok(worst(audio.samples, tone) < 1e-4, what);
  }
  assert.match((await audioError(rf64(data, 1n << 40n), 'RF64 of a terabyte')).message, 'truncated');
  assert.match((await audioError(w64(data, 1n << 40n), 'W64 of a terabyte')).message, 'truncated');
});

test('MP3, FLAC and Ogg Vorbis are recognised by content and decoded whole', async () => {
  const expected = { mp3: [44100, 2], flac: [22050, 2], vorbis: [44100, 2] };
  for (const name of SWEEPS) {
    const audio = await decode(fixture(name));
    const [rate, channels] = expected[audio.format as keyof typeof expected];
    assert.equal([audio.sampleRate, audio.channels], [rate, channels], name);
    const seconds = audio.samples.length / audio.sampleRate;
    assert.ok(Math.abs(seconds - 0.8) < 0.06, `${name}: ${seconds} s`);
    assert.is(audio.frames, audio.samples.length, `${name}: the length is known beforehand`);
    assert.ok(Math.abs(rmsOf(audio.samples) - 0.5 / Math.SQRT2) < 0.02, `${name}: rms ${rmsOf(audio.samples)}`);
  }
});

test('Opus is what libopus decodes, from the first sample to the last', async () => {
  const lengths = { 'opus-stereo': 37123, 'opus-speech': 45678, 'opus-surround': 14400 };
  for (const name of OPUS) {
    const bytes = fixture(`${name}.opus`);
    const samples = await decodeOpus(bytes);
    assert.is(samples.length, lengths[name as keyof typeof lengths], name);
    const difference = worst(
      samples.filter((_, i) => i % 40 === 0),
      floats(`${name}.f32`),
    );
    assert.ok(difference < 2e-4, `${name}: ${difference}`);
    const stream = await openAudio(bytes);
    assert.is(stream.info.duration, samples.length / 48000);
    await stream.close();
  }
});

test('the gain of an Opus header is applied', async () => {
  const bytes = fixture('opus-speech.opus');
  const plain = await decodeOpus(bytes);
  const head = bytes.indexOf('OpusHead');
  bytes.writeInt16LE(-6 * 256, head + 16);
  const quieter = await decodeOpus(repairOgg(bytes));
  const factor = 10 ** (-6 / 20);
  assert.ok(
    worst(
      quieter,
      plain.map((x) => x * factor),
    ) < 1e-6,
  );
});

test('Opus that begins in the middle of a recording begins with its first sample', async () => {
  const bytes = fixture('opus-stereo.opus');
  const shifted = Buffer.from(bytes);
  for (const [begin] of oggPages(shifted).slice(2)) {
    shifted.writeBigUInt64LE(shifted.readBigUInt64LE(begin + 6) + 1_000_000_000n, begin + 6);
  }
  assert.is(worst(await decodeOpus(repairOgg(shifted)), await decodeOpus(bytes)), 0);
});

test('chained Ogg streams are heard one after another', async () => {
  const [stereo, speech] = [fixture('opus-stereo.opus'), fixture('opus-speech.opus')];
  const both = concat([await decodeOpus(stereo), await decodeOpus(speech)]);
  assert.is(worst(await decodeOpus(Buffer.concat([stereo, speech])), both), 0, 'Opus, stereo and mono');

  const vorbis = fixture('sweep.ogg');
  const once = await decode(vorbis);
  const twice = concat([once.samples, once.samples]);
  const chained = Buffer.concat([vorbis, vorbis]);
  assert.is(worst((await decode(chained)).samples, twice), 0, 'Vorbis in memory');
  const file = join(folder, 'chained.ogg');
  writeFileSync(file, chained);
  const clip = await loadClip(file);
  assert.is(clip.duration, twice.length / 44100, 'Vorbis in a file');
  assert.is(worst(clip.samples, (await loadClip(chained)).samples), 0);
  assert.match((await audioError(Buffer.concat([vorbis, stereo]), 'Vorbis, then Opus')).message, 'changes its codec');
});

test('tags before, tags and junk behind, and a wrong name do no harm', async () => {
  const tag = Buffer.concat([Buffer.from('ID3\x04\0\0\0\0\x02\x00'), Buffer.alloc(256, 0xff)]);
  const noise = Buffer.from(Uint32Array.from({ length: 500 }, (_, i) => random(i)).buffer);
  const tone = wav(pcm16(sine(440, 16000, 0.1)));
  const cases: [string, Buffer, Buffer][] = [
    ['an ID3 tag before MP3', Buffer.concat([tag, fixture('sweep.mp3')]), fixture('sweep.mp3')],
    ['two ID3 tags before MP3', Buffer.concat([tag, tag, fixture('sweep.mp3')]), fixture('sweep.mp3')],
    ['an ID3 tag before FLAC', Buffer.concat([tag, fixture('sweep.flac')]), fixture('sweep.flac')],
    ['ID3v1 behind MP3', Buffer.concat([fixture('sweep.mp3'), Buffer.from('TAG'.padEnd(128))]), fixture('sweep.mp3')],
    ['zeros behind MP3', Buffer.concat([fixture('sweep.mp3'), Buffer.alloc(999)]), fixture('sweep.mp3')],
    ['junk behind WAV', Buffer.concat([tone, noise]), tone],
    ['junk behind FLAC', Buffer.concat([fixture('sweep.flac'), noise]), fixture('sweep.flac')],
    ['junk behind Vorbis', Buffer.concat([fixture('sweep.ogg'), noise]), fixture('sweep.ogg')],
    ['junk behind Opus', Buffer.concat([fixture('opus-speech.opus'), noise]), fixture('opus-speech.opus')],
  ];
  for (const [what, bytes, plain] of cases) assert.is(worst(await read(bytes), await read(plain)), 0, what);
  const junk = await audioError(Buffer.concat([fixture('sweep.mp3'), noise]), 'junk behind MP3');
  assert.match(junk.message, 'no MP3 frame begins there');

  const file = join(folder, 'opus.wav');
  writeFileSync(file, fixture('opus-speech.opus'));
  assert.is((await loadClip(file)).format, 'opus');
});

test('a file cut anywhere is an error, in every format', async () => {
  const names = [...SWEEPS, ...OPUS.map((name) => `${name}.opus`)];
  const files: [string, Buffer][] = [
    ['wav', wav(pcm16(sine(440, 16000, 0.2)))],
    ['w64', w64(pcm16(sine(440, 16000, 0.2)))],
    ...names.map((name): [string, Buffer] => [name, fixture(name)]),
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
  const other = fixture('sweep.ogg');
  other.write('theora', other.indexOf('vorbis'));
  assert.match((await audioError(repairOgg(other), 'video')).message, 'without Vorbis or Opus');
});

test('headers that lie are errors, and cost no memory', async () => {
  const data = pcm16(sine(440, 16000, 0.05));
  const before = process.memoryUsage().rss;
  for (const shape of [
    { rate: 0 },
    { rate: 10 },
    { rate: 4294967295 },
    { channels: 0 },
    { channels: 64 },
    { channels: 65535 },
    { bits: 0 },
    { bits: 65535 },
    { encoding: 0xabcd },
  ] as WavShape[]) {
    await audioError(wav(data, shape), JSON.stringify(shape));
  }
  assert.match((await audioError(wav(data, { channels: 64, bits: 8 }), '64 channels')).message, '64 channels');
  assert.match((await audioError(wav(data, { dataBytes: 4e9 }), 'four gigabytes')).message, 'truncated');
  assert.match((await audioError(wav(Buffer.alloc(0)), 'no data')).message, 'no audio');

  const flac = fixture('sweep.flac');
  flac.writeUInt32BE(0xffffffff, 22); // samples
  assert.match((await audioError(flac, 'FLAC of four billion samples')).message, 'promises');

  const mp3 = fixture('sweep.mp3');
  const info = Math.max(mp3.indexOf('Info'), mp3.indexOf('Xing'));
  assert.ok(info > 0);
  mp3.writeUInt32BE(0x00ffffff, info + 8); // frames
  assert.match((await audioError(mp3, 'MP3 of 16 million frames')).message, 'promises');

  const vorbis = readFileSync('assets/clips/ifeval/000.ogg'); // of several pages
  const pages = oggPages(vorbis);
  assert.ok(pages.length > 4);
  for (const [granule, expected] of [
    [1n << 30n, 'promises'],
    [1n << 60n, 'impossible'],
  ] as const) {
    vorbis.writeBigUInt64LE(granule, pages.at(-1)![0] + 6);
    assert.match((await audioError(repairOgg(vorbis), `Vorbis at granule ${granule}`)).message, expected);
  }
  assert.ok(process.memoryUsage().rss - before < 200e6);
});

test('samples that are not numbers are refused, whatever the format of the numbers', async () => {
  for (const wrong of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    const samples = sine(440, 16000, 0.1);
    samples[1000] = wrong;
    assert.match((await audioError(floatWav(samples), `${wrong}`)).message, 'not numbers');
    const doubles = Buffer.from(Float64Array.from(samples).buffer);
    assert.match((await audioError(wav(doubles, { bits: 64, encoding: 3 }), `${wrong}`)).message, 'not numbers');
  }
  const large = Buffer.from(Float64Array.of(0, 1e300, 0).buffer); // infinite as float32
  assert.match((await audioError(wav(large, { bits: 64, encoding: 3 }), '1e300')).message, 'not numbers');
});

test('Opus headers and packets that lie are errors', async () => {
  const change = (edit: (bytes: Buffer, head: number, audio: number) => void) => {
    const bytes = fixture('opus-stereo.opus');
    const [begin] = oggPages(bytes)[2]!;
    edit(bytes, bytes.indexOf('OpusHead'), begin + 27 + bytes[begin + 26]!);
    return repairOgg(bytes);
  };
  const cases: [string, RegExp, Buffer][] = [
    ['255 channels', /255 channels/, change((b, head) => b.writeUInt8(255, head + 9))],
    ['no channels', /0 channels/, change((b, head) => b.writeUInt8(0, head + 9))],
    ['another version', /header/, change((b, head) => b.writeUInt8(0x10, head + 8))],
    ['5 channels and no mapping', /5 channels/, change((b, head) => b.writeUInt8(5, head + 9))],
    ['family 3', /family 3/, change((b, head) => b.writeUInt8(3, head + 18))],
    ['a mapping that is not there', /cannot be read/, change((b, head) => b.writeUInt8(1, head + 18))],
    ['no comments', /comments/, change((b) => b.write('OpusTogs', b.indexOf('OpusTags')))],
    ['a packet of no frames', /no Opus packet/, change((b, _, at) => b.writeUInt16BE(0xff00, at))],
    ['a packet of 240 ms', /no Opus packet/, change((b, _, at) => b.writeUInt16BE(0xff0c, at))],
  ];
  for (const [what, expected, bytes] of cases) assert.match((await audioError(bytes, what)).message, expected, what);

  const surround = fixture('opus-surround.opus');
  const head = surround.indexOf('OpusHead');
  for (const [at, value] of [
    [19, 0],
    [19, 255],
    [20, 200],
    [21, 77],
  ] as const) {
    const bytes = Buffer.from(surround);
    bytes.writeUInt8(value, head + at);
    await audioError(repairOgg(bytes), `byte ${at} of the surround header is ${value}`);
  }
  const channels = Buffer.from(surround); // 255 channels, each with a mapping
  channels.writeUInt8(255, head + 9);
  assert.match((await audioError(repairOgg(channels), '255 mapped')).message, '255 channels');
});

test('a length that a pipe left open is taken as the rest of the file', async () => {
  const data = pcm16(sine(440, 16000, 0.05));
  for (const dataBytes of [0xffffffff, 0xffffff00, 0x7ffff000]) {
    const audio = await decode(wav(data, { dataBytes }));
    assert.equal([audio.samples.length, audio.frames], [data.length / 2, data.length / 2], `${dataBytes}`);
  }
  for (const [what, file] of [
    ['W64', w64(data, (1n << 63n) - 25n)],
    ['RF64', rf64(data, 0n)],
  ] as const) {
    const { samples, frames } = await decode(file);
    assert.equal([samples.length, frames], [data.length / 2, data.length / 2], what);
  }
  const flac = fixture('sweep.flac');
  flac.writeUInt8(flac[21]! & 0xf0, 21);
  flac.writeUInt32BE(0, 22); // what an encoder leaves that could not go back
  const audio = await decode(flac);
  assert.is(audio.frames, null);
  assert.is(worst(audio.samples, (await decode(fixture('sweep.flac'))).samples), 0);
});

test('thousands of files with damaged bytes: decoded or refused, never worse', async () => {
  const opus = OPUS.map((name) => `${name}.opus`);
  const originals: [string, Buffer][] = [
    ...[...SWEEPS, ...opus].map((name): [string, Buffer] => [name, fixture(name)]),
    ['24 bits', wav(Buffer.alloc(3000, 7), { bits: 24, channels: 2, extensible: true })],
    ['w64', w64(pcm16(sine(440, 16000, 0.05)))],
  ];
  for (const [f, [name, original]] of originals.entries()) {
    let refused = 0;
    for (let k = 0; k < 400; k++) {
      const bytes = Buffer.from(original);
      for (let flip = 0; flip < 3; flip++) {
        const r = random(1000 + f * 10000 + k * 10 + flip);
        bytes[r % Math.min(bytes.length, k % 2 ? 400 : bytes.length)] = (r >>> 24) & 255;
      }
      // Half of the Ogg files have good checksums, so that the damage reaches the decoder.
      const file = k % 4 < 2 && /\.(ogg|opus)$/.test(name) ? repairOgg(bytes) : bytes;
      const outcome = await read(file).catch((error: VoiceGrpoError) => error);
      if (outcome instanceof Error) {
        const { code, message, stack } = outcome as VoiceGrpoError;
        assert.ok(['E_AUDIO', 'E_LIMIT'].includes(code), `${name} ${k}: ${stack}`);
        assert.match(message, /^<bytes>: /, `${name} ${k}`);
        refused++;
      } else {
        assert.ok(outcome.every(Number.isFinite), `${name} ${k}`);
      }
    }
    assert.ok(refused > 20 && refused <= 400, `${name}: ${refused} refused`);
  }
});

test('loadClip measures the file', async () => {
  const file = join(folder, 'stereo.wav');
  const left = sine(500, 8000, 1, 0.8);
  const interleaved = Float32Array.from({ length: 16000 }, (_, i) => (i % 2 === 0 ? left[i >> 1]! : 0));
  writeFileSync(file, wav(pcm16(interleaved), { rate: 8000, channels: 2 }));
  const clip = await loadClip(file);
  assert.equal([clip.file, clip.sampleRate, clip.channels, clip.duration, clip.format], [file, 8000, 2, 1, 'wav']);
  assert.ok(Math.abs(clip.peak - 0.8) < 1e-3);
  assert.ok(Math.abs(clip.rms - 0.4) < 1e-3, `${clip.rms}`); // 0.8/√2 in one channel of two
  assert.is(clip.samples.length, 16000);
  assert.match(clip.hash, /^[0-9a-f]{64}$/);
});

test('errors name the file', async () => {
  for (const [file, part] of [
    [join(folder, 'nothing.wav'), 'no such file'],
    [join('package.json', 'nothing.wav'), 'no such file'],
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
      const rms = rmsOf(samples);
      const noisy = samples.map((x, i) => x + (random(i) / 2 ** 32 - 0.5) * Math.sqrt(12) * rms * 0.316);
      assert.is(whyNoSpeech(noisy), null, `${label} ${n * 7} with noise`);
    }
  }
});

test.run();
