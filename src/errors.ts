/** One helper makes every error message: what was expected, where, what came, and what to do next. */

/** Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 data or model file, 4 not enough memory, 130/143 signals. */
const EXIT_CODES: Record<string, number> = {
  E_CONFIG: 2,
  E_USAGE: 2,
  E_DEVICE: 2,
  E_MEMORY: 4,
  E_DATA: 3,
  E_AUDIO: 3,
  E_MODEL: 3,
};

/** A failure that has a sentence for the user: shown without a stack. */
export class VoiceGrpoError extends Error {
  readonly code: string;
  readonly exitCode: number;
  /** What to do next. */
  readonly hint: string;

  constructor(message: string, { code, hint = '', cause }: { code: string; hint?: string; cause?: unknown }) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'VoiceGrpoError';
    this.code = code;
    this.exitCode = EXIT_CODES[code] ?? 1;
    this.hint = hint;
  }
}

export interface Problem {
  code?: string;
  expected: string;
  where: string;
  got: string;
  next: string;
}

/** 'Expected <expected> in <where>, got <got>.' with the next step as hint. */
export function problem({ code = 'E_INTERNAL', expected, where, got, next }: Problem): VoiceGrpoError {
  return new VoiceGrpoError(`${where}: expected ${expected}, got ${got.trimEnd()}.`.replace(/([.?!])\.$/, '$1'), {
    code,
    hint: next,
  });
}

/** Codes of the addon that mean a defect of ours, not of the user's files: shown with a stack. */
const DEFECTS = new Set(['E_ARGUMENT', 'E_CLOSED', 'E_INTERNAL']);

/** What the system refused: no such file, no space, too many links. */
export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  const { code, syscall } = error as NodeJS.ErrnoException;
  return error instanceof Error && typeof syscall === 'string' && typeof code === 'string' && /^E[A-Z0-9]+$/.test(code);
}

/** An error that says that this program is wrong, whatever it was given. */
export function isDefect(error: unknown): boolean {
  return (
    !(error instanceof Error) ||
    DEFECTS.has(String((error as { code?: unknown }).code)) ||
    [TypeError, RangeError, ReferenceError, SyntaxError].some((kind) => error instanceof kind)
  );
}

/** What the command line prints for an error, and the exit code it ends with. */
export function presentError(error: unknown): { text: string; exitCode: number } {
  if (!(error instanceof Error))
    return { text: `Something that is not an error was thrown: ${String(error)}`, exitCode: 1 };
  const { code = '', hint = '' } = error as { code?: unknown; hint?: unknown };
  const known =
    error instanceof VoiceGrpoError || (typeof code === 'string' && /^E_[A-Z]+$/.test(code) && !DEFECTS.has(code));
  if (known) {
    const sentences = [error.message, hint]
      .filter((part) => typeof part === 'string' && part.trim() !== '')
      .map(sentence);
    return { text: sentences.join('\n'), exitCode: EXIT_CODES[String(code)] ?? 1 };
  }
  if (isSystemError(error)) return { text: sentence(error.message), exitCode: 1 };
  return { text: `${error.stack ?? error.message}\nThis is a defect of voicegrpo, not of your input.`, exitCode: 1 };
}

/** The first line of what the command line prints: what is wrong, without the next step. */
export function sentenceOf(error: unknown): string {
  return presentError(error).text.split('\n')[0] as string;
}

/** A capital at the beginning and a full stop at the end, unless the text begins or ends with something else than a word, or with the program's name. */
function sentence(text: unknown): string {
  const trimmed = String(text).trim();
  const capital = /^(?!voicegrpo )[a-z]+[ ,]/.test(trimmed)
    ? trimmed.charAt(0).toUpperCase() + trimmed.slice(1)
    : trimmed;
  return /[\p{L}\p{N})"'`]$/u.test(capital) ? `${capital}.` : capital;
}
