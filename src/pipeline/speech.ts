/**
 * Is there anything that could be speech? Asked before Whisper, because Whisper answers silence and noise with invented words.
 *
 * Speech comes in syllables: its loudness rises and falls by far more than that of hiss, hum or a tone. The test looks at the
 * levels of 30 ms frames, and at nothing else: it lets music and shouting crowds pass, for which Whisper's own no-speech
 * probability is there.
 */
import { SAMPLE_RATE } from '../audio/stream.js';

/** Frames below this level are silence, dB of full scale. */
const SILENCE_DB = -60;
/** Speech has at least this much between its loud frames (95%) and its quiet ones (10%), dB. Steady noise has 2 to 4. */
const MODULATION_DB = 6;
/** Whisper ignores less than this, s. */
const SHORTEST = 0.1;
const FRAME = 0.03 * SAMPLE_RATE;

/** Null for what may be speech; else why it cannot be, fit to follow "no speech: ". */
export function whyNoSpeech(samples: Float32Array): string | null {
  if (samples.length < SHORTEST * SAMPLE_RATE) {
    return `it lasts ${((samples.length / SAMPLE_RATE) * 1000).toFixed(0)} ms, at least ${SHORTEST * 1000} ms are needed`;
  }
  const levels = frameLevels(samples).sort((a, b) => a - b);
  const at = (share: number) => levels[Math.min(levels.length - 1, Math.floor(share * levels.length))]!;
  const loud = at(0.95);
  if (loud < SILENCE_DB) return `it is silent (${loud.toFixed(0)} dB of full scale)`;
  // Less than half a second may be one vowel, which is as steady as a tone.
  if (samples.length > 0.5 * SAMPLE_RATE && loud - Math.max(at(0.1), -100) < MODULATION_DB) {
    return 'its loudness is as steady as noise or a tone';
  }
  return null;
}

/** dB of full scale of each frame; an exact zero counts as -120. */
export function frameLevels(samples: Float32Array): number[] {
  const levels: number[] = [];
  for (let start = 0; start + FRAME <= samples.length; start += FRAME) {
    let sum = 0;
    for (let i = start; i < start + FRAME; i++) sum += samples[i]! ** 2;
    levels.push(10 * Math.log10(Math.max(sum / FRAME, 1e-12)));
  }
  return levels;
}
