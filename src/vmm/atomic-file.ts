// Files that are either the old or the new content after a crash.
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

export async function syncDir(path: string): Promise<void> {
  await using dir = await open(path, 'r');
  await dir.sync();
}

/** Temporary file, fsync, rename, fsync of the folder. Mode 0600. */
export async function writeFileAtomic(path: string, content: string): Promise<void> {
  const temporary = `${path}.tmp`;
  try {
    {
      await using file = await open(temporary, 'w', 0o600);
      await file.writeFile(content);
      await file.sync();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncDir(dirname(path));
}
