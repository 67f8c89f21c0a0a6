// Content of copies in a folder: one file for each digest, which gets its name when it is whole.
import { randomUUID } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { BUNDLE_BYTES_MAX, decodeBundle, digestOfBundle } from '../api/copies/bundle.ts';
import { BulkheadError } from '../api/errors.ts';
import type { Copies } from './copies.ts';

const DIGEST = /^sha256:([0-9a-f]{64})$/;
const NAME = /^[0-9a-f]{64}$/;
const TEMPORARY = '.arriving-';
/** Between the upload of a copy and the object that names it lies one request, or the time in which somebody mends a manifest. */
const UNNAMED_KEPT_MS = 60 * 60_000;

/** Opens the folder, making it where it is missing, and removes what a kill left half-written. */
export async function openCopies(dir: string, now: () => number = Date.now): Promise<Copies> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  for (const name of await readdir(dir)) if (name.startsWith(TEMPORARY)) await rm(join(dir, name));
  const pathOf = (digest: string): string => {
    const name = DIGEST.exec(digest)?.[1];
    if (name === undefined) throw new BulkheadError('INVALID', `"${digest.slice(0, 80)}" is no digest`);
    return join(dir, name);
  };
  const touch = async (path: string): Promise<boolean> => {
    const at = new Date(now());
    return utimes(path, at, at).then(
      () => true,
      unlessAbsent(() => false),
    );
  };
  return {
    has: async (digest) => touch(pathOf(digest)),
    async put(digest, bytes) {
      const path = pathOf(digest);
      if (bytes.length > BUNDLE_BYTES_MAX)
        throw new BulkheadError('TOO_LARGE', `The content of a copy has at most ${BUNDLE_BYTES_MAX} bytes.`);
      if (digestOfBundle(bytes) !== digest)
        throw new BulkheadError('INVALID', `What was sent is not ${digest}.`);
      decodeBundle(bytes);
      if (await touch(path)) return;
      await write(dir, path, bytes);
      await touch(path);
    },
    async read(digest) {
      const bytes = await readFile(pathOf(digest)).catch(unlessAbsent(() => undefined));
      if (bytes === undefined) return undefined;
      if (digestOfBundle(bytes) === digest) return decodeBundle(bytes);
      // A disk that lost it. The next one that brings it mends that.
      await rm(pathOf(digest), { force: true });
      return undefined;
    },
    async unused(named) {
      const found: { digest: string; sizeBytes: number }[] = [];
      for (const name of await readdir(dir)) {
        const digest = `sha256:${name}`;
        if (!NAME.test(name) || named.has(digest)) continue;
        const { mtimeMs, size } = await stat(join(dir, name));
        if (mtimeMs <= now() - UNNAMED_KEPT_MS) found.push({ digest, sizeBytes: size });
      }
      return found;
    },
    remove: async (digest) => rm(pathOf(digest), { force: true }),
  };
}

async function write(dir: string, path: string, bytes: Buffer): Promise<void> {
  const temporary = join(dir, `${TEMPORARY}${randomUUID()}`);
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    const folder = await open(dir, 'r');
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch (error) {
    await rm(temporary, { force: true });
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOSPC' || code === 'EDQUOT')
      throw new BulkheadError('DISK_FULL', 'There is no room for the content of a copy.', { cause: error });
    throw error;
  }
}

function unlessAbsent<T>(absent: () => T): (error: unknown) => T {
  return (error) => {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    return absent();
  };
}
