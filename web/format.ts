/** Numbers as a page shows them; '–' where there is none. */

export function percent(value: number | null | undefined): string {
  return value == null ? '–' : `${(100 * value).toFixed(1)}%`;
}

/** As many digits as say something: 4731, 6.41, 0.083, 2.0e-6. */
export function number(value: number | null | undefined): string {
  if (value == null || Number.isNaN(value)) return '–';
  const size = Math.abs(value);
  if (size < 1e-12) return '0'; // what rounding left of a sum that is zero
  if (Number.isInteger(value) && size < 1e6) return String(value);
  if (size >= 1000) return value.toFixed(0);
  if (size >= 1) return value.toFixed(2);
  return size >= 0.001 ? value.toFixed(3) : value.toExponential(1);
}

/** Marks of an axis, as many decimals as their distance has. */
export function ticks(values: readonly number[], distance: number): string[] {
  const largest = Math.max(...values.map(Math.abs));
  if (largest > 0 && (largest < 0.001 || largest >= 1e5))
    return values.map((value) => (value === 0 ? '0' : value.toExponential(1)));
  const decimals = Math.min(6, Number(distance.toPrecision(3)).toString().split('.')[1]?.length ?? 0);
  return values.map((value) => value.toFixed(decimals));
}
