/**
 * Random numbers that are counted, not drawn: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
 *
 * A number depends only on (seed, stream, a, b, index). Nothing has a state, so a resumed run sees what an undisturbed one sees.
 */

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;

/** High 32 bits of the product of two unsigned 32-bit integers. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const cross = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(cross / 0x10000)) >>> 0;
}

/** Ten rounds of Philox4x32 on a counter of four words under a key of two. */
export function philox4x32(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0 >>> 0);
    const low0 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    const high1 = multiplyHigh(MULTIPLIER_1, c2 >>> 0);
    const low1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** FNV-1a of a string's UTF-16 code units, 32 bits: turns names into counters. */
export function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  }
  return hash;
}

/**
 * A uniform integer in [0, bound).
 *
 * @param stream what the number is for; different streams never share numbers
 */
export function randomInteger(
  seed: number,
  stream: string,
  a: number,
  b: number,
  index: number,
  bound: number,
): number {
  const high = Math.floor(seed / 0x100000000) >>> 0;
  const key: [number, number] = [seed >>> 0, (high ^ hash32(stream)) >>> 0];
  const [word0, word1] = philox4x32([a >>> 0, b >>> 0, index >>> 0, 0], key);
  // 53 bits: the bias of the multiplication is below 2^-20 for every bound that occurs here.
  const unit = (word0 * 0x200000 + (word1 >>> 11)) / 0x20000000000000;
  return Math.floor(unit * bound);
}

/** A Fisher-Yates shuffle of a copy; a pure function of its arguments. */
export function shuffled<T>(items: readonly T[], seed: number, stream: string, a = 0, b = 0): T[] {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = randomInteger(seed, stream, a, b, i, i + 1);
    const kept = result[i] as T;
    result[i] = result[j] as T;
    result[j] = kept;
  }
  return result;
}
