// Where to watch so that a change of the path itself is noticed: every link on it, and its end.
import { lstat, readlink } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { errorCode } from './snapshot-fs.ts';

/** As many links as the kernel follows on one path. */
const MAX_LINKS = 40;

export interface WatchPoints {
  /** Entries whose replacement leads the path elsewhere, as paths without a link in their directory part. */
  entries: string[];
  /** The directory that the path leads to now; undefined when it leads nowhere. */
  directory?: string;
}

/**
 * Walks an absolute path as the kernel does. git-sync replaces a link that may lie anywhere on the path; a folder that
 * does not exist yet appears below its nearest ancestor that does.
 */
export async function watchPoints(path: string): Promise<WatchPoints> {
  const entries: string[] = [];
  let rest = split(path);
  let current = '/';
  let links = 0;
  for (let name = rest.shift(); name !== undefined; name = rest.shift()) {
    if (name === '..') {
      current = dirname(current);
      continue;
    }
    const location = join(current, name);
    let target: string | undefined;
    try {
      const stat = await lstat(location);
      if (stat.isSymbolicLink()) target = await readlink(location);
    } catch (error) {
      if (errorCode(error) === '') throw error;
      return { entries: [...entries, location] };
    }
    if (target === undefined) {
      if (rest.length === 0) entries.push(location);
      current = location;
      continue;
    }
    entries.push(location);
    if (++links > MAX_LINKS) return { entries };
    rest = [...split(target), ...rest];
    if (isAbsolute(target)) current = '/';
  }
  return { entries, directory: current };
}

function split(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}
