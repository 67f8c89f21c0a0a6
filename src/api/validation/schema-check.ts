// Checks values against a structural schema, as Kubernetes' API server does and in its words: kube-openapi's validation of
// custom resources, error for error. All mistakes are reported.
import {
  breaksBound,
  invalidValue,
  jsonTypeName,
  REQUIRED,
  tooLong,
  tooMany,
  unsupportedValue,
  wrongType,
} from './api-words.ts';
import {
  describeFound,
  type FieldError,
  formatPath,
  type PathSegment,
  quote,
  typeName,
} from './field-error.ts';
import { nearestName } from './nearest.ts';
import { isRecord, mapValues, type StructuralSchema } from './structural.ts';

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

const patterns = new Map<string, RegExp>();

function matches(pattern: string, text: string): boolean {
  let compiled = patterns.get(pattern);
  if (compiled === undefined) {
    compiled = new RegExp(pattern, 'u');
    patterns.set(pattern, compiled);
  }
  return compiled.test(text);
}

/** In characters, as Kubernetes counts. */
function lengthOf(text: string): number {
  let length = 0;
  for (const _ of text) length += 1;
  return length;
}

/** The type that the API server names when a value has the wrong one; undefined when it is right. */
function wrongTypeOf({ type, nullable }: StructuralSchema, value: unknown): string | undefined {
  const found = jsonTypeName(value);
  if (type === undefined || found === type) return undefined;
  if (found === 'null') return nullable === true ? undefined : found;
  return type === 'number' && found === 'integer' ? undefined : found;
}

class Check {
  readonly errors: FieldError[] = [];
  readonly #hideValues: boolean;

  constructor(hideValues: boolean) {
    this.#hideValues = hideValues;
  }

  visit(schema: StructuralSchema, path: readonly PathSegment[], value: unknown): void {
    this.#type(schema, path, value);
    if (typeof value === 'string') this.#string(schema, path, value);
    else if (typeof value === 'number') this.#number(schema, path, value);
    else if (Array.isArray(value)) this.#list(schema, path, value);
    else if (isRecord(value)) this.#mapping(schema, path, value);
    this.#enum(schema, path, value);
  }

  #add(error: Omit<FieldError, 'found' | 'expected'>, schema: StructuralSchema, value: unknown): void {
    const found = this.#hideValues
      ? typeName(value)
      : describeFound(value, error.reason === 'FieldValueTypeInvalid');
    this.errors.push({ ...error, found, expected: describeExpected(schema) });
  }

  #type(schema: StructuralSchema, path: readonly PathSegment[], value: unknown): void {
    const found = wrongTypeOf(schema, value);
    if (found === undefined) return;
    const quotes =
      schema.type === 'string' && (typeof value === 'number' || typeof value === 'boolean')
        ? '; put it in quotes'
        : '';
    this.#add(
      {
        reason: 'FieldValueTypeInvalid',
        path,
        message: wrongType(formatPath(path), schema.type ?? '', found),
        hint: `found ${this.#hideValues ? typeName(value) : describeFound(value, true)}, expected ${describeExpected(schema)}${quotes}`,
      },
      schema,
      value,
    );
  }

  #enum(schema: StructuralSchema, path: readonly PathSegment[], value: unknown): void {
    const values = schema.enum;
    if (values === undefined || values.includes(value) || (value === null && schema.nullable === true))
      return;
    const nearest = typeof value === 'string' ? nearestName(value, values.map(String)) : undefined;
    this.#add(
      {
        reason: 'FieldValueNotSupported',
        path,
        message: unsupportedValue(this.#shown(value), values),
        ...(nearest === undefined ? {} : { nearest, hint: `did you mean ${nearest}?` }),
      },
      schema,
      value,
    );
  }

  #shown(value: unknown): unknown {
    return this.#hideValues ? jsonTypeName(value) : value;
  }

  #string(schema: StructuralSchema, path: readonly PathSegment[], value: string): void {
    const error = this.#stringMistake(schema, path, value);
    if (error !== undefined) this.#add(error, schema, value);
  }

  #stringMistake(
    schema: StructuralSchema,
    path: readonly PathSegment[],
    value: string,
  ): Omit<FieldError, 'found' | 'expected'> | undefined {
    const { minLength, maxLength, pattern } = schema;
    const length = lengthOf(value);
    if (maxLength !== undefined && length > maxLength) {
      return { reason: 'FieldValueTooLong', path, message: tooLong(maxLength) };
    }
    const at = formatPath(path);
    const shown = this.#shown(value);
    const said = schema['x-bulkhead-expected'];
    const hint = said === undefined ? {} : { hint: `expected ${said}` };
    if (minLength !== undefined && length < minLength) {
      const message = breaksBound(at, shown, `be at least ${minLength} chars long`);
      return { reason: 'FieldValueInvalid', path, message, ...hint };
    }
    if (pattern !== undefined && !matches(pattern, value)) {
      const message = breaksBound(at, shown, `match '${pattern}'`);
      return { reason: 'FieldValueInvalid', path, message, ...hint };
    }
    return undefined;
  }

  #number(schema: StructuralSchema, path: readonly PathSegment[], value: number): void {
    const { minimum, maximum } = schema;
    // YAML has infinities, JSON has not: no bound says more about them than the type.
    if (!Number.isFinite(value)) return;
    const shown = this.#shown(value);
    const at = formatPath(path);
    const outside = (bound: string) =>
      this.#add({ reason: 'FieldValueInvalid', path, message: breaksBound(at, shown, bound) }, schema, value);
    if (minimum !== undefined && value < minimum) outside(`be greater than or equal to ${minimum}`);
    if (maximum !== undefined && value > maximum) outside(`be less than or equal to ${maximum}`);
  }

  #list(schema: StructuralSchema, path: readonly PathSegment[], value: readonly unknown[]): void {
    const { items, minItems, maxItems } = schema;
    if (maxItems !== undefined && value.length > maxItems) {
      this.#add(
        { reason: 'FieldValueTooMany', path, message: tooMany(value.length, maxItems) },
        schema,
        value,
      );
    }
    if (minItems !== undefined && value.length < minItems) {
      const message = breaksBound(formatPath(path), value.length, `have at least ${minItems} items`);
      this.#add({ reason: 'FieldValueInvalid', path, message }, schema, value);
    }
    if (items === undefined) return;
    for (const [index, item] of value.entries()) this.visit(items, [...path, index], item);
  }

  #mapping(schema: StructuralSchema, path: readonly PathSegment[], value: Record<string, unknown>): void {
    const { properties = {}, required = [], minProperties, maxProperties } = schema;
    const names = Object.keys(value);
    if (maxProperties !== undefined && names.length > maxProperties) {
      this.#add(
        { reason: 'FieldValueTooMany', path, message: tooMany(names.length, maxProperties) },
        schema,
        value,
      );
    }
    if (minProperties !== undefined && names.length < minProperties) {
      const message = breaksBound(
        formatPath(path),
        names.length,
        `have at least ${minProperties} properties`,
      );
      this.#add({ reason: 'FieldValueInvalid', path, message }, schema, value);
    }
    for (const name of required) {
      const property = properties[name] ?? {};
      if (value[name] !== undefined && Object.hasOwn(value, name)) continue;
      const expected = describeExpected(property);
      this.errors.push({
        reason: 'FieldValueRequired',
        path: [...path, name],
        message: REQUIRED,
        hint: `expected ${expected}`,
        found: 'nothing',
        expected,
      });
    }
    const values = mapValues(schema);
    for (const name of names) {
      const child = value[name];
      if (child === undefined) continue;
      const property = Object.hasOwn(properties, name) ? properties[name] : values;
      if (property !== undefined) this.visit(property, [...path, name], child);
      else if (schema.additionalProperties === false) this.errors.push(unknownField(path, name, schema));
      this.#key(schema, path, name);
    }
  }

  /** Names of a map's entries, where those are bounded too. */
  #key(schema: StructuralSchema, path: readonly PathSegment[], name: string): void {
    const { propertyNames } = schema;
    if (propertyNames === undefined) return;
    const mistake = this.#stringMistake(propertyNames, [...path, name], name);
    if (mistake === undefined) return;
    const expected = describeExpected(propertyNames);
    const message = invalidValue(name, `a key must be ${expected}`);
    this.errors.push({
      reason: 'FieldValueInvalid',
      path: [...path, name],
      message,
      found: quote(name),
      expected,
    });
  }
}

function unknownField(path: readonly PathSegment[], name: string, schema: StructuralSchema): FieldError {
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
    message: 'unknown field',
    hint: nearest === undefined ? `expected ${expected}` : `did you mean ${nearest}?`,
    found: quote(name),
    expected,
    ...(nearest === undefined ? {} : { nearest }),
  };
}

/** Prepares a schema once. `hideValues`: messages never hold what stands in a field. */
export function compileSchema(schema: StructuralSchema, options: { hideValues: boolean }): SchemaChecker {
  return (value) => {
    const check = new Check(options.hideValues);
    check.visit(schema, [], value);
    return check.errors;
  };
}
