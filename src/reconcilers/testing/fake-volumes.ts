// Disks in memory: what survives a daemon (`FakeDisks`), and one daemon's view of it.
import { BulkheadError } from '../../api/errors.ts';
import { isWritten, refuseAttached, refuseClaimed, withClaim, withRest } from '../../volumes/claims.ts';
import type {
  AccessMode,
  ClaimedDisk,
  ClaimMode,
  VolumeCheck,
  VolumeClaim,
  VolumeDisk,
  VolumeIdentity,
  Volumes,
  VolumeUsage,
} from '../../volumes/volumes.ts';
import type { Faults } from './faults.ts';
import type { FakeProcess } from './process.ts';

/** One disk on the host, with what a test may do to it. */
export interface FakeDisk {
  namespace: string;
  name: string;
  sizeBytes: number;
  fileSystemBytes: number;
  accessMode: AccessMode;
  claims: readonly VolumeClaim[];
  /** `damaged`: no check helps. */
  state: 'clean' | 'unclean' | 'damaged';
  usedBytes: number;
  /** Of a thousand; those of an empty file system when absent. */
  inodesUsed?: number;
  /** What was written into it; moves with it. */
  content: string;
  lastCheck?: VolumeCheck;
  retainedAt?: string;
}

export class FakeDisks {
  /** By uid. */
  readonly disks = new Map<string, FakeDisk>();
  readonly faults: Faults;

  constructor(faults: Faults) {
    this.faults = faults;
  }

  /** The only disk there is. */
  get only(): FakeDisk {
    const [disk, another] = this.disks.values();
    if (disk === undefined || another !== undefined) throw new Error(`there are ${this.disks.size} disks`);
    return disk;
  }
}

export class FakeVolumes implements Volumes {
  readonly #world: FakeDisks;
  readonly #process: FakeProcess;
  readonly #listeners = new Set<(uid: string) => void>();
  readonly #busy = new Map<string, string>();

  constructor(world: FakeDisks, process: FakeProcess) {
    this.#world = world;
    this.#process = process;
  }

  async inspect(uid: string): Promise<VolumeDisk | undefined> {
    await this.#world.faults.pass('volumes.inspect');
    const disk = this.#world.disks.get(uid);
    if (disk === undefined) return undefined;
    const { content: _content, usedBytes, inodesUsed = 11, fileSystemBytes, ...rest } = disk;
    const busy = this.#busy.get(uid);
    const resting = !isWritten(disk.claims) && busy === undefined;
    const state = !resting ? 'Unknown' : disk.state === 'clean' ? 'Clean' : 'Unclean';
    const usage: VolumeUsage = {
      usedBytes,
      availableBytes: fileSystemBytes - usedBytes,
      inodes: 1000,
      inodesUsed,
    };
    return {
      ...rest,
      uid,
      diskBytes: usedBytes,
      state,
      short: resting && fileSystemBytes < disk.sizeBytes,
      ...(state === 'Clean' ? { usage } : {}),
      ...(busy === undefined ? {} : { busy }),
    };
  }

  async list(): Promise<VolumeDisk[]> {
    const found: VolumeDisk[] = [];
    for (const uid of this.#world.disks.keys()) {
      const disk = await this.inspect(uid);
      if (disk !== undefined) found.push(disk);
    }
    return found;
  }

  holds(uid: string): boolean {
    return this.#world.disks.has(uid);
  }

  findRetained(namespace: string, name: string): string | undefined {
    for (const [uid, disk] of this.#world.disks)
      if (disk.retainedAt !== undefined && disk.namespace === namespace && disk.name === name) return uid;
    return undefined;
  }

  create({ uid, namespace, name }: VolumeIdentity, sizeBytes: number, accessMode: AccessMode): Promise<void> {
    return this.#call('create', uid, async () => {
      if (this.holds(uid)) return;
      const sizes = { sizeBytes, fileSystemBytes: sizeBytes, usedBytes: 4096 };
      const disk = {
        ...sizes,
        namespace,
        name,
        accessMode,
        claims: [],
        state: 'clean',
        content: '',
      } as const;
      this.#world.disks.set(uid, disk);
    });
  }

  takeUp(retainedUid: string, { uid, namespace, name }: VolumeIdentity): Promise<void> {
    return this.#call('takeUp', uid, async () => {
      const { retainedAt: _since, ...disk } = this.#disk(retainedUid);
      this.#world.disks.delete(retainedUid);
      this.#world.disks.set(uid, { ...disk, namespace, name });
    });
  }

  setAccessMode(uid: string, accessMode: AccessMode): Promise<void> {
    return this.#call('setAccessMode', uid, async () => {
      this.#disk(uid).accessMode = accessMode;
    });
  }

  async check(uid: string): Promise<VolumeCheck> {
    refuseAttached(this.#disk(uid).claims);
    this.#busy.set(uid, 'being checked');
    try {
      await this.#call('check', uid, async () => {
        const disk = this.#disk(uid);
        if (disk.state === 'damaged') throw new BulkheadError('VOLUME_DAMAGED', 'Nothing can be repaired.');
        disk.state = 'clean';
        disk.lastCheck = {
          result: 'Recovered',
          message: 'Its journal was replayed.',
          at: '2026-01-01T00:00:00Z',
        };
      });
    } finally {
      this.#busy.delete(uid);
    }
    return this.#disk(uid).lastCheck as VolumeCheck;
  }

  async grow(uid: string, sizeBytes: number): Promise<void> {
    refuseAttached(this.#disk(uid).claims);
    // The file first, then the file system: a kill may come between.
    await this.#call('growFile', uid, async () => {
      this.#disk(uid).sizeBytes = sizeBytes;
    });
    await this.#call('growFileSystem', uid, async () => {
      this.#disk(uid).fileSystemBytes = sizeBytes;
    });
  }

  retain(uid: string): Promise<void> {
    return this.#call('retain', uid, async () => {
      const disk = this.#disk(uid);
      refuseClaimed(disk.claims);
      disk.retainedAt ??= '2026-01-01T00:00:00Z';
    });
  }

  remove(uid: string): Promise<void> {
    return this.#call('remove', uid, async () => {
      const disk = this.#world.disks.get(uid);
      if (disk !== undefined) refuseClaimed(disk.claims);
      this.#world.disks.delete(uid);
    });
  }

  async copy(): Promise<string> {
    throw new Error('no reconciler copies');
  }

  async exportTo(): Promise<void> {
    throw new Error('no reconciler exports');
  }

  async importFrom(): Promise<void> {
    throw new Error('no reconciler imports');
  }

  claim(
    volumeUid: string,
    { uid, name }: { uid: string; name: string },
    mode: ClaimMode,
  ): Promise<ClaimedDisk> {
    return this.#call('claim', volumeUid, async () => {
      const disk = this.#disk(volumeUid);
      const has = disk.claims.some(
        (each) => each.sandbox === uid && each.mode === mode && each.resting !== true,
      );
      if (!has && this.#busy.has(volumeUid)) throw new BulkheadError('VOLUME_NOT_READY', 'It is busy.');
      if (!has && !isWritten(disk.claims) && (disk.retainedAt !== undefined || disk.state !== 'clean'))
        throw new BulkheadError('VOLUME_NOT_READY', 'It was kept, or waits for its check.');
      disk.claims = withClaim(disk.claims, { sandbox: uid, name, mode }, disk.accessMode);
      return { diskPath: `/disks/${volumeUid}`, readOnly: mode === 'ReadOnly', sizeBytes: disk.sizeBytes };
    });
  }

  release(volumeUid: string, sandboxUid: string): Promise<void> {
    return this.#call('release', volumeUid, async () => {
      const disk = this.#world.disks.get(volumeUid);
      if (disk !== undefined) disk.claims = disk.claims.filter(({ sandbox }) => sandbox !== sandboxUid);
    });
  }

  async releaseAll(sandboxUid: string): Promise<void> {
    for (const uid of this.claimedBy(sandboxUid)) await this.release(uid, sandboxUid);
  }

  async restAll(sandboxUid: string): Promise<void> {
    for (const uid of this.claimedBy(sandboxUid)) {
      await this.#call('rest', uid, async () => {
        const disk = this.#disk(uid);
        disk.claims = withRest(disk.claims, sandboxUid);
      });
    }
  }

  claimedBy(sandboxUid: string): string[] {
    const has = ({ claims }: FakeDisk) => claims.some(({ sandbox }) => sandbox === sandboxUid);
    return [...this.#world.disks].filter(([, disk]) => has(disk)).map(([uid]) => uid);
  }

  onChange(listener: (volumeUid: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#listeners.clear();
  }

  #disk(uid: string): FakeDisk {
    const disk = this.#world.disks.get(uid);
    if (disk === undefined) throw new BulkheadError('NOT_FOUND', `no disk ${uid}`);
    return disk;
  }

  #told(uid: string): void {
    if (!this.#process.dead) for (const listener of this.#listeners) listener(uid);
  }

  async #call<T>(name: string, uid: string, work: () => Promise<T>): Promise<T> {
    const result = await this.#process.call(`volumes.${name}`, async () => {
      await this.#world.faults.pass(`volumes.${name}`);
      return work();
    });
    this.#told(uid);
    return result;
  }
}
