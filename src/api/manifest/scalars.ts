// What a scalar of a manifest means: the rules of the YAML reader behind kubectl (YAML 1.1 as go-yaml reads it), so that a
// file means the same in a folder and in a cluster. The differences to YAML 1.2 matter: `yes` is a boolean, 0644 is octal.

const NULLS = new Set(['', '~', 'null', 'Null', 'NULL']);
const TRUE = new Set(['y', 'Y', 'yes', 'Yes', 'YES', 'true', 'True', 'TRUE', 'on', 'On', 'ON']);
const FALSE = new Set(['n', 'N', 'no', 'No', 'NO', 'false', 'False', 'FALSE', 'off', 'Off', 'OFF']);
const INFINITY = /^([-+]?)\.(inf|Inf|INF)$/;
const NOT_A_NUMBER = /^\.(nan|NaN|NAN)$/;
const NUMBER_START = /^[-+.0-9]/;
const DECIMAL = /^[-+]?(0|[1-9][0-9]*)$/;
const OCTAL = /^([-+]?)0o?([0-7]+)$/;
const HEXADECIMAL = /^([-+]?)0x([0-9a-fA-F]+)$/;
const BINARY = /^([-+]?)0b([01]+)$/;
const FLOAT = /^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$/;
/** Digits of the longest number that is looked at; a longer one is no number that any field takes. */
const NUMBER_LENGTH_MAX = 64;

function parseNumber(text: string): number | undefined {
  const plain = text.replaceAll('_', '');
  if (DECIMAL.test(plain)) return Number(plain);
  for (const [pattern, base] of [
    [OCTAL, 8],
    [HEXADECIMAL, 16],
    [BINARY, 2],
  ] as const) {
    const match = pattern.exec(plain);
    if (match !== null) return Number.parseInt(`${match[1]}${match[2]}`, base);
  }
  return FLOAT.test(plain) ? Number(plain) : undefined;
}

/** Value of an untagged plain scalar. */
export function resolvePlain(text: string): string | number | boolean | null {
  if (NULLS.has(text)) return null;
  if (TRUE.has(text)) return true;
  if (FALSE.has(text)) return false;
  if (!NUMBER_START.test(text) || text.length > NUMBER_LENGTH_MAX) return text;
  const infinity = INFINITY.exec(text);
  if (infinity !== null) return infinity[1] === '-' ? -Infinity : Infinity;
  if (NOT_A_NUMBER.test(text)) return Number.NaN;
  return parseNumber(text) ?? text;
}

/** Tags that manifests may use, each with what its scalars become; `undefined` for text that it does not fit. */
const TAGGED: Record<string, (text: string) => string | number | boolean | null | undefined> = {
  '!': (text) => text,
  '!!str': (text) => text,
  '!!null': (text) => (NULLS.has(text) ? null : undefined),
  '!!bool': (text) => (TRUE.has(text) ? true : FALSE.has(text) ? false : undefined),
  '!!int': (text) => {
    const value = resolvePlain(text);
    return typeof value === 'number' && Number.isInteger(value) ? value : undefined;
  },
  '!!float': (text) => {
    const value = resolvePlain(text);
    return typeof value === 'number' ? value : undefined;
  },
};

/** Value of a scalar with an explicit tag; `undefined` when the tag is not known or does not fit. */
export function resolveTagged(tag: string, text: string): string | number | boolean | null | undefined {
  return Object.hasOwn(TAGGED, tag) ? TAGGED[tag]?.(text) : undefined;
}
