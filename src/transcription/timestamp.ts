/** Times as subtitle formats write them. */

/**
 * 'MM:SS.mmm', with 'HH:' before it from the first hour on. Halves of a millisecond go to the even one, as in Python, so that files are
 * byte-equal to openai-whisper's.
 *
 * @param seconds at least 0
 */
export function timestamp(seconds: number, { hours: always = false, decimal = '.' } = {}): string {
  const whole = milliseconds(seconds);
  const two = (value: number) => String(value).padStart(2, '0');
  const hours = Math.floor(whole / 3_600_000);
  const clock = `${two(Math.floor(whole / 60_000) % 60)}:${two(Math.floor(whole / 1000) % 60)}`;
  return `${always || hours > 0 ? `${two(hours)}:` : ''}${clock}${decimal}${String(whole % 1000).padStart(3, '0')}`;
}

/** Whole milliseconds, halves to even. */
export function milliseconds(seconds: number): number {
  const exact = Math.max(0, seconds) * 1000;
  const floor = Math.floor(exact);
  const rest = exact - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
