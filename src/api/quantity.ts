// Kubernetes quantities ("512Mi", "0.5", "1e3", "100m"): the grammar of resource.Quantity, exact, without floats.
import { BulkheadError } from './errors.ts';

const GRAMMAR = /^([+-]?)(\d+(?:\.\d*)?|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,3})?$/;
/** Longest text that is looked at; Kubernetes' own values are far below it. */
const TEXT_MAX = 64;
/** Kubernetes' bound: a quantity fits 2^63 - 1 units, at nano precision. What is beyond it is taken for it, as there. */
const VALUE_MAX = 2n ** 63n - 1n;
const NANO = 1_000_000_000n;

const BINARY: Record<string, bigint> = {
  Ki: 1n << 10n,
  Mi: 1n << 20n,
  Gi: 1n << 30n,
  Ti: 1n << 40n,
  Pi: 1n << 50n,
  Ei: 1n << 60n,
};
/** Powers of ten. A capital `K` is not among them, as in Kubernetes. */
const DECIMAL: Record<string, number> = {
  n: -9,
  u: -6,
  m: -3,
  k: 3,
  M: 6,
  G: 9,
  T: 12,
  P: 15,
  E: 18,
};

/** Value in units of 10^-9, rounded up as Kubernetes does; `undefined` when it is not a quantity. */
function parseNano(text: string): bigint | undefined {
  if (text.length > TEXT_MAX) return undefined;
  const match = GRAMMAR.exec(text);
  if (match === null) return undefined;
  const [, sign, number = '', suffix = ''] = match;
  const [whole = '', fraction = ''] = number.split('.');
  let numerator = BigInt(`${whole}${fraction}`) * NANO;
  let denominator = 10n ** BigInt(fraction.length);
  const binary = BINARY[suffix];
  if (binary !== undefined) numerator *= binary;
  else {
    const exponent = DECIMAL[suffix] ?? (suffix === '' ? 0 : Number(suffix.slice(1)));
    if (exponent >= 0) numerator *= 10n ** BigInt(exponent);
    else denominator *= 10n ** BigInt(-exponent);
  }
  const nano = (numerator + denominator - 1n) / denominator;
  const capped = nano > VALUE_MAX * NANO ? VALUE_MAX * NANO : nano;
  return sign === '-' ? -capped : capped;
}

function nanoOf(text: string): bigint {
  const nano = parseNano(text);
  if (nano === undefined) {
    throw new BulkheadError(
      'INVALID',
      `${JSON.stringify(text.slice(0, TEXT_MAX))} is not a quantity such as "512Mi"`,
    );
  }
  return nano;
}

/** Is this text a quantity? */
export function isQuantity(text: string): boolean {
  return parseNano(text) !== undefined;
}

/** Whole units, rounded up ("0.5" is 1, "1Ki" is 1024). Throws INVALID. */
export function parseQuantity(text: string): bigint {
  const nano = nanoOf(text);
  return nano >= 0n ? (nano + NANO - 1n) / NANO : nano / NANO;
}

/** Bytes as a number, rounded up. Throws INVALID for what is no quantity, is negative or is beyond exact numbers (8 PiB). */
export function parseBytes(text: string): number {
  const bytes = parseQuantity(text);
  if (bytes < 0n || bytes > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new BulkheadError('INVALID', `quantity ${text} is not a size between 0 and 8Pi`);
  }
  return Number(bytes);
}

/** -1, 0 or 1, as the first quantity is smaller, equal or larger. Throws INVALID. */
export function compareQuantities(first: string, second: string): -1 | 0 | 1 {
  const [a, b] = [nanoOf(first), nanoOf(second)];
  return a < b ? -1 : a > b ? 1 : 0;
}

const UNITS = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'] as const;

/** The shortest exact binary form: 536870912 is "512Mi", 1000 is "1000". Takes whole, non-negative numbers. */
export function formatQuantity(bytes: number | bigint): string {
  if (typeof bytes === 'number' && !Number.isSafeInteger(bytes)) {
    throw new BulkheadError('INVALID', `${bytes} is not a whole number of bytes`);
  }
  let value = BigInt(bytes);
  if (value < 0n) throw new BulkheadError('INVALID', `${bytes} is negative`);
  let unit = 0;
  while (value !== 0n && value % 1024n === 0n && unit < UNITS.length - 1) {
    value /= 1024n;
    unit += 1;
  }
  return `${value}${UNITS[unit]}`;
}
