// What patches of several kinds do with the guest's files.
import { posix } from 'node:path';
import { asBulkheadError, BulkheadError } from '../../../api/errors.ts';
import type { GuestFiles } from '../../../guest/agent.ts';

export const DIRECTORY_MODE = 0o755;
export const FILE_MODE = 0o644;

/** Was what is at the path made by an earlier patch? */
export type Made = (path: string) => Promise<boolean>;

export async function makeParents(files: GuestFiles, path: string, signal: AbortSignal): Promise<void> {
  await files.makeDirectory(posix.dirname(path), { mode: DIRECTORY_MODE, parents: true }, signal);
}

/** Throws INVALID where the path has something of the image that the patch does not say to replace. */
export async function refuseReplacing(
  files: GuestFiles,
  { path, replace }: { path: string; replace?: boolean },
  made: Made,
  signal: AbortSignal,
): Promise<void> {
  const former = await files.stat(path, {}, signal).catch(unless('NOT_FOUND'));
  if (former === undefined) return;
  if (former.kind === 'directory')
    throw new BulkheadError('INVALID', `${path}: Is a directory, which no patch replaces`);
  if (replace === true || (await made(path))) return;
  throw new BulkheadError(
    'ALREADY_EXISTS',
    `the image has a ${former.kind} at ${path}; say \`replace: true\` to take its place`,
  );
}

export async function* once(content: string | Uint8Array): AsyncGenerator<Uint8Array> {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  if (bytes.byteLength > 0) yield bytes;
}

/** Takes this one failure as an absence. */
export function unless(code: string): (error: unknown) => undefined {
  return (error) => {
    if (asBulkheadError(error).code !== code) throw error;
    return undefined;
  };
}
