/** How the rewards read an answer: as lower-case words, and which labels stand among them. */

/** The answer as it is compared with a label. */
export function normalized(completion: string): string {
  return completion.trim().toLowerCase();
}

/** Words of an answer: what white space separates. */
export function words(completion: string): string[] {
  return completion.split(/\s+/u).filter((word) => word.length > 0);
}

/** The label that the whole answer is, or null. */
export function answeredLabel(completion: string, labels: readonly string[]): string | null {
  const answer = normalized(completion);
  return labels.find((label) => label.toLowerCase() === answer) ?? null;
}

const LETTER_OR_DIGIT = /[\p{L}\p{N}_]/u;

/**
 * The labels that stand in the answer as whole words: not inside longer words, so 'eval' is not found in 'ifeval',
 * and not as a part of a longer label that stands there ('open' is not found in 'open-book' if both are labels).
 */
export function mentionedLabels(completion: string, labels: readonly string[]): string[] {
  let rest = normalized(completion);
  const found = new Set<string>();
  for (const label of [...labels].sort((a, b) => b.length - a.length)) {
    const name = label.toLowerCase();
    let at = rest.indexOf(name);
    while (at >= 0) {
      const before = rest[at - 1] ?? ' ';
      const after = rest[at + name.length] ?? ' ';
      if (!LETTER_OR_DIGIT.test(before) && !LETTER_OR_DIGIT.test(after)) {
        found.add(label);
        rest = `${rest.slice(0, at)}${'\0'.repeat(name.length)}${rest.slice(at + name.length)}`;
      }
      at = rest.indexOf(name, at + 1);
    }
  }
  return labels.filter((label) => found.has(label));
}

/** The label an answer predicts: the only one that stands in it. Null for none and for several. */
export function predictedLabel(completion: string, labels: readonly string[]): string | null {
  const mentioned = mentionedLabels(completion, labels);
  return mentioned.length === 1 ? (mentioned[0] as string) : null;
}

/** 'a', 'b' and 'c' */
export function quoted(names: readonly string[]): string {
  const marked = names.map((name) => `'${name}'`);
  return marked.length < 2 ? marked.join('') : `${marked.slice(0, -1).join(', ')} and ${marked.at(-1)}`;
}

/** '1 word', '3 words' */
export function wordCount(completion: string): string {
  const { length } = words(completion);
  return `${length} word${length === 1 ? '' : 's'}`;
}
