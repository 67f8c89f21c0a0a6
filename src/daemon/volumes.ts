// The daemon's volumes: the disks, their reconciler, and what the API and the metrics ask of them.
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { parseBytes } from '../api/quantity.ts';
import type { DefaultedVolume } from '../api/volume.ts';
import type { Informer } from '../controller/informer.ts';
import type { VolumeFigures } from '../metrics/volume-collector.ts';
import type { VolumeReconcilerDeps } from '../reconcilers/volume/dependencies.ts';
import { createVolumeReconciler, type VolumeReconciler } from '../reconcilers/volume/reconciler.ts';
import { loadHostLibrary } from '../vmm/ffi.ts';
import { openVolumes } from '../volumes/open-volumes.ts';
import type { Volumes } from '../volumes/volumes.ts';

/** Opens the folder of disks. Fails with CONFLICT when another daemon has it. */
export function openDaemonVolumes(options: {
  dir: string;
  buildDir: string;
  keptFreeBytes: () => Promise<number>;
}): Promise<Volumes> {
  const library = loadHostLibrary(options.buildDir);
  return openVolumes({
    ...{ dir: options.dir, keptFreeBytes: options.keptFreeBytes },
    sparseCopy: (source, target) => library.sparseCopy(source, target),
  });
}

export function daemonVolumeReconciler(
  sandboxesDir: string,
  deps: Omit<VolumeReconcilerDeps, 'holdsSandbox' | 'random'>,
): VolumeReconciler {
  return createVolumeReconciler({
    ...deps,
    holdsSandbox: (uid) => exists(join(sandboxesDir, uid)),
    random: Math.random,
  });
}

/** Is there something, or can it not be told? */
export async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    // Where it cannot be told, what may be there counts.
    return !(error instanceof Error && 'code' in error && error.code === 'ENOENT');
  }
}

/** Figures of each Volume from its status. */
export function* volumeFigures(informer: Informer, node: string): Generator<VolumeFigures> {
  for (const object of informer.list()) {
    const { metadata, spec, status } = object as DefaultedVolume;
    const { capacity, usedBytes, availableBytes, inodes, inodesUsed, diskBytes } = status ?? {};
    yield {
      namespace: metadata.namespace,
      name: metadata.name,
      node,
      accessMode: spec.accessMode,
      reclaimPolicy: spec.reclaimPolicy,
      phase: status?.phase ?? 'Pending',
      users: status?.mountedBy?.length ?? 0,
      ...(capacity === undefined ? {} : { capacityBytes: parseBytes(capacity) }),
      ...(usedBytes === undefined ? {} : { usedBytes }),
      ...(availableBytes === undefined ? {} : { availableBytes }),
      ...(inodes === undefined ? {} : { inodes }),
      ...(inodesUsed === undefined ? {} : { inodesUsed }),
      ...(diskBytes === undefined ? {} : { diskBytes }),
    };
  }
}
