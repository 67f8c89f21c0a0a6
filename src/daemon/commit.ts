// Makes an image of what a sandbox has made of its root file system.
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkheadError } from '../api/errors.ts';
import type { ImageSummary } from '../api/wire.ts';
import type { OpenImages } from '../images/cache/open-images.ts';
import { hasRoot, UPPER_FILE } from '../reconcilers/sandbox/root-disk.ts';
import type { LiveSandboxes } from '../reconcilers/sandbox/runtime/live-sandboxes.ts';
import type { SandboxRuntime } from '../reconcilers/sandbox/runtime/sandbox-runtime.ts';
import type { SandboxCommits } from '../server/commit-routes.ts';
import type { Store } from '../store/store.ts';
import { requireRoomForCopy } from '../volumes/copy-room.ts';
import type { SparseCopy } from '../volumes/disk.ts';
import { checkDisk } from '../volumes/disk-tools.ts';
import { readSuperblock } from '../volumes/superblock.ts';

/** The copy of a disk of a few GiB on a slow disk. The guest goes on after that by itself, and the commit fails. */
const FREEZE_MS = 60_000;
/** For a guest to be reached again after a restart of the daemon. */
const TAKE_UP_WAIT_MS = 10_000;

export interface CommitParts {
  store: Pick<Store, 'get'>;
  live: Pick<LiveSandboxes, 'takenUp' | 'runtime'>;
  images: Pick<OpenImages, 'commit'>;
  sparseCopy: SparseCopy;
  /** What is to stay free of the file system with the copies. */
  keptFreeBytes: () => Promise<number>;
  /** For the copies of disks; emptied when the daemon starts. */
  workDir: string;
}

export function sandboxCommits(parts: CommitParts): SandboxCommits {
  return {
    async commit(namespace, name, reference, signal): Promise<ImageSummary> {
      const runtime = await runtimeOf(parts, namespace, name);
      const folder = await mkdtemp(join(parts.workDir, 'commit-'));
      try {
        const disk = join(folder, UPPER_FILE);
        const source = join(runtime.dir, UPPER_FILE);
        await requireRoomForCopy(source, folder, await parts.keptFreeBytes());
        const imageDigest = runtime.record?.imageDigest ?? '';
        if (runtime.handle === undefined) await copyResting(parts, runtime, source, disk);
        else await copyFrozen(parts, runtime, source, disk, signal);
        if ((await readSuperblock(disk))?.clean !== true) await checkDisk(disk, signal);
        const { digest, sizeBytes } = await parts.images.commit(imageDigest, disk, reference, signal);
        return { reference, digest, sizeBytes };
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    },
  };
}

async function runtimeOf(
  { store, live }: CommitParts,
  namespace: string,
  name: string,
): Promise<SandboxRuntime> {
  const object = await store.get({ kind: 'Sandbox', namespace, name });
  if (object === undefined)
    throw new BulkheadError('NOT_FOUND', `sandboxes.bulkhead.dev "${name}" not found`);
  const { uid } = object.metadata;
  await live.takenUp(uid, TAKE_UP_WAIT_MS);
  const runtime = live.runtime(uid);
  if (runtime === undefined || !(await hasRoot(runtime.dir)))
    throw new BulkheadError(
      'CONFLICT',
      `sandbox "${name}" has never run, so that there is nothing of it to commit`,
    );
  return runtime;
}

/** A VM that starts meanwhile writes to the disk: then the copy is of no use. */
async function copyResting(
  { sparseCopy }: CommitParts,
  runtime: SandboxRuntime,
  source: string,
  disk: string,
): Promise<void> {
  const { run } = runtime.record ?? {};
  const isStill = (): boolean =>
    runtime.handle === undefined && runtime.tasks.current === undefined && runtime.record?.run === run;
  if (isStill()) await sparseCopy(source, disk);
  if (!isStill())
    throw new BulkheadError('CONFLICT', 'the sandbox was started, or is about to be; try again');
}

async function copyFrozen(
  { sparseCopy }: CommitParts,
  runtime: SandboxRuntime,
  source: string,
  disk: string,
  signal: AbortSignal,
): Promise<void> {
  const { agent, record } = runtime;
  if (record?.stop !== undefined)
    throw new BulkheadError('CONFLICT', 'The sandbox is being stopped; try again when its VM is gone.');
  if (agent?.connected !== true || record?.up === undefined)
    throw new BulkheadError('AGENT_UNREACHABLE', 'The guest of the sandbox does not answer now.');
  runtime.frozen = true;
  try {
    await agent.freezeRoot(FREEZE_MS, signal);
    try {
      await sparseCopy(source, disk);
    } finally {
      // Where the guest went on too early this fails, and with it the commit.
      await agent.thawRoot();
    }
  } finally {
    runtime.frozen = false;
  }
}
