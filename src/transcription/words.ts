/** Words of a text in any language, those without spaces too. */

const segmenters = new Map<string, Intl.Segmenter>();

/** In lower case, without punctuation, in their order. @param language ISO code; one that is not known counts as English */
export function words(text: string, language = 'en'): string[] {
  let segmenter = segmenters.get(language);
  if (segmenter === undefined) {
    segmenter = new Intl.Segmenter([language, 'en'], { granularity: 'word' });
    segmenters.set(language, segmenter);
  }
  return [...segmenter.segment(text)]
    .filter(({ isWordLike }) => isWordLike)
    .map(({ segment }) => segment.toLowerCase());
}
