// Sizes for people, in binary units.
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** `512MiB`, `1.5GiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = value >= 100 || Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(digits)}${UNITS[unit]}`;
}
