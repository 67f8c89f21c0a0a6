// Changes to the root file system before the main process first runs. The guest's agent makes them, so that no path can lead
// out of the VM. Each is on the disk before it is on record, and on record before the next begins, so that a boot that ends in
// the middle goes on where it was: at most one is made a second time, which gives the same result.
import { asBulkheadError, BulkheadError } from '../../../api/errors.ts';
import type { GuestFiles } from '../../../guest/agent.ts';
import { isHostsPatch, nameOfPatch, type Patch } from '../patches.ts';
import { markPatched } from '../root-disk.ts';
import { type EffectContext, known } from './context.ts';
import { copyInto } from './patch-copy.ts';
import {
  DIRECTORY_MODE,
  FILE_MODE,
  type Made,
  makeParents,
  once,
  refuseReplacing,
  unless,
} from './patch-files.ts';

/** What is appended to is written anew as a whole, which takes memory of the daemon. */
const APPENDED_FILE_MAX = 1024 * 1024;

/** In place of the size of a file that a patch made and appended to. */
const NOT_THERE = -1;

/** What one patch is made with. */
interface Patching {
  context: EffectContext;
  files: GuestFiles;
  index: number;
  signal: AbortSignal;
}

/** Once for each root file system. Throws PATCH_FAILED, naming the patch; other failures are those of the guest. */
export async function applyPatches(
  context: EffectContext,
  { files }: { files: GuestFiles },
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
      await apply({ context, files, index, signal }, patch);
    } catch (error) {
      const { code, message } = asBulkheadError(error);
      if (!OF_THE_PATCH.has(code)) throw error;
      throw new BulkheadError('PATCH_FAILED', `${nameOfPatch(patch, index)}: ${message}`, { cause: error });
    }
    // From here on it is never made again, so that it has to outlive a power cut.
    await files.sync(signal);
    await runtime.changeRecord((record) => {
      const { patching: _done, ...rest } = known(record);
      return { ...rest, patchesDone: index + 1 };
    });
  }
  // Beside the record, so that who loses the record still knows whether anything of worth is in the root.
  await markPatched(runtime.dir);
  await runtime.changeRecord((record) => ({ ...known(record), patched: true }));
}

/** Failures that another try would not mend. */
const OF_THE_PATCH: ReadonlySet<string> = new Set(['FILE_FAILED', 'ALREADY_EXISTS', 'NOT_FOUND', 'INVALID']);

async function apply(
  patching: Patching,
  { text, mkdir, copy, append, symlink, remove }: Patch,
): Promise<void> {
  const { files, signal } = patching;
  if (text !== undefined) {
    await begin(patching, (made) => refuseReplacing(files, text, made, signal));
    await makeParents(files, text.path, signal);
    await files.write(text.path, once(text.content), { mode: bits(text.mode, FILE_MODE) }, signal);
  } else if (mkdir !== undefined) {
    await makeParents(files, mkdir.path, signal);
    await files.makeDirectory(mkdir.path, { mode: bits(mkdir.mode, DIRECTORY_MODE), parents: true }, signal);
  } else if (copy !== undefined) {
    const bundle = await contentOf(patching.context, copy.digest);
    const copying = copyInto(files, copy, bundle, signal);
    await begin(patching, copying.check);
    await copying.write();
  } else if (append !== undefined) {
    await makeParents(files, append.path, signal);
    await appendTo(patching, append);
  } else if (symlink !== undefined) {
    await begin(patching, (made) => refuseReplacing(files, symlink, made, signal));
    await makeParents(files, symlink.path, signal);
    await files.symlink(symlink.path, symlink.target, signal);
  } else if (remove !== undefined) {
    await files.remove(remove.path, 'tree', signal).catch(unless('NOT_FOUND'));
  }
}

/**
 * Sees that the patch takes the place of nothing of the image, and records that it was seen: what another try finds there may
 * be what this one left.
 */
async function begin({ context, index }: Patching, check: (made: Made) => Promise<void>): Promise<void> {
  const { runtime } = context;
  if (runtime.record?.patching === index) return;
  await check((path) => madeBefore(context, index, path));
  await runtime.changeRecord((record) => ({ ...known(record), patching: index }));
}

/** Is it the work of an earlier patch, by its own words for the path? */
async function madeBefore(context: EffectContext, index: number, path: string): Promise<boolean> {
  const { patchedFrom } = context.runtime.record ?? {};
  const earlier = (context.object.spec.patches ?? []).slice(0, index);
  for (const [at, { text, symlink, append, copy }] of earlier.entries()) {
    if (text?.path === path || symlink?.path === path) return true;
    if (append?.path === path && patchedFrom?.[at] === NOT_THERE) return true;
    if (copy === undefined || (path !== copy.path && !path.startsWith(`${copy.path}/`))) continue;
    const within = path.slice(copy.path.length + 1);
    const { entries } = await contentOf(context, copy.digest);
    if (entries.some((entry) => entry.path === within && entry.kind !== 'directory')) return true;
  }
  return false;
}

async function contentOf({ deps }: EffectContext, digest = '') {
  const bundle = await deps.copies.read(digest);
  if (bundle === undefined)
    throw new BulkheadError(
      'NOT_FOUND',
      `its content (${digest}) is no longer on this host; apply the manifest again to bring it`,
    );
  return bundle;
}

/** The size before the first try is on record, so that no other try appends to what was appended already. */
async function appendTo(
  { context: { runtime }, files, index, signal }: Patching,
  { path, content }: NonNullable<Patch['append']>,
): Promise<void> {
  const former = await files.stat(path, {}, signal).catch(unless('NOT_FOUND'));
  if (former !== undefined && former.kind !== 'file')
    throw new BulkheadError('INVALID', `it is a ${former.kind}, to which nothing can be appended.`);
  const recorded = runtime.record?.patchedFrom?.[index];
  const size = Math.max(0, Math.min(recorded ?? former?.sizeBytes ?? 0, former?.sizeBytes ?? 0));
  if (size > APPENDED_FILE_MAX)
    throw new BulkheadError('INVALID', `it has more than ${APPENDED_FILE_MAX} bytes.`);
  if (recorded === undefined)
    await runtime.changeRecord((record) => ({
      ...known(record),
      patchedFrom: { ...record?.patchedFrom, [index]: former === undefined ? NOT_THERE : size },
    }));
  const begin: Buffer[] = [];
  if (size > 0)
    for await (const chunk of await files.read(path, { length: size }, signal)) begin.push(chunk as Buffer);
  const { mode = FILE_MODE, uid = 0, gid = 0 } = former ?? {};
  const user = uid === 0 && gid === 0 ? {} : { user: `${uid}:${gid}` };
  await files.write(path, once(Buffer.concat([...begin, Buffer.from(content)])), { mode, ...user }, signal);
}

function bits(mode: string | undefined, normal: number): number {
  return mode === undefined ? normal : Number.parseInt(mode, 8);
}
