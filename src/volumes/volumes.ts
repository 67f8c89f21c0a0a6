// What the rest of the product asks of volumes: disks that outlive sandboxes, and who has them.

/** Sizes of disks are whole multiples of it. */
export const DISK_BLOCK_BYTES = 4096;

/** As in the spec of a Volume. */
export type AccessMode = 'ReadWriteOnce' | 'ReadOnlyMany';
export type ClaimMode = 'ReadWrite' | 'ReadOnly';

/** The right of one sandbox to a volume. */
export interface VolumeClaim {
  /** uid of the Sandbox. */
  sandbox: string;
  /** `namespace/name` of it, for people. */
  name: string;
  mode: ClaimMode;
  /** Its VM is gone, but it comes back: the disk can be checked and grown meanwhile, and nobody else gets it. */
  resting?: true;
}

/** The object that a disk belongs to. */
export interface VolumeIdentity {
  uid: string;
  namespace: string;
  name: string;
}

/** Of the file system, as `df` in a guest would say it. */
export interface VolumeUsage {
  usedBytes: number;
  availableBytes: number;
  inodes: number;
  inodesUsed: number;
}

/** How the last integrity check ended. */
export interface VolumeCheck {
  result: 'Clean' | 'Recovered' | 'Repaired';
  message: string;
  /** RFC 3339. */
  at: string;
}

/** A disk as it is now. */
export interface VolumeDisk extends VolumeIdentity {
  /** Length of the file: what was asked for last. */
  sizeBytes: number;
  /** What its file takes on the host. */
  diskBytes: number;
  accessMode: AccessMode;
  claims: readonly VolumeClaim[];
  /**
   * `Unclean`: it was not unmounted in order, and is given to nobody before a check. `Unknown` while a sandbox writes to
   * it or something else is done with it.
   */
  state: 'Clean' | 'Unclean' | 'Unknown';
  /** The file system does not fill the file yet. */
  short: boolean;
  /** Absent unless the state is `Clean`. */
  usage?: VolumeUsage;
  lastCheck?: VolumeCheck;
  /** Since when it has no object (RFC 3339): it was kept, and waits for a Volume of its name. */
  retainedAt?: string;
  /** What is done with it just now, e.g. `being checked`. */
  busy?: string;
}

/** A disk for a VM. Stays as it is until the claim is released. */
export interface ClaimedDisk {
  diskPath: string;
  readOnly: boolean;
  sizeBytes: number;
}

/** For sandboxes: the right to use a disk. */
export interface VolumeClaims {
  /**
   * Gives a sandbox the disk, on the disk before it returns and in force until it is released: a restart of the daemon, or
   * of the host, changes nothing. Claiming again gives the same disk again, and ends the rest of a claim. Fails with
   * - NOT_FOUND: there is no such disk (yet);
   * - VOLUME_IN_USE: the access mode allows nobody beside those who have it;
   * - VOLUME_NOT_READY: it is being checked, grown or copied, or waits for a check after an unclean end;
   * - VOLUME_READ_ONLY: a writer asked for a ReadOnlyMany volume.
   * After the second and third, wait for `onChange`. Whether the object is being deleted is for the caller to see.
   */
  claim(volumeUid: string, sandbox: { uid: string; name: string }, mode: ClaimMode): Promise<ClaimedDisk>;
  /**
   * Lets every claim of a sandbox rest until it claims again. Only when the sandbox's VM is gone; safe to repeat.
   */
  restAll(sandboxUid: string): Promise<void>;
  /** uids of the volumes that a sandbox has claimed, resting ones too. */
  claimedBy(sandboxUid: string): string[];
  /** Only when the sandbox's VM is gone. Safe to repeat, also for what was never claimed. */
  release(volumeUid: string, sandboxUid: string): Promise<void>;
  /** Every claim of one sandbox. */
  releaseAll(sandboxUid: string): Promise<void>;
  /** Calls back with a volume's uid when its claims, its readiness or its disk have changed. Returns what ends it. */
  onChange(listener: (volumeUid: string) => void): () => void;
}

/**
 * The disks of one host, each in a directory named after its Volume's uid. Failures are BulkheadErrors; besides those
 * above DISK_FULL, VOLUME_UNAVAILABLE (the directory cannot be used; retrying may help) and those that are named below.
 * Each call leaves the former or the new state behind, whatever it is killed by; work on a disk that others use, or
 * work on, fails with VOLUME_IN_USE or VOLUME_NOT_READY.
 */
export interface Volumes extends VolumeClaims {
  /** `undefined` when there is no whole disk of this uid. */
  inspect(uid: string): Promise<VolumeDisk | undefined>;
  list(): Promise<VolumeDisk[]>;
  /** Is there anything on the host of this uid, the rest of a deleted disk included? */
  holds(uid: string): boolean;
  /** Uid of the disk that was kept for this name, the latest where there are several. */
  findRetained(namespace: string, name: string): string | undefined;
  /** An empty disk. Does nothing when it is there. Fails with INVALID for sizes that cannot be. */
  create(identity: VolumeIdentity, sizeBytes: number, accessMode: AccessMode): Promise<void>;
  /** Gives a kept disk to an object. */
  takeUp(retainedUid: string, identity: VolumeIdentity): Promise<void>;
  setAccessMode(uid: string, accessMode: AccessMode): Promise<void>;
  /** Integrity check with repair. Fails with VOLUME_DAMAGED. */
  check(uid: string, signal: AbortSignal): Promise<VolumeCheck>;
  /** Grows file and file system. A size below the present one fails with VOLUME_SHRINK. */
  grow(uid: string, sizeBytes: number, signal: AbortSignal): Promise<void>;
  /** The object goes, the disk stays. */
  retain(uid: string): Promise<void>;
  /** The disk goes, and what is on it. */
  remove(uid: string): Promise<void>;
  /**
   * A copy that is kept for a Volume of that name to take up; its uid until then. Fails with ALREADY_EXISTS when one is kept for
   * the name, or is being made.
   */
  copy(uid: string, target: { namespace: string; name: string }, accessMode: AccessMode): Promise<string>;
  /** Writes the disk as a sparse file, mode 0600. Fails with ALREADY_EXISTS. */
  exportTo(uid: string, path: string): Promise<void>;
  /**
   * Replaces what is on the disk by a raw ext4 image, which is checked and grown first. Fails with INVALID when it is
   * none or does not fit, and with ALREADY_EXISTS when files would be lost and `overwrite` is not set.
   */
  importFrom(uid: string, path: string, overwrite: boolean, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}
