// Query parameters, checked: a parameter that means nothing fails loudly.
import { BulkheadError } from '../api/errors.ts';

/** Parsed query string; a repeated parameter is a list. */
export type Query = Record<string, string | string[] | undefined>;

/** The one value of a parameter; the last one where it is repeated. */
export function single(query: Query, name: string): string | undefined {
  const value = query[name];
  const last = Array.isArray(value) ? value.at(-1) : value;
  return last === '' ? undefined : last;
}

/** Every value of a parameter that may be repeated. */
export function repeated(query: Query, name: string): string[] {
  const value = query[name];
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}

/** `true`, `1`, `false`, `0`; a bare `?watch` counts as true. */
export function boolean(query: Query, name: string, fallback = false): boolean {
  const value = query[name];
  const last = Array.isArray(value) ? value.at(-1) : value;
  if (last === undefined) return fallback;
  if (['true', '1', ''].includes(last)) return true;
  if (['false', '0'].includes(last)) return false;
  throw new BulkheadError('BAD_REQUEST', `query parameter ${name}: expected true or false, found "${last}"`);
}

/** A whole number of at least `minimum`. */
export function integer(query: Query, name: string, minimum = 0, maximum = Number.MAX_SAFE_INTEGER) {
  const value = single(query, name);
  if (value === undefined) return undefined;
  const number = /^\d{1,15}$/.test(value) ? Number(value) : Number.NaN;
  if (!(number >= minimum && number <= maximum)) {
    throw new BulkheadError(
      'BAD_REQUEST',
      `query parameter ${name}: expected a whole number from ${minimum} to ${maximum}, found "${value}"`,
    );
  }
  return number;
}

/** `dryRun=All` is the only dry run there is. */
export function dryRun(query: Query): boolean {
  const value = single(query, 'dryRun');
  if (value === undefined) return false;
  if (value === 'All') return true;
  throw new BulkheadError('BAD_REQUEST', `query parameter dryRun: expected All, found "${value}"`);
}

/** A query string as Fastify would parse it; for WebSocket upgrades, which do not pass through Fastify. */
export function parseQuery(params: URLSearchParams): Query {
  const query: Query = Object.create(null) as Query;
  for (const name of new Set(params.keys())) query[name] = params.getAll(name);
  return query;
}
