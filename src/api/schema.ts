// Building blocks of the kinds' schemas. They keep to what both a Kubernetes structural schema and JSON Schema express,
// so that one schema serves the validator here, the CRDs, the documentation and the TypeScript types.
import { type TArray, type TEnum, type TObject, type TProperties, type TSchema, Type } from 'typebox';

/** A CEL rule in the shape of `x-kubernetes-validations`. */
export interface CelRule {
  /** CEL expression over `self`, and `oldSelf` in a transition rule (which runs on updates only). */
  rule: string;
  /** Names the field and the fix. */
  message: string;
  /** Path below the node that carries the rule, e.g. `.resources.disk`. */
  fieldPath?: string;
}

/** Options that every node may carry; `description` is what `kubectl explain` shows. */
interface NodeOptions {
  description: string;
  default?: unknown;
  nullable?: true;
  rules?: readonly CelRule[];
}

const VALIDATIONS = 'x-kubernetes-validations';

function node<Options extends NodeOptions>(
  options: Options,
): Omit<Options, 'rules'> & Record<string, unknown> {
  const { rules, ...rest } = options;
  return rules === undefined ? rest : { ...rest, [VALIDATIONS]: rules };
}

/** What a pattern accepts, in words, for error messages; never part of a CRD. */
export const EXPECTED_KEYWORD = 'x-bulkhead-expected';

interface TextOptions extends NodeOptions {
  minLength?: number;
  /** In characters. Required: an unbounded string has an unbounded CEL cost, and no honest use. */
  maxLength: number;
  pattern?: string;
  /** What the pattern accepts, as the end of "expected ...". Required beside a pattern. */
  expected?: string;
  format?: 'date-time';
}

/** A bounded string. */
export function text(options: TextOptions) {
  const { expected, ...rest } = options;
  return Type.String(node(expected === undefined ? rest : { ...rest, [EXPECTED_KEYWORD]: expected }));
}

/** A bounded integer. */
export function integer(
  options: NodeOptions & { minimum: number; maximum: number; format?: 'int32' | 'int64' },
) {
  return Type.Integer(node({ format: options.maximum > INT32_MAX ? 'int64' : 'int32', ...options }));
}

/** In a cluster -1 is what an object has that nobody looked at yet, so that no tool takes it for settled. */
export const observedGeneration = () =>
  integer({
    description: 'Generation of the spec that this status speaks of; -1 where it was never looked at.',
    minimum: -1,
    maximum: SAFE_INTEGER_MAX,
  });

/** A bounded integer, or null where that says something else than absence. */
export function nullableInteger(options: NodeOptions & { minimum: number; maximum: number }) {
  return Type.Unsafe<number | null>({ ...integer(options), nullable: true });
}

/** Largest int32; the bound of counts that have no better one. */
export const INT32_MAX = 2 ** 31 - 1;
/** Largest integer that JSON carries exactly between all programs. */
export const SAFE_INTEGER_MAX = Number.MAX_SAFE_INTEGER;

export function flag(options: NodeOptions) {
  return Type.Boolean(node(options));
}

/** One of a few words. */
export function choice<const Values extends string[]>(
  values: readonly [...Values],
  options: NodeOptions,
): TEnum<Values> {
  return Type.Enum(values, { type: 'string', ...node(options) });
}

/** An object with exactly these fields. */
export function object<Properties extends TProperties>(
  properties: Properties,
  options: NodeOptions,
): TObject<Properties> {
  return Type.Object(properties, { ...node(options), additionalProperties: false });
}

interface ListOptions extends NodeOptions {
  minItems?: number;
  maxItems: number;
}

/** A list whose order means something, replaced as a whole by server-side apply. */
export function list<Item extends TSchema>(item: Item, options: ListOptions): TArray<Item> {
  return Type.Array(item, { ...node(options), 'x-kubernetes-list-type': 'atomic' });
}

/** A list without repetitions, whose items are merged by server-side apply. */
export function set<Item extends TSchema>(item: Item, options: ListOptions): TArray<Item> {
  return Type.Array(item, { ...node(options), 'x-kubernetes-list-type': 'set' });
}

/** A list whose items are told apart by `keys`; two items with equal keys are refused. */
export function keyedList<Item extends TSchema>(
  keys: readonly string[],
  item: Item,
  options: ListOptions,
): TArray<Item> {
  return Type.Array(item, {
    ...node(options),
    'x-kubernetes-list-type': 'map',
    'x-kubernetes-list-map-keys': keys,
  });
}

/** String keys and string values. */
export function stringMap(
  options: NodeOptions & { maxProperties: number; maxValueLength: number; maxKeyLength?: number },
) {
  const { maxValueLength, maxKeyLength, ...rest } = options;
  return Type.Unsafe<Record<string, string>>({
    type: 'object',
    ...node(rest),
    additionalProperties: { type: 'string', maxLength: maxValueLength },
  });
}

/** CEL: exactly one of these fields is set. */
export function exactlyOneOf(fields: readonly string[], what: string): CelRule {
  return {
    rule: `[${fields.map((field) => `has(self.${field})`).join(', ')}].filter(x, x).size() == 1`,
    message: `${what} must have exactly one of ${fields.join(', ')}; keep one and remove the others`,
  };
}

// --- Strings that several kinds share ---

/** DNS-1123 label: object names inside lists, namespaces, host names. Safe in a path and on a command line. */
export const DNS_LABEL = '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$';
export const DNS_LABEL_MAX = 63;
/** DNS-1123 subdomain: object names. No slash, and no part of it can be `..`. */
export const DNS_SUBDOMAIN = '^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$';
export const DNS_SUBDOMAIN_MAX = 253;
/** Linux' PATH_MAX is 4096 with the closing NUL; the rest is room for prefixes that the host and guest put before it. */
export const PATH_MAX = 1024;
/** Any path from the root without NUL; what else a path may not hold is said by a rule at the field. */
export const ABSOLUTE_PATH = '^/[^\\x00]*$';
/** Kubernetes' quantity grammar without sign and exponent: sizes are never negative. */
export const SIZE = '^[0-9]+(\\.[0-9]{1,9})?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$';
export const SIZE_LENGTH_MAX = 32;

/** Name of another object in the same namespace. */
export function objectName(description: string) {
  return text({
    description,
    minLength: 1,
    maxLength: DNS_SUBDOMAIN_MAX,
    pattern: DNS_SUBDOMAIN,
    expected: 'an object name: lower-case letters, digits, "-" and ".", at most 253 characters',
  });
}

/** Name of an item of a list in this object. */
export function itemName(description: string) {
  return text({
    description,
    minLength: 1,
    maxLength: DNS_LABEL_MAX,
    pattern: DNS_LABEL,
    expected: 'a name of lower-case letters, digits and "-", at most 63 characters',
  });
}

/** A path from the root of the guest that stays below it. */
export function absolutePath(description: string, more: { rules?: readonly CelRule[] } = {}) {
  return text({
    description,
    minLength: 1,
    maxLength: PATH_MAX,
    pattern: ABSOLUTE_PATH,
    expected: 'an absolute path, such as "/srv/data"',
    rules: [
      {
        rule: "!self.matches('(^|/)[.][.](/|$)')",
        message: 'path must not contain ".."; write the path that is meant',
      },
      ...(more.rules ?? []),
    ],
  });
}

/** A size in bytes as a Kubernetes quantity, within bounds that are quantities too. */
export function size(options: {
  description: string;
  default?: string;
  minimum: string;
  maximum: string;
  of: string;
}) {
  const { description, minimum, maximum, of } = options;
  return text({
    description: `${description} At least ${minimum}, at most ${maximum}.`,
    ...(options.default === undefined ? {} : { default: options.default }),
    minLength: 1,
    maxLength: SIZE_LENGTH_MAX,
    pattern: SIZE,
    expected: 'a quantity such as "512Mi" or "4Gi"',
    rules: [
      {
        // What is no quantity is the pattern's matter: an evaluation that fails would only add words.
        rule: `!isQuantity(self) || (quantity(self).compareTo(quantity('${minimum}')) >= 0 && quantity(self).compareTo(quantity('${maximum}')) <= 0)`,
        message: `${of} must be between ${minimum} and ${maximum}`,
      },
    ],
  });
}

/** Reference to one key of a Secret or ConfigMap in the same namespace. */
export function keyReference(
  description: string,
  kind: 'Secret' | 'ConfigMap',
  whenOptional = 'leaves the variable unset instead of holding the start back',
) {
  return object(
    {
      name: objectName(`Name of the ${kind}, in the namespace of this object.`),
      key: text({
        description: `Key in the ${kind}'s data.`,
        minLength: 1,
        maxLength: DNS_SUBDOMAIN_MAX,
        pattern: '^[-._a-zA-Z0-9]+$',
        expected: 'a key of letters, digits, "-", "_" and "."',
      }),
      optional: Type.Optional(
        flag({
          description: `When true, a missing ${kind} or key ${whenOptional}.`,
          default: false,
        }),
      ),
    },
    { description },
  );
}

/** `conditions` of a status, in Kubernetes' standard shape. */
export function conditionList(description: string) {
  return keyedList(
    ['type'],
    object(
      {
        type: text({ description: 'What is observed.', minLength: 1, maxLength: 63 }),
        status: choice(['True', 'False', 'Unknown'], { description: 'Whether it holds.' }),
        reason: text({ description: 'CamelCase word for programs.', minLength: 1, maxLength: 128 }),
        message: text({ description: 'Sentence for people.', maxLength: 32768 }),
        lastTransitionTime: text({
          description: 'When the status last changed. RFC 3339.',
          maxLength: 64,
          format: 'date-time',
        }),
        observedGeneration: integer({
          description: 'Generation of the object that was observed.',
          minimum: 0,
          maximum: SAFE_INTEGER_MAX,
        }),
      },
      { description: 'One observation.' },
    ),
    { description, maxItems: 32 },
  );
}

/** A point in time in a status. */
export function time(description: string) {
  return text({ description: `${description} RFC 3339.`, maxLength: 64, format: 'date-time' });
}
