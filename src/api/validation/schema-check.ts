// Checks values against a schema with Ajv and says what is wrong in words.
import { Ajv, type ErrorObject } from 'ajv';
import { describeFound, type FieldError, type PathSegment, quote, typeName } from './field-error.ts';
import { nearestName } from './nearest.ts';
import { isRecord, type StructuralSchema } from './structural.ts';

/** RFC 3339 with `T` and a zone, as Kubernetes' `date-time` takes it. */
const DATE_TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$/;

function isDateTime(text: string): boolean {
  if (!DATE_TIME.test(text)) return false;
  // Date.parse takes 30 February for 2 March; the day must survive the way there and back.
  const date = new Date(`${text.slice(0, 10)}T00:00:00Z`);
  return (
    !Number.isNaN(Date.parse(text)) &&
    !Number.isNaN(date.getTime()) &&
    date.toISOString().startsWith(text.slice(0, 10))
  );
}

const ajv = new Ajv({
  allErrors: true,
  verbose: true,
  // The x-kubernetes-* keywords are for others.
  strict: false,
  formats: { 'date-time': isDateTime, int32: true, int64: true },
});

export type SchemaChecker = (value: unknown) => FieldError[];

/** Names that a value can be called by, at most so many in one message. */
const NAMES_SHOWN_MAX = 12;

function typeWords(schema: StructuralSchema): string {
  switch (schema.type) {
    case 'integer':
      return 'an integer';
    case 'boolean':
      return 'true or false';
    case 'array':
      return 'a list';
    case 'object':
      return 'a mapping';
    default:
      return 'a string';
  }
}

function between(minimum: number | undefined, maximum: number | undefined, unit: string): string {
  const units = (count: number) => (count === 1 ? unit : `${unit}s`);
  if (minimum !== undefined && minimum > 0) {
    if (minimum === maximum) return `exactly ${minimum} ${units(minimum)}`;
    return maximum === undefined
      ? `at least ${minimum} ${units(minimum)}`
      : `${minimum} to ${maximum} ${units(maximum)}`;
  }
  return maximum === undefined ? '' : `at most ${maximum} ${units(maximum)}`;
}

/** What the schema takes, as the end of "expected ...". */
export function describeExpected(schema: StructuralSchema): string {
  if (schema.const !== undefined) return quote(String(schema.const));
  if (schema.enum !== undefined) return `one of ${schema.enum.map(String).join(', ')}`;
  const said = schema['x-bulkhead-expected'];
  if (said !== undefined) return said;
  if (schema.format === 'date-time') return 'a time in quotes, such as "2026-12-01T00:00:00Z"';
  const words = typeWords(schema);
  if (schema.type === 'integer' && schema.minimum !== undefined && schema.maximum !== undefined) {
    return `${words} from ${schema.minimum} to ${schema.maximum}`;
  }
  const bounds =
    schema.type === 'array'
      ? between(schema.minItems, schema.maxItems, 'item')
      : schema.type === 'object'
        ? between(schema.minProperties, schema.maxProperties, 'entry').replace('entrys', 'entries')
        : schema.type === 'string'
          ? between(schema.minLength, schema.maxLength, 'character')
          : '';
  return bounds === '' ? words : `${words} of ${bounds}`;
}

/** JSON pointer to path; the value tells list indices from names. */
function parsePointer(pointer: string, root: unknown): PathSegment[] {
  const path: PathSegment[] = [];
  let current = root;
  for (const raw of pointer.split('/').slice(1)) {
    const name = raw.replaceAll('~1', '/').replaceAll('~0', '~');
    if (Array.isArray(current)) {
      path.push(Number(name));
      current = current[Number(name)];
    } else {
      path.push(name);
      current = isRecord(current) ? current[name] : undefined;
    }
  }
  return path;
}

function unknownField(path: PathSegment[], name: string, schema: StructuralSchema): FieldError {
  const names = Object.keys(schema.properties ?? {});
  const nearest = nearestName(name, names);
  const shown = names.slice(0, NAMES_SHOWN_MAX).join(', ');
  const expected =
    names.length === 0
      ? 'no field here'
      : names.length === 1
        ? shown
        : `one of ${shown}${names.length > NAMES_SHOWN_MAX ? ', ...' : ''}`;
  return {
    reason: 'FieldUnknown',
    path: [...path, name],
    message:
      nearest === undefined
        ? `unknown field, expected ${expected}`
        : `unknown field, did you mean ${nearest}?`,
    found: quote(name),
    expected,
    ...(nearest === undefined ? {} : { nearest }),
  };
}

const REASONS: Record<string, FieldError['reason']> = {
  type: 'FieldValueTypeInvalid',
  enum: 'FieldValueNotSupported',
  const: 'FieldValueNotSupported',
  maxLength: 'FieldValueTooLong',
  maxItems: 'FieldValueTooMany',
  maxProperties: 'FieldValueTooMany',
};

function isTooLong(keyword: string): boolean {
  return keyword === 'maxLength' || keyword === 'maxItems' || keyword === 'maxProperties';
}

function measure(value: unknown): string {
  if (typeof value === 'string') return `${[...value].length} characters`;
  if (Array.isArray(value)) return `${value.length} items`;
  return `${isRecord(value) ? Object.keys(value).length : 0} entries`;
}

function translate(error: ErrorObject, root: unknown, hideValues: boolean): FieldError | undefined {
  const path = parsePointer(error.instancePath, root);
  const schema = (error.parentSchema ?? {}) as StructuralSchema;
  if (error.keyword === 'required') {
    const name = String(error.params.missingProperty);
    const expected = describeExpected(schema.properties?.[name] ?? {});
    return {
      reason: 'FieldValueRequired',
      path: [...path, name],
      message: `missing, expected ${expected}`,
      found: 'nothing',
      expected,
    };
  }
  if (error.keyword === 'additionalProperties') {
    return unknownField(path, String(error.params.additionalProperty), schema);
  }
  // Reported a second time by the keyword inside, which says more.
  if (error.keyword === 'propertyNames') return undefined;
  if (error.propertyName !== undefined) {
    const found = quote(error.propertyName);
    const expected = describeExpected(schema);
    return {
      reason: 'FieldValueInvalid',
      path: [...path, error.propertyName],
      message: `found the key ${found}, expected ${expected}`,
      found,
      expected,
    };
  }
  const value: unknown = error.data;
  const wrongType = error.keyword === 'type';
  const found = isTooLong(error.keyword)
    ? measure(value)
    : hideValues
      ? typeName(value)
      : describeFound(value, wrongType);
  const expected = describeExpected(schema);
  const nearest =
    schema.enum === undefined || typeof value !== 'string'
      ? undefined
      : nearestName(value, schema.enum.map(String));
  const quoteIt =
    wrongType && schema.type === 'string' && (typeof value === 'number' || typeof value === 'boolean')
      ? '; put it in quotes'
      : '';
  const meant = nearest === undefined ? quoteIt : `; did you mean ${nearest}?`;
  return {
    reason: REASONS[error.keyword] ?? 'FieldValueInvalid',
    path,
    message: `found ${found}, expected ${expected}${meant}`,
    found,
    expected,
    ...(nearest === undefined ? {} : { nearest }),
  };
}

/** A value of a wrong type, length and pattern is one mistake, not three. */
function oncePerPath(errors: readonly FieldError[]): FieldError[] {
  const seen = new Set<string>();
  return errors.filter((error) => {
    const key = JSON.stringify(error.path);
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}

/** Compiles a schema once. `hideValues`: messages never hold what stands in a field. */
export function compileSchema(schema: StructuralSchema, options: { hideValues: boolean }): SchemaChecker {
  const validate = ajv.compile(schema);
  return (value) => {
    if (validate(value)) return [];
    const translated = (validate.errors ?? [])
      .map((error) => translate(error, value, options.hideValues))
      .filter((error) => error !== undefined);
    return oncePerPath(translated);
  };
}
