// How Kubernetes' API server words what is wrong with a field (apimachinery's field.Error and kube-openapi's validation), so
// that a folder, the daemon and a cluster say the same. test/corpus holds both to it.

/** Longer values are cut: a message is for people. Kubernetes prints them whole, which is the one difference. */
export const VALUE_SHOWN_MAX = 256;

const SHORT_ESCAPES: Readonly<Record<string, string>> = {
  '\x07': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
  '"': '\\"',
  '\\': '\\\\',
};

/** What Go's strconv.Quote leaves as it is. The rest would be obeyed by a terminal, not shown. */
const PRINTABLE = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u;

function escaped(character: string): string {
  const short = SHORT_ESCAPES[character];
  if (short !== undefined) return short;
  if (PRINTABLE.test(character)) return character;
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x80) return `\\x${code.toString(16).padStart(2, '0')}`;
  return code > 0xffff
    ? `\\U${code.toString(16).padStart(8, '0')}`
    : `\\u${code.toString(16).padStart(4, '0')}`;
}

/** Text in quotes as Go writes it (`%q`), shortened to `shown` characters. */
export function goQuote(text: string, shown: number = VALUE_SHOWN_MAX): string {
  const characters = [...(text.length > 2 * shown ? text.slice(0, 2 * shown) : text)];
  const cut = characters.length > shown || text.length > 2 * shown;
  const body = characters.slice(0, shown).map(escaped).join('');
  return `"${body}${cut ? '...' : ''}"`;
}

/** JSON as Go writes it: keys in order of the alphabet, and nothing that HTML would take for a tag. */
function goJson(value: unknown): string {
  const sorted = (each: unknown): unknown => {
    if (Array.isArray(each)) return each.map(sorted);
    if (typeof each !== 'object' || each === null) return each;
    return Object.fromEntries(
      Object.entries(each)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, child]) => [name, sorted(child)]),
    );
  };
  // Not JSON, but a caller of the library may bring it; a message is no place to fail.
  const plain = (_name: string, each: unknown) => (typeof each === 'bigint' ? String(each) : each);
  const text = (JSON.stringify(sorted(value), plain) ?? 'null').replace(
    /[<>&\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return text.length > VALUE_SHOWN_MAX ? `${text.slice(0, VALUE_SHOWN_MAX)}...` : text;
}

function goValue(value: unknown): string {
  if (typeof value === 'string') return goQuote(value);
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  return typeof value === 'object' && value !== null
    ? goJson(value)
    : value === null
      ? 'null'
      : goQuote(String(value));
}

function withDetail(head: string, detail: string): string {
  return detail === '' ? head : `${head}: ${detail}`;
}

/** Name of a value's type in the API server's schema words. */
export function jsonTypeName(value: unknown): string {
  if (value === null || value === undefined) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  return typeof value === 'object' ? 'object' : typeof value;
}

export const REQUIRED = 'Required value';

export function invalidValue(value: unknown, detail: string): string {
  return withDetail(`Invalid value: ${goValue(value)}`, detail);
}

/** Of a rule at a mapping or list, whose value is not shown. */
export function invalidWithoutValue(detail: string): string {
  return `Invalid value: ${detail}`;
}

export function unsupportedValue(value: unknown, supported: readonly unknown[]): string {
  const values = supported.map((each) => goQuote(String(each))).join(', ');
  return withDetail(
    `Unsupported value: ${goValue(value)}`,
    values === '' ? '' : `supported values: ${values}`,
  );
}

export function duplicateValue(value: unknown): string {
  return `Duplicate value: ${goValue(value)}`;
}

/** The API server says bytes and counts characters. */
export function tooLong(maximum: number): string {
  return `Too long: may not be more than ${maximum} ${maximum === 1 ? 'byte' : 'bytes'}`;
}

export function tooMany(count: number, maximum: number): string {
  return `Too many: ${count}: must have at most ${maximum} ${maximum === 1 ? 'item' : 'items'}`;
}

/** `type` as the schema names it; `found` as the API server names what it got. */
export function wrongType(path: string, type: string, found: string): string {
  return invalidValue(found, `${path} in body must be of type ${type}: ${goQuote(found)}`);
}

export function breaksBound(path: string, value: unknown, bound: string): string {
  return invalidValue(value, `${path} in body should ${bound}`);
}
