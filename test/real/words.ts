/** Word error rate: word-level edit distance after lower-casing and dropping punctuation, as speech papers count it. */

export interface ErrorCount {
  errors: number;
  words: number;
}

const words = (text: string) =>
  text
    .toLowerCase()
    .replace(/[^\p{L}\p{N}' ]+/gu, ' ')
    .split(/\s+/)
    .filter(Boolean);

/** Substitutions, insertions and deletions that turn `reference` into `hypothesis`, and the words of `reference`. */
export function wordErrors(reference: string, hypothesis: string): ErrorCount {
  const [r, h] = [words(reference), words(hypothesis)];
  let previous = h.map((_, j) => j + 1);
  let first = 0;
  r.forEach((word, i) => {
    const current: number[] = [];
    let diagonal = first;
    first = i + 1;
    h.forEach((other, j) => {
      const above = previous[j] as number;
      const left = j === 0 ? first : (current[j - 1] as number);
      current.push(Math.min(above + 1, left + 1, diagonal + (word === other ? 0 : 1)));
      diagonal = above;
    });
    previous = current;
  });
  return { errors: previous.at(-1) ?? r.length, words: r.length };
}
