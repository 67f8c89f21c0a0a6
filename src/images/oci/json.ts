// Reading untrusted JSON: the shapes are asked for field by field, and what does not fit names its path.

import { BulkheadError } from '../../api/errors.ts';

export type JsonObject = Record<string, unknown>;

/** @throws BulkheadError IMAGE_INVALID unless `bytes` is a JSON object. */
export function parseObject(bytes: Buffer, what: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw invalid(what, 'is not JSON');
  }
  return asObject(value, what);
}

export function asObject(value: unknown, what: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid(what, 'is not an object');
  return value as JsonObject;
}

/** An absent or null list is empty: Go writers leave empty ones out, or write null. */
export function asArray(value: unknown, what: string, most: number): unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw invalid(what, 'is not a list');
  if (value.length > most) throw invalid(what, `has more than ${most} items`);
  return value;
}

export function asString(value: unknown, what: string): string {
  if (value === undefined || value === null) return '';
  if (typeof value !== 'string') throw invalid(what, 'is not a string');
  if (value.includes('\0')) throw invalid(what, 'holds a NUL byte');
  return value;
}

export function asStrings(value: unknown, what: string, most: number): string[] {
  return asArray(value, what, most).map((item, index) => asString(item, `${what}[${index}]`));
}

export function asStringMap(value: unknown, what: string, most: number): Record<string, string> {
  if (value === undefined || value === null) return {};
  const entries = Object.entries(asObject(value, what));
  if (entries.length > most) throw invalid(what, `has more than ${most} entries`);
  return Object.fromEntries(
    entries.map(([key, item]) => [key, asString(item, `${what}[${JSON.stringify(key)}]`)]),
  );
}

export function invalid(what: string, why: string): BulkheadError {
  return new BulkheadError('IMAGE_INVALID', `${what} ${why}`);
}
