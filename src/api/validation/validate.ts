// The one validator: folder, server and command line ask it, and Kubernetes evaluates the same schema and rules.
import { CORE_DATA_MAX_BASE64, CORE_DATA_MAX_BYTES } from '../core.ts';
import { applyDefaults } from '../defaults.ts';
import { BulkheadError } from '../errors.ts';
import { apiVersionOf, KINDS, kindNamed } from '../kinds.ts';
import type { ObjectManifest } from '../meta.ts';
import { ANNOTATIONS_MAX_BYTES } from '../metadata.ts';
import { invalidValue, jsonTypeName, REQUIRED, tooLong, unsupportedValue, wrongType } from './api-words.ts';
import {
  describeFound,
  ERRORS_PER_OBJECT_MAX,
  type FieldError,
  formatFieldError,
  formatPath,
  type PathSegment,
} from './field-error.ts';
import { checkMetadata } from './metadata-check.ts';
import { nearestName } from './nearest.ts';
import { checkerOf } from './object-schemas.ts';
import { isRecord } from './structural.ts';

/** Either a manifest that is valid and has its defaults, or what is wrong with it. */
export type ValidationResult =
  | { manifest: ObjectManifest; errors: readonly [] }
  | { manifest: undefined; errors: readonly FieldError[] };

/** The parts of a former object that transition rules compare with. */
export type FormerObject = Pick<ObjectManifest, 'spec'>;

const KIND_NAMES: readonly string[] = KINDS.map(({ kind }) => kind);

function notOneOf(path: readonly PathSegment[], value: unknown, names: readonly string[]): FieldError {
  const expected = names.length === 1 ? `"${names[0]}"` : `one of ${names.join(', ')}`;
  if (value === undefined || value === null) {
    return {
      reason: 'FieldValueRequired',
      path,
      message: REQUIRED,
      hint: `expected ${expected}`,
      found: 'nothing',
      expected,
    };
  }
  const found = describeFound(value, typeof value !== 'string');
  const nearest = typeof value === 'string' ? nearestName(value, names) : undefined;
  return {
    reason: 'FieldValueNotSupported',
    path,
    message: unsupportedValue(value, names),
    found,
    expected,
    ...(nearest === undefined ? {} : { nearest, hint: `did you mean ${nearest}?` }),
  };
}

/** Mistakes beside which Kubernetes evaluates no rules. */
const BLOCKS_RULES: ReadonlySet<FieldError['reason']> = new Set([
  'FieldValueRequired',
  'FieldValueTypeInvalid',
  'FieldValueNotSupported',
  'FieldValueTooLong',
  'FieldValueTooMany',
]);

function startsWith(path: readonly PathSegment[], prefix: readonly PathSegment[]): boolean {
  return prefix.length <= path.length && prefix.every((segment, index) => segment === path[index]);
}

/** The same sentence about the same field once, as in the list that Kubernetes sends. */
function once(errors: readonly FieldError[]): FieldError[] {
  const seen = new Set<string>();
  return errors.filter((error) => {
    const key = JSON.stringify([error.path, error.message]);
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}

function atMost(errors: readonly FieldError[]): readonly FieldError[] {
  if (errors.length <= ERRORS_PER_OBJECT_MAX) return errors;
  const more = errors.length - ERRORS_PER_OBJECT_MAX;
  return [
    ...errors.slice(0, ERRORS_PER_OBJECT_MAX),
    { reason: 'FieldValueInvalid', path: [], message: `${more} more mistakes are not shown` },
  ];
}

function bytesOf(map: unknown): number {
  if (!isRecord(map)) return 0;
  return Object.entries(map).reduce(
    (sum, [name, value]) => sum + Buffer.byteLength(name) + Buffer.byteLength(String(value)),
    0,
  );
}

function tooManyBytes(path: readonly PathSegment[], bytes: number, maximum: number): FieldError[] {
  if (bytes <= maximum) return [];
  const expected = `at most ${maximum} bytes in all`;
  return [
    {
      reason: 'FieldValueTooLong',
      path,
      message: tooLong(maximum),
      found: `${bytes} bytes`,
      expected,
    },
  ];
}

/** Standard base64 with padding; line breaks are let through, as block scalars bring them. */
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

function checkSecretData(data: unknown): FieldError[] {
  if (!isRecord(data)) return [];
  const expected = 'base64; plain text goes into stringData';
  return Object.entries(data)
    .filter(([, value]) => typeof value === 'string' && !BASE64.test(value.replace(/\s/g, '')))
    .map(([name]) => ({
      reason: 'FieldValueInvalid' as const,
      path: ['data', name],
      message: invalidValue('string', 'must be base64'),
      hint: `expected ${expected}`,
      found: 'a string',
      expected,
    }));
}

/** Bounds over several fields, which neither JSON Schema nor CEL expresses at their place. */
function checkSizes(object: Record<string, unknown>): FieldError[] {
  const metadata = isRecord(object.metadata) ? object.metadata : {};
  const data = bytesOf(object.data) + bytesOf(object.stringData);
  return [
    ...tooManyBytes(['metadata', 'annotations'], bytesOf(metadata.annotations), ANNOTATIONS_MAX_BYTES),
    ...tooManyBytes(['data'], data, object.kind === 'Secret' ? CORE_DATA_MAX_BASE64 : CORE_DATA_MAX_BYTES),
    ...(object.kind === 'Secret' ? checkSecretData(object.data) : []),
  ];
}

/** Settable metadata; what servers set is without effect in a manifest. */
const METADATA_FIELDS = [
  'name',
  'namespace',
  'labels',
  'annotations',
  'finalizers',
  'ownerReferences',
  'uid',
  'resourceVersion',
] as const;

function coreData(object: Record<string, unknown>): Record<string, string> {
  const texts = (value: unknown) => (isRecord(value) ? (value as Record<string, string>) : {});
  const plain = Object.entries(texts(object.stringData)).map(
    ([name, value]) => [name, Buffer.from(value).toString('base64')] as const,
  );
  return Object.fromEntries([...Object.entries(texts(object.data)), ...plain]);
}

/** Of an object that passed every check. */
function toManifest(object: Record<string, unknown>): ObjectManifest {
  const metadata = object.metadata as Record<string, unknown>;
  const settable = METADATA_FIELDS.filter((field) => metadata[field] !== undefined).map((field) => [
    field,
    metadata[field],
  ]);
  const isCore = object.apiVersion === 'v1';
  return {
    apiVersion: object.apiVersion as string,
    kind: object.kind as string,
    metadata: Object.fromEntries(settable) as ObjectManifest['metadata'],
    // The kind of data that Kubernetes serves: base64 in a Secret, text in a ConfigMap.
    ...(isCore ? { spec: undefined, data: coreData(object) } : { spec: object.spec }),
  };
}

/**
 * Checks an object as a client sent it and fills in defaults. With the former object, also what may not change.
 * Never throws and never changes its arguments; all mistakes are reported, not the first.
 */
export function validateObject(value: unknown, former?: FormerObject): ValidationResult {
  if (!isRecord(value)) {
    const found = describeFound(value, true);
    const expected = 'a mapping with apiVersion, kind, metadata and spec';
    const message = wrongType('document', 'object', jsonTypeName(value));
    const hint = `found ${found}, expected ${expected}`;
    return {
      manifest: undefined,
      errors: [{ reason: 'FieldValueTypeInvalid', path: [], message, hint, found, expected }],
    };
  }
  const row = typeof value.kind === 'string' ? kindNamed(value.kind) : undefined;
  if (row === undefined) {
    return { manifest: undefined, errors: [notOneOf(['kind'], value.kind, KIND_NAMES)] };
  }
  const version = apiVersionOf(row);
  if (value.apiVersion !== version) {
    return { manifest: undefined, errors: [notOneOf(['apiVersion'], value.apiVersion, [version])] };
  }
  const { schema, checkSchema, checkRules } = checkerOf(row.kind);
  const object = applyDefaults(schema, value) as Record<string, unknown>;
  const schemaErrors = checkSchema(object);
  // A document with this many mistakes is another thing altogether; more checks would cost time and help nobody.
  if (schemaErrors.length > ERRORS_PER_OBJECT_MAX)
    return { manifest: undefined, errors: atMost(schemaErrors) };
  const mistaken = schemaErrors.filter(({ reason }) => BLOCKS_RULES.has(reason)).map(({ path }) => path);
  const old =
    former === undefined
      ? undefined
      : applyDefaults(schema, { apiVersion: version, kind: row.kind, spec: former.spec });
  const ruleErrors = checkRules(object, old, (path) => mistaken.some((each) => startsWith(each, path)));
  const errors = [...schemaErrors, ...checkMetadata(object.metadata), ...ruleErrors, ...checkSizes(object)];
  if (errors.length > 0) return { manifest: undefined, errors: atMost(once(errors)) };
  return { manifest: toManifest(object), errors: [] };
}

/** `validateObject` that throws INVALID, with each mistake as a cause. */
export function requireValid(value: unknown, former?: FormerObject): ObjectManifest {
  const { manifest, errors } = validateObject(value, former);
  if (manifest !== undefined) return manifest;
  throw invalidObject(errors);
}

/** Mistakes as one error: INVALID, with a line each in the message and as causes. */
export function invalidObject(errors: readonly FieldError[]): BulkheadError {
  return new BulkheadError('INVALID', errors.map(formatFieldError).join('\n'), {
    causes: errors.map(({ reason, path, message }) => ({ reason, message, field: formatPath(path) })),
  });
}
