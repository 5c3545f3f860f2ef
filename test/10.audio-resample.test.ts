/** Resampling to 16 kHz: pass band, images, aliases, pieces, against soxr and against what the theory says. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SAMPLE_RATE } from '../src/audio/stream.js';
import { floats, random, resample, sine, worst } from './audio/make.js';

const RATES = [8000, 11025, 22050, 24000, 32000, 44100, 48000, 96000];
/** The tones of tools/golden/audio_fixtures.py. */
const KEPT = [110, 440, 1250, 2730, 3380, 4700, 6200, 6990];
const GONE = [8100, 9500, 12300, 15000, 20000, 30000];

const tone = (frequency: number, rate: number, n: number, phase: number) =>
  Math.sin((2 * Math.PI * frequency * n) / rate + phase);

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

test('tones come out as soxr gives them, and those above 8 kHz vanish', async () => {
  const soxr = floats('soxr.f32');
  for (const [i, rate] of RATES.entries()) {
    const chosen = [...KEPT.filter((f) => f < 0.43 * rate), ...GONE.filter((f) => f < 0.5 * rate)];
    const samples = Float32Array.from({ length: Math.round(0.4 * rate) }, (_, n) =>
      chosen.reduce((sum, f) => sum + 0.06 * tone(f, rate, n, f), 0),
    );
    const ours = (await resample(samples, rate)).subarray(2000, 2800);
    // soxr's filter is 0.007 dB low at 6990 Hz; 0.01 dB of one tone is 7e-5.
    const difference = worst(ours, soxr.subarray(800 * i, 800 * (i + 1)));
    assert.ok(difference < 7e-5, `${rate}: ${difference} from soxr`);
    const exact = Float32Array.from({ length: 800 }, (_, n) =>
      chosen.filter((f) => f < 7000).reduce((sum, f) => sum + 0.06 * tone(f, SAMPLE_RATE, n + 2000, f), 0),
    );
    assert.ok(worst(ours, exact) < 1e-6, `${rate}: ${worst(ours, exact)} from the tones themselves`);
  }
});

test('flat to 7 kHz within 0.1 dB, and no images', async () => {
  for (const rate of RATES) {
    for (const frequency of [100, 1000, 3000, 3400, 5000, 6000, 7000].filter((f) => f < rate * 0.43)) {
      const { level, rest } = spectrumAt(await resample(sine(frequency, rate), rate), frequency);
      assert.ok(Math.abs(level) < 0.1, `${frequency} Hz at ${rate}: ${level} dB`);
      assert.ok(rest < -80, `${frequency} Hz at ${rate}: images ${rest} dB`);
    }
  }
});

test('what lies above 8 kHz is gone, not folded down', async () => {
  for (const rate of RATES.filter((r) => r > SAMPLE_RATE)) {
    for (const frequency of [8050, 8500, 9000, 12000, 15000, 20000, 40000].filter((f) => f < rate / 2)) {
      const { rest } = spectrumAt(await resample(sine(frequency, rate), rate), 1);
      assert.ok(rest < -80, `${frequency} Hz at ${rate}: ${rest} dB`);
    }
  }
});

test('rates that share no factor with 16000 are as exact', async () => {
  for (const rate of [1001, 11127, 22255, 44099, 191999]) {
    const frequency = Math.min(7000, 4 * Math.floor((rate * 0.43) / 4)); // whole periods in the 0.75 s that are looked at
    const { level, rest } = spectrumAt(await resample(sine(frequency, rate), rate), frequency);
    assert.ok(Math.abs(level) < 0.1, `${rate}: ${level} dB`);
    assert.ok(rest < -80, `${rate}: images ${rest} dB`);
  }
});

test('in pieces of any length the result is the same to the last bit', async () => {
  for (const rate of [...RATES, 16000, 22255, 192000]) {
    const samples = Float32Array.from({ length: Math.round(rate * 0.7) + 3 }, (_, i) => random(i) / 2 ** 31 - 1);
    const whole = await resample(samples, rate);
    for (const pieces of [[1, 2, 3, 500], [997], [30000, 1]]) {
      assert.is(worst(await resample(samples, rate, pieces), whole), 0, `${rate} in ${pieces}`);
    }
  }
});

test('length and end are kept', async () => {
  for (const rate of [8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000]) {
    assert.is((await resample(sine(440, rate, 1), rate)).length, 16000, `${rate}`);
  }
  assert.is((await resample(Float32Array.of(1), 192000)).length, 1);
  assert.is((await resample(new Float32Array(0), 44100)).length, 0);
  const long = await resample(sine(440, 44100, 30), 44100);
  const expected = sine(440, 16000, 30);
  for (const i of [1000, 240000, 479000, 479900]) assert.ok(Math.abs(long[i]! - expected[i]!) < 1e-4, `sample ${i}`);
});

test('a constant stays a constant', async () => {
  for (const rate of RATES) {
    const out = await resample(new Float32Array(rate).fill(0.7), rate);
    assert.ok(worst(out.subarray(2000, 14000), new Float32Array(12000).fill(0.7)) < 1e-6, `${rate}`);
  }
});

test.run();
