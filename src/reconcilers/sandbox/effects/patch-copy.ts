// Puts the content of a copy into a guest.
import type { CopyBundle, CopyEntry } from '../../../api/copies/bundle.ts';
import { BulkheadError } from '../../../api/errors.ts';
import type { GuestFiles } from '../../../guest/agent.ts';
import { type Made, makeParents, once, refuseReplacing, unless } from './patch-files.ts';

/** File operations of the guest at a time: each is a process there. */
const AT_ONCE = 8;

interface Target {
  path: string;
  replace?: boolean;
}

/** `check` throws where something of the image is in the way; `write` may be repeated. */
export function copyInto(
  files: GuestFiles,
  target: Target,
  bundle: CopyBundle,
  signal: AbortSignal,
): { check(made: Made): Promise<void>; write(): Promise<void> } {
  return {
    check: (made) => check(files, target, bundle, made, signal),
    write: () => write(files, target, bundle, signal),
  };
}

async function check(
  files: GuestFiles,
  { path, ...more }: Target,
  { entries }: CopyBundle,
  made: Made,
  signal: AbortSignal,
): Promise<void> {
  /** Directories that are not there yet: nothing below them can be in the way. */
  const missing = new Set<string>();
  for (const entry of entries) {
    signal.throwIfAborted();
    if (missing.has(parentOf(entry.path)) && entry.path !== '') {
      if (entry.kind === 'directory') missing.add(entry.path);
      continue;
    }
    const at = pathOf(path, entry);
    if (entry.kind !== 'directory') {
      await refuseReplacing(files, { path: at, ...more }, made, signal);
      continue;
    }
    // A link to a directory, as /bin often is, holds what is copied as well as the directory does.
    const former = await files.stat(at, { follow: true }, signal).catch(unless('NOT_FOUND'));
    if (former === undefined) missing.add(entry.path);
    else if (former.kind !== 'directory')
      throw new BulkheadError('INVALID', `${at} is a ${former.kind}, and a directory is to be copied there`);
  }
}

async function write(
  files: GuestFiles,
  { path }: Target,
  { entries, contentOf }: CopyBundle,
  signal: AbortSignal,
): Promise<void> {
  await makeParents(files, path, signal);
  for (const entry of entries) {
    signal.throwIfAborted();
    if (entry.kind === 'directory')
      await files.makeDirectory(pathOf(path, entry), { mode: entry.mode, parents: true }, signal);
  }
  const rest = entries.filter(({ kind }) => kind !== 'directory').values();
  const worker = async (): Promise<void> => {
    for (const entry of rest) {
      signal.throwIfAborted();
      const at = pathOf(path, entry);
      if (entry.kind === 'symlink') await files.symlink(at, entry.target ?? '', signal);
      else await files.write(at, once(contentOf(entry.path)), { mode: entry.mode }, signal);
    }
  };
  const done = await Promise.allSettled(Array.from({ length: AT_ONCE }, worker));
  for (const each of done) if (each.status === 'rejected') throw each.reason;
}

function pathOf(path: string, entry: CopyEntry): string {
  if (entry.path === '') return path;
  return path === '/' ? `/${entry.path}` : `${path}/${entry.path}`;
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}
