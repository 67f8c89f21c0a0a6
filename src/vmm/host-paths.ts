// Directories and files of the host that guests may have: below roots that the operator named, and nowhere else.
import { closeSync, fstatSync, readlinkSync, realpathSync, statfsSync } from 'node:fs';
import { posix } from 'node:path';
import { BulkheadError } from '../api/errors.ts';
import type { HostPaths } from './driver.ts';
import { HostError, type HostLibrary } from './ffi.ts';

/** Magic numbers (statfs(2)) of file systems whose files are the kernel's: there is no content to share. */
const KERNEL_FILE_SYSTEMS = new Set([
  0x9fa0, // proc
  0x62656572, // sysfs
  0x64626720, // debugfs
  0x74726163, // tracefs
  0x27e0eb, // cgroup
  0x63677270, // cgroup2
  0x1cd1, // devpts
  0x73636673, // securityfs
  0xcafe4a11, // bpf
]);

export interface HostPathOptions {
  library: Pick<HostLibrary, 'openDirectory' | 'openBeneath'>;
  /** Absolute. */
  roots: readonly string[];
  /** Directories of the daemon's own, of which no guest may get a part. */
  kept: readonly string[];
}

/**
 * The roots are opened once: what is put in their place afterwards is not what the operator named. Fails with INVALID where one
 * is no directory or is named through a link.
 */
export class OpenHostPaths implements HostPaths, Disposable {
  readonly #library: HostPathOptions['library'];
  readonly #roots: { path: string; fd: number }[] = [];
  readonly #kept: readonly string[];

  constructor({ library, roots, kept }: HostPathOptions) {
    this.#library = library;
    this.#kept = kept.map((path) => realpathSync(path));
    try {
      for (const root of roots) {
        const path = posix.resolve(root);
        this.#roots.push({ path, fd: openRoot(library, path) });
      }
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
    // The narrowest first: it is the one that was meant.
    this.#roots.sort((a, b) => b.path.length - a.path.length);
  }

  [Symbol.dispose](): void {
    for (const { fd } of this.#roots.splice(0)) closeSync(fd);
  }

  open(path: string, type: 'Directory' | 'File'): number {
    const root = this.#roots.find((each) => contains(each.path, path));
    if (root === undefined)
      throw new BulkheadError(
        'HOST_PATH_NOT_ALLOWED',
        `${path}: ${this.#roots.length === 0 ? 'the operator allows no directory of the host' : 'not below a directory of the host that the operator allows'}.`,
      );
    const fd = this.#openBeneath(root.fd, path, posix.relative(root.path, posix.normalize(path)));
    try {
      this.#check(fd, path, type);
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  #openBeneath(root: number, path: string, rest: string): number {
    try {
      return this.#library.openBeneath(root, rest === '' ? '.' : rest);
    } catch (error) {
      if (!(error instanceof HostError)) throw error;
      if (error.code === 'EXDEV' || error.code === 'ELOOP')
        throw new BulkheadError(
          'HOST_PATH_NOT_ALLOWED',
          `${path}: a link in it leads out of the directory that the operator allows.`,
          { cause: error },
        );
      throw new BulkheadError('HOST_PATH_NOT_FOUND', `${path}: ${error.message}.`, { cause: error });
    }
  }

  #check(fd: number, path: string, type: 'Directory' | 'File'): void {
    const status = fstatSync(fd);
    if (type === 'Directory' ? !status.isDirectory() : !status.isFile())
      throw new BulkheadError(
        'HOST_PATH_NOT_FOUND',
        `${path}: it is ${type === 'Directory' ? 'no directory' : 'no regular file'}.`,
      );
    if (KERNEL_FILE_SYSTEMS.has(statfsSync(`/proc/self/fd/${fd}`).type))
      throw new BulkheadError('HOST_PATH_NOT_ALLOWED', `${path}: it is the kernel's, not a disk's.`);
    const real = readlinkSync(`/proc/self/fd/${fd}`);
    // Whoever can write to what the daemon keeps is the daemon.
    if (this.#kept.some((kept) => contains(kept, real) || contains(real, kept)))
      throw new BulkheadError('HOST_PATH_NOT_ALLOWED', `${path}: the daemon keeps its own files there.`);
  }
}

/** Is `path` the directory itself or below it? */
function contains(directory: string, path: string): boolean {
  const normal = posix.normalize(path);
  return normal === directory || directory === '/' || normal.startsWith(`${directory}/`);
}

function openRoot(library: HostPathOptions['library'], path: string): number {
  try {
    return library.openDirectory(path);
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    const why = error.code === 'ELOOP' ? 'there is a link in it; name the place itself' : error.message;
    throw new BulkheadError('INVALID', `--host-path-root ${path}: ${why}.`, { cause: error });
  }
}
