// Changes to the root file system before the main process first runs. The guest's agent makes them, so that no path can lead
// out of the VM. Each is on the disk before it is on record, and on record before the next begins, so that a boot that ends in
// the middle goes on where it was: at most one is made a second time, which gives the same result.
import { posix } from 'node:path';
import { asBulkheadError, BulkheadError } from '../../../api/errors.ts';
import type { GuestAgent, GuestFiles } from '../../../guest/agent.ts';
import { isHostsPatch, nameOfPatch, type Patch } from '../patches.ts';
import { type EffectContext, known } from './context.ts';

/** What is appended to is written anew as a whole, which takes memory of the daemon. */
const APPENDED_FILE_MAX = 1024 * 1024;
const DIRECTORY_MODE = 0o755;
const FILE_MODE = 0o644;

/** Once for each root file system. Throws PATCH_FAILED, naming the patch; other failures are those of the guest. */
export async function applyPatches(
  context: EffectContext,
  agent: GuestAgent,
  signal: AbortSignal,
): Promise<void> {
  const { runtime, object } = context;
  const patches = object.spec.patches ?? [];
  if (patches.length === 0 || runtime.record?.patched === true) return;
  const done = runtime.record?.patchesDone ?? 0;
  for (const [index, patch] of patches.entries()) {
    if (index < done || isHostsPatch(patch)) continue;
    signal.throwIfAborted();
    try {
      await apply(context, agent.files, patch, index, signal);
    } catch (error) {
      const { code, message } = asBulkheadError(error);
      if (!OF_THE_PATCH.has(code)) throw error;
      throw new BulkheadError('PATCH_FAILED', `${nameOfPatch(patch, index)}: ${message}`, { cause: error });
    }
    // From here on it is never made again, so that it has to outlive a power cut.
    await agent.files.sync(signal);
    await runtime.changeRecord((record) => ({ ...known(record), patchesDone: index + 1 }));
  }
  await runtime.changeRecord((record) => ({ ...known(record), patched: true }));
}

/** Failures that another try would not mend. */
const OF_THE_PATCH: ReadonlySet<string> = new Set(['FILE_FAILED', 'ALREADY_EXISTS', 'NOT_FOUND', 'INVALID']);

async function apply(
  context: EffectContext,
  files: GuestFiles,
  { text, mkdir, append, symlink, remove }: Patch,
  index: number,
  signal: AbortSignal,
): Promise<void> {
  const parents = (path: string) =>
    files.makeDirectory(posix.dirname(path), { mode: DIRECTORY_MODE, parents: true }, signal);
  if (text !== undefined) {
    await parents(text.path);
    await files.write(text.path, once(text.content), { mode: bits(text.mode, FILE_MODE) }, signal);
  } else if (mkdir !== undefined) {
    await files.makeDirectory(mkdir.path, { mode: bits(mkdir.mode, DIRECTORY_MODE), parents: true }, signal);
  } else if (append !== undefined) {
    await parents(append.path);
    await appendTo(context, files, append, index, signal);
  } else if (symlink !== undefined) {
    await parents(symlink.path);
    await files.symlink(symlink.path, symlink.target, signal);
  } else if (remove !== undefined) {
    await files.remove(remove.path, 'tree', signal).catch(unless('NOT_FOUND'));
  }
}

/** The size before the first try is on record, so that no other try appends to what was appended already. */
async function appendTo(
  { runtime }: EffectContext,
  files: GuestFiles,
  { path, content }: NonNullable<Patch['append']>,
  index: number,
  signal: AbortSignal,
): Promise<void> {
  const former = await files.stat(path, {}, signal).catch(unless('NOT_FOUND'));
  if (former !== undefined && former.kind !== 'file')
    throw new BulkheadError('INVALID', `it is a ${former.kind}, to which nothing can be appended.`);
  const recorded = runtime.record?.patchedFrom?.[index];
  const size = Math.min(recorded ?? former?.sizeBytes ?? 0, former?.sizeBytes ?? 0);
  if (size > APPENDED_FILE_MAX)
    throw new BulkheadError('INVALID', `it has more than ${APPENDED_FILE_MAX} bytes.`);
  if (recorded === undefined)
    await runtime.changeRecord((record) => ({
      ...known(record),
      patchedFrom: { ...record?.patchedFrom, [index]: size },
    }));
  const begin: Buffer[] = [];
  if (size > 0)
    for await (const chunk of await files.read(path, { length: size }, signal)) begin.push(chunk as Buffer);
  const { mode = FILE_MODE, uid = 0, gid = 0 } = former ?? {};
  const user = uid === 0 && gid === 0 ? {} : { user: `${uid}:${gid}` };
  await files.write(path, once(Buffer.concat([...begin, Buffer.from(content)])), { mode, ...user }, signal);
}

async function* once(content: string | Uint8Array): AsyncGenerator<Uint8Array> {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  if (bytes.byteLength > 0) yield bytes;
}

function bits(mode: string | undefined, normal: number): number {
  return mode === undefined ? normal : Number.parseInt(mode, 8);
}

/** Takes this one failure as an absence. */
function unless(code: string): (error: unknown) => undefined {
  return (error) => {
    if (asBulkheadError(error).code !== code) throw error;
    return undefined;
  };
}
