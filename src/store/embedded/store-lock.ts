// Keeps a second process out while a store is made, inspected and used: what comes before SQLite's own lock on the store, as
// whether there is one, and what its log says, must not change meanwhile.
import { DatabaseSync } from 'node:sqlite';
import { storeError } from './failures.ts';

export interface StoreLock {
  release(): void;
}

/** Waits so long for a process that is ending; this blocks. The lock goes with the process. Fails with STORE_LOCKED. */
export function lockStore(path: string, waitMs: number): StoreLock {
  // An empty file stays, and is never removed: whoever waits for it has it open. SQLite takes the lock, as Node itself has none.
  const file = `${path}-lock`;
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(file, { timeout: waitMs });
    // Nothing is ever written: no journal is to lie about for it.
    database.exec('PRAGMA journal_mode=MEMORY; BEGIN EXCLUSIVE');
  } catch (error) {
    database?.close();
    throw storeError(error, path);
  }
  const held = database;
  return { release: () => held.close() };
}
