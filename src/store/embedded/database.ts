// The SQLite file: opening it safely, and its schema.
import { chmodSync, closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { BulkheadError } from '../../api/errors.ts';
import { corrupt, storeError, wentBack } from './failures.ts';
import { MIGRATIONS } from './migrations.ts';
import { readMark, removeMark } from './revision-mark.ts';

/** Marks the file as ours in SQLite's header ("BKHD"), so that no other program's database is taken for a store. */
const APPLICATION_ID = 0x424b4844;
/** A former daemon that is shutting down gets so long to release the file. Opening blocks meanwhile. */
export const LOCK_WAIT_MS = 5_000;
/** The write-ahead log is cut back to this after a checkpoint. */
const MAX_IDLE_WAL_BYTES = 16 * 1024 * 1024;
/** SQLite's default, said here because the size limit is counted in pages. */
const PAGE_BYTES = 4096;

export interface DatabaseOptions {
  path: string;
  /** The file cannot grow beyond this; writes that would make it fail with STORE_FULL. */
  maxBytes: number;
  lockWaitMs: number;
}

/**
 * Opens the store's file for this process alone, which holds its lock, making it when there is none.
 * Fails with STORE_LOCKED, STORE_CORRUPT or STORE_TOO_NEW; a file that fails is left exactly as it was.
 */
export function openDatabase(options: DatabaseOptions): DatabaseSync {
  const { path } = options;
  if (!existsSync(path)) createDatabase(path);
  // Files are never empty after createDatabase: an empty one has lost what it held.
  if (statSync(path).size === 0) throw corrupt(path, 'the file is empty');
  chmodSync(path, 0o600);
  const { lockWaitMs } = options;
  inspect(path, lockWaitMs);
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { timeout: lockWaitMs });
    configure(database, options.maxBytes);
    migrate(database, path);
    return database;
  } catch (error) {
    database?.close();
    throw storeError(error, path);
  }
}

/** A complete, empty store appears under its name at once: a crash leaves either none or a whole one. */
function createDatabase(path: string): void {
  // The log of a store that was moved away must not be replayed into the new one.
  if (existsSync(`${path}-wal`)) renameSync(`${path}-wal`, `${path}-wal.orphan`);
  removeMark(path);
  const temporary = `${path}.new`;
  for (const leftover of [temporary, `${temporary}-journal`]) rmSync(leftover, { force: true });
  // SQLite gives its other files the mode of the main one.
  closeSync(openSync(temporary, 'wx', 0o600));
  try {
    const database = new DatabaseSync(temporary);
    try {
      database.exec(`PRAGMA page_size=${PAGE_BYTES}; PRAGMA synchronous=FULL`);
      database.exec(`BEGIN; PRAGMA application_id=${APPLICATION_ID}`);
      applyMigrations(database, 0);
      database.exec('COMMIT');
    } finally {
      database.close();
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw storeError(error, path);
  }
  const directory = openSync(dirname(path), 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

/**
 * Checks the file with its log before anything can change them: closing a connection that may write merges the log into the
 * database, whatever state they are in, and the evidence is gone. One that only reads leaves both as they are.
 */
function inspect(path: string, lockWaitMs: number): void {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { timeout: lockWaitMs, readOnly: true });
    checkIntegrity(database, path);
    checkRevision(database, path);
  } catch (error) {
    throw storeError(error, path);
  } finally {
    database?.close();
    // Its index of the log; the connection that stays keeps its own in memory.
    rmSync(`${path}-shm`, { force: true });
  }
}

/** What was acknowledged must be there. */
function checkRevision(database: DatabaseSync, path: string): void {
  const acknowledged = readMark(path);
  const found = Number(
    database.prepare('SELECT max(resource_version) AS latest FROM changes').get()?.latest ?? 0,
  );
  if (found < acknowledged) throw wentBack(path, found, acknowledged);
}

function configure(database: DatabaseSync, maxBytes: number): void {
  // Exclusive: the objects are held in memory too, so a second writer would go unseen. The lock dies with the process.
  database.exec('PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL');
  database.exec(`PRAGMA journal_size_limit=${MAX_IDLE_WAL_BYTES}`);
  database.exec(`PRAGMA max_page_count=${Math.max(1, Math.floor(maxBytes / PAGE_BYTES))}`);
  // Takes the lock now rather than at the first write.
  database.exec('BEGIN IMMEDIATE; COMMIT');
}

function checkIntegrity(database: DatabaseSync, path: string): void {
  const applicationId = database.prepare('PRAGMA application_id').get()?.application_id;
  if (applicationId !== APPLICATION_ID) throw corrupt(path, 'it is no Bulkhead store');
  const verdict = database.prepare('PRAGMA integrity_check(1)').get()?.integrity_check;
  if (verdict !== 'ok') throw corrupt(path, String(verdict));
}

function migrate(database: DatabaseSync, path: string): void {
  const version = Number(database.prepare('PRAGMA user_version').get()?.user_version);
  if (version > MIGRATIONS.length) {
    throw new BulkheadError(
      'STORE_TOO_NEW',
      `${path} has schema ${version}; this program knows schemas up to ${MIGRATIONS.length}.`,
    );
  }
  if (version === MIGRATIONS.length) return;
  database.exec('BEGIN IMMEDIATE');
  applyMigrations(database, version);
  database.exec('COMMIT');
}

/** A write to the disk that changes nothing. */
export function rewriteHeader(database: DatabaseSync): void {
  database.exec(`PRAGMA user_version=${MIGRATIONS.length}`);
}

function applyMigrations(database: DatabaseSync, from: number): void {
  for (const migration of MIGRATIONS.slice(from)) database.exec(migration);
  database.exec(`PRAGMA user_version=${MIGRATIONS.length}`);
}
