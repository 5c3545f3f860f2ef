/** Languages as the OpenAI API names them: English, in lower case. */

/** Where Whisper's name is not Unicode's (openai-whisper, tokenizer.py). */
const OTHER_NAMES: Record<string, string> = {
  bn: 'bengali',
  mi: 'maori',
  my: 'myanmar',
  nn: 'nynorsk',
  tl: 'tagalog',
};

const names = new Intl.DisplayNames('en', { type: 'language' });

/** @param code ISO code as Whisper has it */
export function languageName(code: string): string {
  return OTHER_NAMES[code] ?? names.of(code)?.toLowerCase() ?? code;
}

/** The code of a language that is given by its code or by its name; null for one that is not among `codes`. */
export function languageCode(given: string, codes: readonly string[]): string | null {
  const wanted = given.trim().toLowerCase();
  return codes.find((code) => code === wanted || languageName(code) === wanted) ?? null;
}
