// What a guest says of itself, as far as it can be true and is not out of date.
import type { GuestStats } from '../guest/agent.ts';
import type { GuestFigures } from '../metrics/sandbox-collector.ts';

/** Guests are asked every 15 s; one that missed four rounds is not quoted any more. */
const STALE_MS = 60_000;

/** What the guest was given; it cannot have more. */
export interface GuestBounds {
  memoryBytes: number;
  diskBytes: number;
}

/** `undefined` where nothing recent is known. Claims that cannot be true are left out. */
export function guestFigures(
  last: { at: Date; stats: GuestStats } | undefined,
  bounds: GuestBounds,
  now: number,
): GuestFigures | undefined {
  if (last === undefined || now - last.at.getTime() > STALE_MS) return undefined;
  const { memory, fileSystems, cpu, pressure, load, processes, uptimeSeconds } = last.stats;
  const root = fileSystems.find(({ mountPath }) => mountPath === '/');
  return {
    ...(memory.availableBytes <= memory.totalBytes && memory.totalBytes <= bounds.memoryBytes
      ? {
          memoryUsedBytes: memory.totalBytes - memory.availableBytes,
          memoryAvailableBytes: memory.availableBytes,
        }
      : {}),
    ...(root !== undefined && root.usedBytes <= root.totalBytes && root.totalBytes <= bounds.diskBytes
      ? {
          fileSystem: {
            usedBytes: root.usedBytes,
            limitBytes: root.totalBytes,
            inodesUsed: root.usedInodes,
            inodes: root.totalInodes,
          },
        }
      : {}),
    detail: {
      cpuSeconds: {
        user: cpu.userSeconds,
        system: cpu.systemSeconds,
        idle: cpu.idleSeconds,
        iowait: cpu.iowaitSeconds,
        steal: cpu.stealSeconds,
      },
      memoryCachedBytes: memory.cachedBytes,
      pressure: {
        cpu: pressure.cpuSomeAvg10 / 100,
        memory: pressure.memorySomeAvg10 / 100,
        io: pressure.ioSomeAvg10 / 100,
      },
      load: { '1m': load[0], '5m': load[1], '15m': load[2] },
      processes,
      uptimeSeconds,
    },
  };
}
