// A temporary folder that tests write manifests into, and a file system that changes at a chosen moment.
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { nodeFs, type SnapshotFs } from '../snapshot-fs.ts';

export class TestFolder {
  /** Holds the watched root and whatever lies beside it. */
  readonly base: string;
  readonly root: string;

  constructor(base: string) {
    this.base = base;
    this.root = join(base, 'manifests');
  }

  static async create(): Promise<TestFolder> {
    const folder = new TestFolder(await mkdtemp(join(tmpdir(), 'bulkhead-source-')));
    await mkdir(folder.root);
    return folder;
  }

  /** Writes beside and renames over, as careful tools do. */
  async write(path: string, text: string | Uint8Array): Promise<void> {
    const target = join(this.root, path);
    await mkdir(dirname(target), { recursive: true });
    await writeFile(`${target}.tmp`, text);
    await rename(`${target}.tmp`, target);
  }

  async remove(path: string): Promise<void> {
    await rm(join(this.root, path), { recursive: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.base, { recursive: true, force: true });
  }
}

/** The real file system, with something done before a call, or in its place when it throws. */
export function hookedFs(before: (call: keyof SnapshotFs, path: string) => Promise<void> | void): SnapshotFs {
  return {
    async realpath(path) {
      await before('realpath', path);
      return nodeFs.realpath(path);
    },
    async entry(path) {
      await before('entry', path);
      return nodeFs.entry(path);
    },
    async names(path) {
      await before('names', path);
      return nodeFs.names(path);
    },
    async read(path, maxBytes) {
      await before('read', path);
      return nodeFs.read(path, maxBytes);
    },
  };
}

/** Runs once, at the first call that `when` picks. */
export function once(
  when: (call: keyof SnapshotFs, path: string) => boolean,
  action: () => Promise<void>,
): (call: keyof SnapshotFs, path: string) => Promise<void> {
  let done = false;
  return async (call, path) => {
    if (done || !when(call, path)) return;
    done = true;
    await action();
  };
}

/** What the system says when permission lacks; tests run as root, who is never told so. */
export function permissionDenied(path: string): Error {
  return Object.assign(new Error(`EACCES: permission denied, open '${path}'`), { code: 'EACCES' });
}
