// What a spec says of volumes: the disks that a VM is to have, and what its guest is to mount where.
import { createHash } from 'node:crypto';
import { parseBytes } from '../../../api/quantity.ts';
import type { DefaultedSandboxSpec } from '../../../api/sandbox.ts';
import type { GuestVolume, GuestVolumeMount } from '../../../guest/agent.ts';
import type { ClaimMode } from '../../../volumes/volumes.ts';

/** The kernel names disks in the order in which drivers attach them; image and upper are the first two. */
const FIRST_DEVICE = 'c';
/** A DNS label. */
const NAME_MAX = 63;

/** A Volume object that a spec names, once however often it does so. */
export interface WantedDisk {
  volume: string;
  /** `ReadOnly` when every mount of it says so. */
  mode: ClaimMode;
}

/** A disk that was given to a VM, in the place of the one that was wanted. */
export interface AttachedDisk extends WantedDisk {
  /** Of the Volume object. */
  uid: string;
}

/** A directory or file of the host that was given to a VM. */
export interface AttachedShare {
  /** Of the entry in the spec. */
  name: string;
  /** The host refuses writes: every mount of it says so. */
  readOnly: boolean;
}

export interface WantedShare extends AttachedShare {
  path: string;
  type: 'Directory' | 'File';
}

/** In the order in which the VM gets them. */
export function wantedShares({ volumes = [], volumeMounts = [] }: DefaultedSandboxSpec): WantedShare[] {
  return volumes.flatMap(({ name, hostPath }) => {
    if (hostPath === undefined) return [];
    const { path, type = 'Directory' } = hostPath;
    const writes = volumeMounts.some((mount) => mount.name === name && mount.readOnly !== true);
    return [{ name, path, type, readOnly: !writes }];
  });
}

/** In the order in which the VM gets them. */
export function wantedDisks({ volumes = [], volumeMounts = [] }: DefaultedSandboxSpec): WantedDisk[] {
  const wanted = new Map<string, WantedDisk>();
  for (const { name, volume } of volumes) {
    if (volume === undefined) continue;
    const writes = volumeMounts.some((mount) => mount.name === name && mount.readOnly !== true);
    const former = wanted.get(volume.name)?.mode;
    const mode = writes || former === 'ReadWrite' ? 'ReadWrite' : 'ReadOnly';
    wanted.set(volume.name, { volume: volume.name, mode });
  }
  return [...wanted.values()];
}

/** Kernel name of a disk in the guest. */
export function deviceOf(index: number): string {
  return `vd${String.fromCharCode(FIRST_DEVICE.charCodeAt(0) + index)}`;
}

/** What the guest mounts, given the disks and directories of the host that its VM has. */
export function guestVolumes(
  { volumes = [], volumeMounts = [] }: DefaultedSandboxSpec,
  disks: readonly AttachedDisk[],
  shares: readonly AttachedShare[] = [],
): { volumes: GuestVolume[]; mounts: GuestVolumeMount[] } {
  /** Name of the guest's volume for each entry of the spec: two entries of one Volume share it. */
  const names = new Map<string, string>();
  const sources: GuestVolume[] = disks.map((disk, index) => ({
    name: diskName(index),
    source: { kind: 'disk', device: deviceOf(index), readOnly: disk.mode === 'ReadOnly' },
  }));
  for (const { name, volume, hostPath, tmpfs, configMap, secret } of volumes) {
    const disk = disks.findIndex((each) => each.volume === volume?.name);
    if (disk >= 0) names.set(name, diskName(disk));
    const entry = hostPath === undefined ? -1 : shares.findIndex((each) => each.name === name);
    const share = shares[entry];
    if (share !== undefined) {
      names.set(name, entryName(name));
      const { readOnly } = share;
      sources.push({ name: entryName(name), source: { kind: 'share', entry, readOnly } });
    }
    if (tmpfs !== undefined) {
      names.set(name, entryName(name));
      sources.push({ name: entryName(name), source: { kind: 'memory', sizeBytes: parseBytes(tmpfs.size) } });
    }
    if (configMap !== undefined || secret !== undefined) {
      names.set(name, entryName(name));
      sources.push({ name: entryName(name), source: { kind: 'files' } });
    }
  }
  const mounts = volumeMounts.flatMap(
    ({ name, mountPath, subPath, readOnly = false }): GuestVolumeMount[] => {
      const volume = names.get(name);
      if (volume === undefined) return [];
      return [{ volume, mountPath, readOnly, ...(subPath === undefined ? {} : { subPath }) }];
    },
  );
  // What lies in another mount comes after it.
  const depth = ({ mountPath }: GuestVolumeMount) => mountPath.split('/').filter(Boolean).length;
  return { volumes: sources, mounts: mounts.toSorted((a, b) => depth(a) - depth(b)) };
}

/** Name of a disk in the guest and in its figures. */
export function diskName(index: number): string {
  return `disk-${index}`;
}

/** Name in the guest of an entry of the spec, which must not meet those of disks; as long as names may be at most. */
export function entryName(name: string): string {
  return name.length < NAME_MAX - 1
    ? `v-${name}`
    : `h-${createHash('sha256').update(name).digest('hex').slice(0, 32)}`;
}
