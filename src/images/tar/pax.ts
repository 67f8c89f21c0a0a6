// pax extended headers: "LENGTH KEY=VALUE\n" records.

import { TarError } from './header.ts';
import type { SparsePiece } from './sparse.ts';

/** What the reader uses of a pax header. Strings are latin1: one char per byte of the (UTF-8) original. */
export interface PaxFields {
  path?: string;
  linkPath?: string;
  size?: number;
  uid?: number;
  gid?: number;
  mtime?: PaxTime;
  xattrs?: Map<string, Buffer>;
  sparse?: PaxSparse;
}

export interface PaxTime {
  seconds: number;
  nanoseconds: number;
}

/** GNU sparse in its three pax forms: 0.0 and 0.1 carry the map here, 1.0 at the start of the payload. */
export interface PaxSparse {
  name?: string;
  realSize?: number;
  map: SparsePiece[];
  mapInPayload: boolean;
}

/** Longest record length field: "1048576" and room. */
const MAX_LENGTH_DIGITS = 10;
const XATTR_PREFIX = 'SCHILY.xattr.';

/** @throws TarError for a record that breaks the format. */
export function parsePax(bytes: Buffer, entry: string): PaxFields {
  const fields: PaxFields = {};
  const sparse = new Map<string, string>();
  const pairs: SparsePiece[] = [];
  let at = 0;
  while (at < bytes.length) {
    const record = nextRecord(bytes, at, entry);
    at += record.length;
    applyRecord(fields, sparse, pairs, record.key, record.value, entry);
  }
  if (sparse.size > 0) fields.sparse = paxSparse(sparse, pairs, entry);
  return fields;
}

interface PaxRecord {
  length: number;
  key: string;
  value: Buffer;
}

function nextRecord(bytes: Buffer, at: number, entry: string): PaxRecord {
  const space = bytes.indexOf(0x20, at);
  const digits =
    space === -1 ? '' : bytes.toString('latin1', at, Math.min(space, at + MAX_LENGTH_DIGITS + 1));
  if (!/^[0-9]+$/.test(digits) || digits.length > MAX_LENGTH_DIGITS) {
    throw new TarError('pax record without a length', entry);
  }
  const length = Number(digits);
  const end = at + length;
  if (end > bytes.length || end <= space + 1 || bytes[end - 1] !== 0x0a) {
    throw new TarError('pax record with a wrong length', entry);
  }
  const equals = bytes.indexOf(0x3d, space + 1);
  if (equals === -1 || equals >= end) throw new TarError('pax record without "="', entry);
  const key = bytes.toString('latin1', space + 1, equals);
  if (key === '' || key.includes('\0')) throw new TarError('pax record with a bad key', entry);
  return { length, key, value: bytes.subarray(equals + 1, end - 1) };
}

function applyRecord(
  fields: PaxFields,
  sparse: Map<string, string>,
  pairs: SparsePiece[],
  key: string,
  value: Buffer,
  entry: string,
): void {
  if (key.startsWith(XATTR_PREFIX)) {
    fields.xattrs ??= new Map();
    // A copy: the value outlives the chunk that it is part of.
    fields.xattrs.set(key.slice(XATTR_PREFIX.length), Buffer.from(value));
    return;
  }
  const text = value.toString('latin1');
  switch (key) {
    case 'path':
      // An empty value takes back an earlier one, as POSIX says.
      if (text === '') delete fields.path;
      else fields.path = noNul(text, 'path', entry);
      return;
    case 'linkpath':
      if (text === '') delete fields.linkPath;
      else fields.linkPath = noNul(text, 'linkpath', entry);
      return;
    case 'size':
      fields.size = decimal(text, 'size', entry);
      return;
    case 'uid':
      fields.uid = decimal(text, 'uid', entry);
      return;
    case 'gid':
      fields.gid = decimal(text, 'gid', entry);
      return;
    case 'mtime':
      fields.mtime = paxTime(text, entry);
      return;
    case 'GNU.sparse.offset':
      pairs.push({ offset: decimal(text, key, entry), length: -1 });
      sparse.set(key, text);
      return;
    case 'GNU.sparse.numbytes': {
      const last = pairs.at(-1);
      if (last === undefined || last.length !== -1) throw new TarError('sparse map out of order', entry);
      last.length = decimal(text, key, entry);
      return;
    }
    default:
      if (key.startsWith('GNU.sparse.')) sparse.set(key, text);
  }
}

function paxSparse(records: Map<string, string>, pairs: SparsePiece[], entry: string): PaxSparse {
  const result: PaxSparse = { map: pairs, mapInPayload: records.get('GNU.sparse.major') === '1' };
  const name = records.get('GNU.sparse.name');
  if (name !== undefined) result.name = noNul(name, 'GNU.sparse.name', entry);
  const size = records.get('GNU.sparse.realsize') ?? records.get('GNU.sparse.size');
  if (size !== undefined) result.realSize = decimal(size, 'sparse size', entry);
  const map = records.get('GNU.sparse.map');
  if (map !== undefined && map !== '') {
    const numbers = map.split(',').map((part) => decimal(part, 'sparse map', entry));
    if (numbers.length % 2 !== 0) throw new TarError('sparse map of odd length', entry);
    result.map = [];
    for (let i = 0; i < numbers.length; i += 2) {
      result.map.push({ offset: numbers[i] ?? 0, length: numbers[i + 1] ?? 0 });
    }
  }
  if (result.map.some((piece) => piece.length < 0)) throw new TarError('sparse map out of order', entry);
  return result;
}

function noNul(value: string, what: string, entry: string): string {
  if (value.includes('\0')) throw new TarError(`${what} holds a NUL byte`, entry);
  return value;
}

/** A decimal number without a sign, that a double holds exactly. @throws TarError */
export function decimal(value: string, what: string, entry: string): number {
  const result = /^[0-9]{1,16}$/.test(value) ? Number(value) : Number.NaN;
  if (!Number.isSafeInteger(result)) throw new TarError(`${what} is not a number in range`, entry);
  return result;
}

function paxTime(value: string, entry: string): PaxTime {
  const match = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(value);
  if (match === null) throw new TarError('mtime is not a number in range', entry);
  const seconds = Number(match[2]);
  const nanoseconds = Number((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  if (match[1] === '') return { seconds, nanoseconds };
  // Nanoseconds always count upwards from the second, as in struct timespec.
  return nanoseconds === 0
    ? { seconds: seconds === 0 ? 0 : -seconds, nanoseconds: 0 }
    : { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds };
}
