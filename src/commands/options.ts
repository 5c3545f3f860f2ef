/** Reading numbers from options that are not part of the configuration. */
import { problem } from '../errors.js';

/** @throws VoiceGrpoError E_USAGE naming the option, its bounds and what came */
export function wholeNumber(option: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isInteger(value) && value >= least && value <= most) {
    return value;
  }
  throw problem({
    code: 'E_USAGE',
    where: option,
    expected: `a whole number from ${least} to ${most}`,
    got: `'${text}'`,
    next: 'Correct it or leave it out.',
  });
}

/** @throws VoiceGrpoError E_USAGE naming the option, its bounds and what came */
export function decimalNumber(option: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (text.trim() !== '' && value >= least && value <= most) {
    return value;
  }
  throw problem({
    code: 'E_USAGE',
    where: option,
    expected: `a number from ${least} to ${most}`,
    got: `'${text}'`,
    next: 'Correct it or leave it out.',
  });
}

/** @throws VoiceGrpoError E_USAGE naming the option and the choices */
export function oneOf<T extends string>(option: string, text: string, choices: readonly T[]): T {
  if (choices.includes(text as T)) {
    return text as T;
  }
  throw problem({
    code: 'E_USAGE',
    where: option,
    expected: `one of ${choices.join(', ')}`,
    got: `'${text}'`,
    next: 'Correct it or leave it out.',
  });
}
