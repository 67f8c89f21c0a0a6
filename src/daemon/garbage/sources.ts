// Where things without an owner may be. What is half-made (images, disks, templates, uploads) is removed by its own part when
// the daemon starts, before anything new is begun.
import type { StoredObject } from '../../api/meta.ts';
import type { SandboxSpec } from '../../api/sandbox.ts';
import type { Copies } from '../../copies/copies.ts';
import type { OpenImages } from '../../images/cache/open-images.ts';
import type { Orphan } from '../../reconcilers/sandbox/orphans.ts';
import type { LostVm } from '../../vmm/lost-vms.ts';
import type { Volumes } from '../../volumes/volumes.ts';
import type { GarbageSource } from './collector.ts';

export interface GarbageParts {
  /** Every Sandbox object. */
  sandboxes(): Promise<readonly StoredObject[]>;
  /** Is there a directory of this sandbox, with or without an object? */
  hasDirectory(uid: string): Promise<boolean>;
  orphans(): Promise<Orphan[]>;
  lostVms(): Promise<LostVm[]>;
  images: Pick<OpenImages, 'leases' | 'releaseLease'>;
  volumes: Pick<Volumes, 'list' | 'release'>;
  copies: Pick<Copies, 'unused' | 'remove'>;
}

/** In this order: a directory holds a lease and claims, which go with it. */
export function garbageSources(parts: GarbageParts): GarbageSource[] {
  return [
    () => orphans(parts),
    () => lostVms(parts),
    () => leases(parts),
    () => claims(parts),
    () => copies(parts),
  ];
}

async function orphans(parts: GarbageParts) {
  return (await parts.orphans()).map(({ uid, remove }) => ({
    ...{ kind: 'SandboxDirectory' as const, name: uid, remove },
    reason: 'There is no Sandbox of this uid: its VM is stopped, and its disks, sockets and groups go.',
  }));
}

async function lostVms(parts: GarbageParts) {
  return (await parts.lostVms()).map(({ id, uid, remove }) => ({
    ...{ kind: 'Vm' as const, name: id, remove },
    reason: `Its directory is gone: what is left of its processes, its control groups and its host user ${uid} go.`,
  }));
}

async function leases(parts: GarbageParts) {
  const { images } = parts;
  const gone = await withoutOwner(parts, images.leases(), ({ holder }) => holder);
  return gone.map(({ holder, digest }) => ({
    ...{ kind: 'ImageLease' as const, name: holder },
    reason: `The sandbox that kept image ${digest} is gone. The image stays until it is pruned.`,
    remove: () => images.releaseLease(holder),
  }));
}

async function claims(parts: GarbageParts) {
  const { volumes } = parts;
  const held = (await volumes.list()).flatMap((disk) => disk.claims.map((claim) => ({ disk, claim })));
  const gone = await withoutOwner(parts, held, ({ claim }) => claim.sandbox);
  return gone.map(({ disk, claim }) => ({
    ...{ kind: 'VolumeClaim' as const, name: `${disk.namespace}/${disk.name}` },
    reason: `Sandbox ${claim.name} (${claim.sandbox}), which had the volume, is gone. The disk stays.`,
    remove: () => volumes.release(disk.uid, claim.sandbox),
  }));
}

async function copies({ copies: kept, sandboxes }: GarbageParts) {
  const named = new Set<string>();
  for (const { spec } of await sandboxes())
    for (const { copy } of (spec as SandboxSpec).patches ?? [])
      if (copy?.digest !== undefined) named.add(copy.digest);
  return (await kept.unused(named)).map(({ digest, sizeBytes }) => ({
    ...{ kind: 'CopyContent' as const, name: digest, sizeBytes },
    reason: 'No patch of a Sandbox copies it.',
    remove: () => kept.remove(digest),
  }));
}

/** Those of sandboxes that have neither object nor directory. */
async function withoutOwner<T>(
  { sandboxes, hasDirectory }: GarbageParts,
  held: readonly T[],
  ownerOf: (each: T) => string,
): Promise<T[]> {
  if (held.length === 0) return [];
  const uids = new Set((await sandboxes()).map(({ metadata }) => metadata.uid));
  const gone: T[] = [];
  for (const each of held) {
    const uid = ownerOf(each);
    if (!uids.has(uid) && !(await hasDirectory(uid))) gone.push(each);
  }
  return gone;
}
