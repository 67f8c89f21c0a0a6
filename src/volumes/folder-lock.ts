// One daemon per folder of volumes: two would each take the other's disks for left over.
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { BulkheadError } from '../api/errors.ts';

export interface FolderLock {
  release(): void;
}

/**
 * Node has no file locks of its own, SQLite has: an exclusive transaction on an empty database holds one, and the kernel
 * drops it with the process. Fails with CONFLICT while another process holds it.
 */
export function lockVolumes(dir: string): FolderLock {
  const database = new DatabaseSync(join(dir, 'lock'));
  try {
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    throw new BulkheadError('CONFLICT', `the volumes in ${dir} are in use by another daemon`, {
      cause: error,
    });
  }
  return { release: () => database.close() };
}
