// An option that may be given several times.

/** A repeated option as a list. */
export function repeat(value: string, values: string[] = []): string[] {
  return [...values, value];
}
