/** Word error rate: how far a transcript is from what was said. */

export interface WordErrors {
  substitutions: number;
  insertions: number;
  deletions: number;
  /** Words of the reference. */
  words: number;
}

/**
 * The text as it is compared: openai-whisper's BasicTextNormalizer. Lower case, without what stands in brackets, symbols and punctuation
 * as spaces. An apostrophe is one of them: "don't" is two words on both sides.
 */
export function normalized(text: string): string {
  return text
    .toLowerCase()
    .replace(/[<[][^>\]]*[>\]]/g, '')
    .replace(/\(([^)]+?)\)/g, '')
    .normalize('NFKC')
    .replace(/[\p{M}\p{S}\p{P}]/gu, ' ')
    .toLowerCase()
    .replace(/\s+/g, ' ');
}

/** The fewest edits that turn `reference` into `hypothesis`, word by word. Where several ways need as few, a substitution goes first. */
export function wordErrors(reference: string, hypothesis: string): WordErrors {
  const [said, heard] = [wordsOf(reference), wordsOf(hypothesis)];
  // A row of the table of edit distances: what the first i words of `said` cost as the first j of `heard`.
  let row = Array.from({ length: heard.length + 1 }, (_, j): WordErrors => edits(0, j, 0));
  for (const [i, word] of said.entries()) {
    const next = [edits(0, 0, i + 1)];
    for (const [j, other] of heard.entries()) {
      const diagonal = row[j]!;
      next.push(
        word === other
          ? diagonal
          : fewest(
              edits(diagonal.substitutions + 1, diagonal.insertions, diagonal.deletions),
              edits(row[j + 1]!.substitutions, row[j + 1]!.insertions, row[j + 1]!.deletions + 1),
              edits(next[j]!.substitutions, next[j]!.insertions + 1, next[j]!.deletions),
            ),
      );
    }
    row = next;
  }
  return { ...row.at(-1)!, words: said.length };
}

/** Over several texts. */
export function sumErrors(all: readonly WordErrors[]): WordErrors {
  return all.reduce(
    (sum, { substitutions, insertions, deletions, words }) => ({
      substitutions: sum.substitutions + substitutions,
      insertions: sum.insertions + insertions,
      deletions: sum.deletions + deletions,
      words: sum.words + words,
    }),
    { substitutions: 0, insertions: 0, deletions: 0, words: 0 },
  );
}

/** Edits over words of the reference; above 1 where more was made up than was said. Null without a word. */
export function wordErrorRate({ substitutions, insertions, deletions, words }: WordErrors): number | null {
  return words === 0 ? null : (substitutions + insertions + deletions) / words;
}

function wordsOf(text: string): string[] {
  return normalized(text).split(' ').filter(Boolean);
}

function edits(substitutions: number, insertions: number, deletions: number): WordErrors {
  return { substitutions, insertions, deletions, words: 0 };
}

/** The first of equals. */
function fewest(...candidates: WordErrors[]): WordErrors {
  const total = ({ substitutions, insertions, deletions }: WordErrors) => substitutions + insertions + deletions;
  return candidates.reduce((best, other) => (total(other) < total(best) ? other : best));
}
