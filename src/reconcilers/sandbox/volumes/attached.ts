// Disks of volumes in running VMs, for the reconciler of Volumes: usage as guests tell it, and growth.
import { BulkheadError } from '../../../api/errors.ts';
import type { VolumeUsage } from '../../../volumes/volumes.ts';
import type { AttachedDisks } from '../../volume/dependencies.ts';
import type { LiveSandboxes } from '../runtime/live-sandboxes.ts';
import type { SandboxRuntime } from '../runtime/sandbox-runtime.ts';
import { deviceOf, diskName } from './spec.ts';

export class LiveDisks implements AttachedDisks {
  readonly #live: LiveSandboxes;

  constructor(live: LiveSandboxes) {
    this.#live = live;
  }

  usage(volumeUid: string, sandboxUid: string): VolumeUsage | undefined {
    const { runtime, index } = this.#find(volumeUid, sandboxUid);
    const told = runtime?.lastGuestStats?.stats.fileSystems.find((each) => each.volume === diskName(index));
    if (told === undefined) return undefined;
    const { usedBytes, availableBytes, totalInodes, usedInodes } = told;
    return { usedBytes, availableBytes, inodes: totalInodes, inodesUsed: usedInodes };
  }

  canGrow(volumeUid: string, sandboxUid: string): boolean {
    const { runtime, index } = this.#find(volumeUid, sandboxUid);
    return index >= 0 && runtime?.handle?.growVolume !== undefined && runtime.guest.volumesMounted;
  }

  async grow(volumeUid: string, sandboxUid: string, sizeBytes: number, signal: AbortSignal): Promise<void> {
    const { runtime, index } = this.#find(volumeUid, sandboxUid);
    const { handle, agent } = runtime ?? {};
    if (handle?.growVolume === undefined || agent === undefined)
      throw new BulkheadError('AGENT_UNREACHABLE', 'The guest that has the volume does not answer now.');
    await handle.growVolume(index, sizeBytes, signal);
    const source = { kind: 'disk' as const, device: deviceOf(index), readOnly: false };
    await agent.mountVolumes([{ name: diskName(index), source }], [], signal);
  }

  /** The VM that writes to the disk, and which of its disks it is; -1 where there is none. */
  #find(volumeUid: string, sandboxUid: string): { runtime: SandboxRuntime | undefined; index: number } {
    const runtime = this.#live.runtime(sandboxUid);
    const disks = runtime?.handle === undefined ? [] : (runtime.record?.volumes ?? []);
    return { runtime, index: disks.findIndex(({ uid, mode }) => uid === volumeUid && mode === 'ReadWrite') };
  }
}
