/**
 * The filters between Whisper's spectrum and its mel bins, as `librosa.filters.mel(sr=16000, n_fft=400, n_mels=bins)` computes
 * them: Slaney's scale (Auditory Toolbox, 1998), triangles of equal area. Operation for operation in librosa's order, in
 * float64 with its two roundings to float32, so that the bytes are those of openai-whisper's mel_filters.npz.
 */

/** Frequencies of the spectrum: a window of 400 samples has 201. */
export const SPECTRUM_BINS = 201;

const SAMPLE_RATE = 16000;
const WINDOW = 400;
/** Below 1 kHz the scale is linear, above logarithmic: 27 steps for a factor of 6.4. */
const LINEAR_STEP = 200 / 3;
const BREAK_HZ = 1000;
const BREAK_MEL = BREAK_HZ / LINEAR_STEP;
const LOG_STEP = Math.log(6.4) / 27;

function toMel(hz: number): number {
  return hz >= BREAK_HZ ? BREAK_MEL + Math.log(hz / BREAK_HZ) / LOG_STEP : hz / LINEAR_STEP;
}

function toHz(mel: number): number {
  return mel >= BREAK_MEL ? BREAK_HZ * Math.exp(LOG_STEP * (mel - BREAK_MEL)) : LINEAR_STEP * mel;
}

/** @returns [bins, SPECTRUM_BINS], row after row */
export function melFilters(bins: number): Float32Array {
  const top = toMel(SAMPLE_RATE / 2);
  const edges = Array.from({ length: bins + 2 }, (_, i) => toHz(i === bins + 1 ? top : i * (top / (bins + 1))));
  const filters = new Float32Array(bins * SPECTRUM_BINS);
  for (let bin = 0; bin < bins; bin++) {
    const [low, middle, high] = edges.slice(bin, bin + 3) as [number, number, number];
    const area = 2 / (high - low);
    for (let k = 0; k < SPECTRUM_BINS; k++) {
      const hz = (k * SAMPLE_RATE) / WINDOW;
      const weight = Math.min(-(low - hz) / (middle - low), (high - hz) / (high - middle));
      // Not Math.max: the weight of 0 Hz in the first triangle is -0 in librosa.
      filters[bin * SPECTRUM_BINS + k] = Math.fround(weight < 0 ? 0 : weight) * area;
    }
  }
  return filters;
}
