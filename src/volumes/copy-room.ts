// Copies of disks can wait; guests that run cannot: where their host's disk is full they stand still. So a copy leaves free what is
// kept for them, and is refused before it takes anything.
import { randomUUID } from 'node:crypto';
import { constants, copyFile, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkheadError } from '../api/errors.ts';

/** Begins the name of a file that is gone again at once; a killed daemon may leave one. */
export const PROBE = '.making-probe-';
const MIB = 1024 * 1024;
/** stat counts allocated blocks in these units, whatever the file system's own are. */
const STAT_BLOCK_BYTES = 512;

/** Fails with DISK_FULL where less than `keptBytes` of the file system of `folder` might be left with a copy of `source` in it. */
export async function requireRoomForCopy(source: string, folder: string, keptBytes: number): Promise<void> {
  const [{ blocks }, { bavail, bsize }] = await Promise.all([stat(source), statfs(folder)]);
  const needed = blocks * STAT_BLOCK_BYTES;
  const free = bavail * bsize;
  if (free - needed >= keptBytes || (await sharesBlocks(source, folder))) return;
  throw new BulkheadError(
    'DISK_FULL',
    `the copy takes up to ${mebi(needed)}, and the disk has ${mebi(free)} free, of which ${mebi(keptBytes)} are kept for sandboxes`,
  );
}

/** Does a copy in that folder take nothing? Told by making one. */
async function sharesBlocks(source: string, folder: string): Promise<boolean> {
  const probe = join(folder, `${PROBE}${randomUUID()}`);
  try {
    await copyFile(source, probe, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch {
    return false;
  } finally {
    await rm(probe, { force: true });
  }
}

function mebi(bytes: number): string {
  return `${Math.ceil(bytes / MIB)}Mi`;
}
