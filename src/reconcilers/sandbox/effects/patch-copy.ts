// Puts the content of a copy into a guest.
import type { CopyBundle, CopyEntry } from '../../../api/copies/bundle.ts';
import { BulkheadError } from '../../../api/errors.ts';
import type { GuestFiles, NewFile } from '../../../guest/agent.ts';
import { type Made, makeParents, refuseReplacing, unless } from './patch-files.ts';

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
  const newFiles = entries.map((entry): NewFile => {
    const at = pathOf(path, entry);
    if (entry.kind === 'directory') return { kind: 'directory', path: at, mode: entry.mode };
    if (entry.kind === 'symlink') return { kind: 'symlink', path: at, target: entry.target ?? '' };
    return { kind: 'file', path: at, mode: entry.mode, content: contentOf(entry.path) };
  });
  await files.writeMany(newFiles, {}, signal);
}

function pathOf(path: string, entry: CopyEntry): string {
  if (entry.path === '') return path;
  return path === '/' ? `/${entry.path}` : `${path}/${entry.path}`;
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}
