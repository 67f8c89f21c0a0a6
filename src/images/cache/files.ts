// Files that survive a crash at any moment: whole in their old form or whole in their new one.

import { randomUUID } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { asDiskError } from '../build/build-disk.ts';

/** Makes renames, new names and removals in `folder` durable. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Replaces `path` by way of a file in `temporary`, which is on the same file system. */
export async function writeDurably(path: string, content: string, temporary: string): Promise<void> {
  const next = join(temporary, randomUUID());
  try {
    const handle = await open(next, 'wx', 0o600);
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(next, path);
  } catch (error) {
    await rm(next, { force: true });
    throw asDiskError(error, path);
  }
  await syncFolder(dirname(path));
}
