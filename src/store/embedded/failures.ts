// What failures of the store's file mean.
import { BulkheadError, type ErrorCode } from '../../api/errors.ts';

/** Primary result codes of SQLite (https://sqlite.org/rescode.html) that have a meaning of their own here. */
const SQLITE_CODES: Readonly<Record<number, ErrorCode>> = {
  5: 'STORE_LOCKED', // SQLITE_BUSY
  6: 'STORE_LOCKED', // SQLITE_LOCKED
  8: 'DISK_UNWRITABLE', // SQLITE_READONLY
  10: 'DISK_UNWRITABLE', // SQLITE_IOERR
  11: 'STORE_CORRUPT', // SQLITE_CORRUPT
  13: 'STORE_FULL', // SQLITE_FULL
  14: 'DISK_UNWRITABLE', // SQLITE_CANTOPEN
  18: 'TOO_LARGE', // SQLITE_TOOBIG
  26: 'STORE_CORRUPT', // SQLITE_NOTADB
};

/** Turns SQLite's errors into ours; others pass as they are. */
export function storeError(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return error;
  const code = SQLITE_CODES[error.errcode & 0xff] ?? 'INTERNAL';
  return new BulkheadError(code, `${path}: ${error.message}`, { cause: error });
}

/** STORE_CORRUPT with what to do about it. */
export function corrupt(path: string, problem: string, cause?: unknown): BulkheadError {
  return new BulkheadError(
    'STORE_CORRUPT',
    `${path} is damaged (${problem}). It was left as it is. Restore it from a backup, or move it and ${path}-wal ` +
      'away: the next start then makes a new store from the manifests.',
    { cause },
  );
}

/** STORE_CORRUPT for a store that is whole, but older than what it has acknowledged. */
export function wentBack(path: string, found: number, acknowledged: number): BulkheadError {
  return new BulkheadError(
    'STORE_CORRUPT',
    `${path} is at revision ${found}, but revision ${acknowledged} was acknowledged: its write-ahead log ${path}-wal is ` +
      'damaged or missing, or an older copy of the store was put in its place. It was left as it is. Restore both files, ' +
      `or move both away: the next start then makes a new store from the manifests. To go on with the older state, in which ` +
      `deleted objects are back, remove ${path}-revision.`,
  );
}
