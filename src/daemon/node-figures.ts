// What this node has, and how much of it was given to sandboxes.
import { statfs } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import type { NodeFigures } from '../metrics/node-collector.ts';
import { failedHostCalls } from '../vmm/ffi.ts';
import { timely } from './timely.ts';

/** A file system that does not tell its size in this time hangs; a scrape does not wait for it. */
const STATFS_TIMEOUT_MS = 500;

export interface MeasuredNode {
  /** Memory that sandboxes may be given in all, as a multiple of what the host has. */
  memoryOvercommit: number;
  /** Directories by what is kept there. */
  storage: Readonly<Record<string, string>>;
}

/** `allocated`: what VMs that run were given. */
export async function nodeFigures(
  { memoryOvercommit, storage }: MeasuredNode,
  allocated: NodeFigures['allocated'],
): Promise<NodeFigures> {
  const sizes = Object.entries(storage).map(
    async ([store, dir]) => [store, await timely(sizeOf(dir), STATFS_TIMEOUT_MS)] as const,
  );
  const memoryBytes = totalmem();
  return {
    capacity: { memoryBytes },
    allocatable: {
      memoryBytes: Math.floor(memoryBytes * memoryOvercommit),
      vcpus: availableParallelism(),
    },
    allocated,
    storage: Object.fromEntries(await Promise.all(sizes)),
    failedCalls: failedHostCalls(),
  };
}

async function sizeOf(dir: string): Promise<{ sizeBytes: number; availableBytes: number }> {
  const { bsize, blocks, bavail } = await statfs(dir);
  return { sizeBytes: bsize * blocks, availableBytes: bsize * bavail };
}
