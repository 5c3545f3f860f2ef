/**
 * A Whisper that says what it was told to, whatever it hears: a ggml file without a layer that does anything. The residual
 * stream at place p is then the embedding of the token there and the positional embedding of p, and the latter is made of
 * the embeddings of the tokens that shall come next. With weights of 64 numbers one of them gets nearly all probability.
 */
import { writeFileSync } from 'node:fs';
import { melFilters, SPECTRUM_BINS } from '../../src/formats/mel-filters.js';
import { whisperShapes } from '../../src/formats/whisper-checkpoint.js';
import { whisperVocabulary } from '../../src/formats/whisper-vocabulary.js';
import { randomInteger } from '../../src/random.js';

const WIDTH = 64;
const VOCAB = 51865;
/** Multilingual vocabulary. */
export const EOT = 50257;
export const SOT = 50258;
export const TRANSLATE = 50358;
export const NO_SPEECH = 50362;
/** <|t|> of t seconds. */
export const time = (seconds: number) => 50364 + Math.round(seconds * 50);
/** <|xx|> of whisper.cpp's language number. */
export const language = (id: number) => SOT + 1 + id;

/** Tokens that may come after a place, with the strength of each. */
export type Place = number | [token: number, strength: number][];

const words = whisperVocabulary(VOCAB).map((word) => Buffer.from(word));
const ids = new Map(words.map((word, id) => [word.toString('latin1'), id]));

/** The token of exactly these bytes. */
export function token(text: string | Uint8Array): number {
  const id = ids.get(Buffer.from(text as string).toString('latin1'));
  if (id === undefined) throw new Error(`the vocabulary lacks ${text}`);
  return id;
}

/** Float16 of numbers that it holds, none of them subnormal. */
function halves(values: Float32Array): Buffer {
  const bits = Uint16Array.from(values, (value) => {
    if (value === 0) return 0;
    const exponent = Math.floor(Math.log2(Math.abs(value)));
    const mantissa = Math.round((Math.abs(value) / 2 ** exponent - 1) * 1024);
    return (value < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | mantissa;
  });
  return Buffer.from(bits.buffer);
}

const integers = (...values: number[]) => Buffer.from(Int32Array.from(values).buffer);

/** ±1/2, the same on every machine. */
const embedding = new Float32Array(VOCAB * WIDTH);
for (let i = 0; i < embedding.length; i += 32) {
  const bits = randomInteger(21, 'whisper-script', 0, 0, i / 32, 2 ** 32);
  for (let k = 0; k < 32; k++) embedding[i + k] = (bits >>> k) & 1 ? 0.5 : -0.5;
}
const storedEmbedding = halves(embedding);
const row = (id: number) => embedding.subarray(id * WIDTH, (id + 1) * WIDTH);

/** The positional embedding of a place, added to `sum`. */
function addPlace(sum: Float32Array, after: Place): void {
  for (const [id, strength] of typeof after === 'number' ? [[after, 4] as const] : after) {
    for (let i = 0; i < WIDTH; i++) sum[i]! += strength * row(id)[i]!;
  }
}

/** The probability that a scripted model gives `next` after `at`, which stands where `after` is to come. */
export function probability(next: number, at: number, after: Place): number {
  const stream = Float32Array.from(row(at));
  addPlace(stream, after);
  const mean = stream.reduce((sum, value) => sum + value, 0) / WIDTH;
  const deviation = Math.sqrt(stream.reduce((sum, value) => sum + (value - mean) ** 2, 0) / WIDTH + 1e-5);
  const logit = (id: number) => row(id).reduce((sum, value, i) => sum + (value * (stream[i]! - mean)) / deviation, 0);
  let sum = 0;
  for (let id = 0; id < VOCAB; id++) sum += Math.exp(logit(id) - logit(next));
  return 1 / sum;
}

/**
 * @param script what follows place p of the decoder's input; the prompt of a transcription is <|sot|> <|language|> <|task|>,
 *   so the text begins at place 2, and what follows place 0 is the language
 * @param replaced the embedding of a token becomes 8 times that of another
 */
export function writeScriptedWhisper(
  path: string,
  script: Record<number, Place>,
  replaced: Record<number, number> = {},
): void {
  const dims = {
    ...{ n_mels: 80, n_vocab: VOCAB, n_audio_ctx: 1500, n_audio_state: WIDTH, n_audio_head: 1, n_audio_layer: 1 },
    ...{ n_text_ctx: 448, n_text_state: WIDTH, n_text_head: 1, n_text_layer: 1 },
  };
  const places = new Float32Array(dims.n_text_ctx * WIDTH);
  for (const [place, after] of Object.entries(script)) {
    addPlace(places.subarray(Number(place) * WIDTH, (Number(place) + 1) * WIDTH), after);
  }
  const tokens = Buffer.from(storedEmbedding);
  for (const [id, other] of Object.entries(replaced)) {
    halves(row(other).map((value) => 8 * value)).copy(tokens, Number(id) * WIDTH * 2);
  }

  const given = new Map([
    ['decoder.token_embedding.weight', tokens],
    ['decoder.positional_embedding', Buffer.from(places.buffer)],
  ]);

  const parts = [
    integers(0x67676d6c, VOCAB, dims.n_audio_ctx, WIDTH, 1, 1, dims.n_text_ctx, WIDTH, 1, 1, 80, 1, 80, SPECTRUM_BINS),
    Buffer.from(melFilters(80).buffer),
    integers(words.length),
    ...words.flatMap((word) => [integers(word.length), word]),
  ];
  for (const [name, rows] of whisperShapes(dims)) {
    const isBias = /conv.\.bias$/.test(name);
    const shape = isBias ? [rows[0]!, 1] : rows;
    const full = shape.length === 1 || isBias || name.endsWith('positional_embedding');
    const count = shape.reduce((all, n) => all * n, 1);
    const values = new Float32Array(full ? count : 0).fill(/ln(_post)?\.weight$/.test(name) ? 1 : 0);
    const bytes = full ? Buffer.from(values.buffer) : Buffer.alloc(2 * count);
    parts.push(integers(shape.length, name.length, full ? 0 : 1, ...[...shape].reverse()), Buffer.from(name));
    parts.push(given.get(name) ?? bytes);
  }
  writeFileSync(path, Buffer.concat(parts));
}
