// One daemon per cache folder: a lock that the kernel drops with the process, whatever ends it.

import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { BulkheadError } from '../../api/errors.ts';

export interface FolderLock {
  release(): void;
}

/**
 * Node has no file locks of its own, SQLite has: an exclusive transaction on an empty database holds one.
 * @throws BulkheadError CONFLICT while another process, or another cache of this one, holds it.
 */
export function lockFolder(folder: string): FolderLock {
  const database = new DatabaseSync(join(folder, 'lock'));
  try {
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    throw new BulkheadError('CONFLICT', `the image cache ${folder} is in use by another process`, {
      cause: error,
    });
  }
  return { release: () => database.close() };
}
