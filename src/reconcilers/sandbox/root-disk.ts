// The disk of a sandbox's root file system, and a mark that it has all of its patches: an empty file, which cannot be damaged as
// the record of the runs can. Without it no process of a sandbox with patches has ever run on the disk, so that there is nothing
// in it to lose.
import { access, open, rm } from 'node:fs/promises';
import { join } from 'node:path';

const FILE = 'patched';
/** The disk of the root file system, below the image. */
export const UPPER_FILE = 'upper.ext4';

/** On the disk before it returns. Safe to repeat. */
export async function markPatched(dir: string): Promise<void> {
  await (await open(join(dir, FILE), 'a', 0o600)).close();
  const folder = await open(dir, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

export async function isMarkedPatched(dir: string): Promise<boolean> {
  return exists(join(dir, FILE));
}

export async function hasRoot(dir: string): Promise<boolean> {
  return exists(join(dir, UPPER_FILE));
}

/** The next start makes the root file system anew. Only when no VM has it; safe to repeat. */
export async function discardRoot(dir: string): Promise<void> {
  // The mark goes first: a disk without it is only made anew once more.
  await rm(join(dir, FILE), { force: true });
  await rm(join(dir, UPPER_FILE), { force: true });
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
