// Volumes in a folder: `<dir>/<uid>/` holds disk.img and volume.json. A directory gets its name when everything in it is
// there, and loses it before anything in it goes: so what has a uid for its name is always whole.
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BulkheadError } from '../api/errors.ts';
import { isWritten, refuseAttached, refuseClaimed, withClaim, withRest } from './claims.ts';
import { requireRoomForCopy } from './copy-room.ts';
import { DiskFactory, type SparseCopy } from './disk.ts';
import { ARRIVING_FILE, DiskFiles, diskIn } from './disk-files.ts';
import { checkDisk, isShort } from './disk-tools.ts';
import { VolumeEntry } from './entry.ts';
import { type FolderLock, lockVolumes } from './folder-lock.ts';
import { readRecord, syncPath, type VolumeRecord, writeRecord } from './record.ts';
import { readSuperblock, spaceOf } from './superblock.ts';
import { guarded } from './volume-errors.ts';
import type {
  AccessMode,
  ClaimedDisk,
  ClaimMode,
  VolumeCheck,
  VolumeDisk,
  VolumeIdentity,
  Volumes,
  VolumeUsage,
} from './volumes.ts';

const UID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const MAKING = '.making-';
const DELETING = '.deleting-';
const TEMPLATES = '.templates';
/** stat counts allocated blocks in these units, whatever the file system's own are. */
const STAT_BLOCK_BYTES = 512;
/** Inodes of an empty ext4: ten reserved ones and lost+found. */
const EMPTY_INODES = 11;

export interface OpenVolumesOptions {
  /** Made with mode 0700 when it does not exist. */
  dir: string;
  sparseCopy: SparseCopy;
  /** What is to stay free of the folder's file system when disks are copied; nothing when absent. */
  keptFreeBytes?: () => Promise<number>;
  now?: () => Date;
  lock?: (dir: string) => FolderLock;
  /** Told of each step that left something behind, and waited for: tests end a process there. */
  onStep?: (step: string) => Promise<void>;
}

/** Opens the folder and removes what a killed daemon left half-made or half-removed. Fails with CONFLICT when it is in use. */
export async function openVolumes(options: OpenVolumesOptions): Promise<Volumes> {
  const { dir, lock = lockVolumes } = options;
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const held = lock(dir);
  try {
    const volumes = new FolderVolumes(options, held);
    await volumes.load();
    return volumes;
  } catch (error) {
    held.release();
    throw error;
  }
}

class FolderVolumes implements Volumes {
  readonly #dir: string;
  readonly #lock: FolderLock;
  readonly #disks: DiskFactory;
  readonly #files: DiskFiles;
  readonly #keptFreeBytes: () => Promise<number>;
  readonly #now: () => Date;
  readonly #step: (step: string) => Promise<void>;
  readonly #entries = new Map<string, VolumeEntry>();
  /** Directories whose records cannot be read, with why: never touched, and never given out. */
  readonly #unreadable = new Map<string, BulkheadError>();
  /** Disks that have lost their name but are not gone yet. */
  readonly #deleting = new Set<string>();
  /** `namespace/name` of the copies that are being made. */
  readonly #copying = new Set<string>();
  readonly #listeners = new Set<(uid: string) => void>();

  constructor(options: OpenVolumesOptions, lock: FolderLock) {
    this.#dir = options.dir;
    this.#lock = lock;
    this.#disks = new DiskFactory(join(options.dir, TEMPLATES), options.sparseCopy);
    this.#keptFreeBytes = options.keptFreeBytes ?? (async () => 0);
    this.#now = options.now ?? (() => new Date());
    this.#step = options.onStep ?? (async () => {});
    this.#files = new DiskFiles(this.#disks, this.#step);
  }

  async load(): Promise<void> {
    // Templates are made anew in milliseconds; kept for ever, there would be one for each size that was ever asked for.
    await rm(join(this.#dir, TEMPLATES), { recursive: true, force: true });
    for (const name of await readdir(this.#dir)) {
      const path = join(this.#dir, name);
      if (name.startsWith(MAKING) || name.startsWith(DELETING)) {
        await rm(path, { recursive: true, force: true });
      } else if (UID.test(name)) {
        await rm(join(path, ARRIVING_FILE), { force: true });
        try {
          this.#adopt(name, await readRecord(path));
        } catch (error) {
          if (!(error instanceof BulkheadError)) throw error;
          this.#unreadable.set(name, error);
        }
      }
    }
    await syncPath(this.#dir);
  }

  async inspect(uid: string): Promise<VolumeDisk | undefined> {
    const unreadable = this.#unreadable.get(uid);
    if (unreadable !== undefined) throw unreadable;
    const entry = this.#entries.get(uid);
    return entry === undefined ? undefined : this.#look(uid, entry);
  }

  async list(): Promise<VolumeDisk[]> {
    const found: VolumeDisk[] = [];
    for (const [uid, entry] of [...this.#entries]) {
      const disk = await this.#look(uid, entry);
      if (disk !== undefined) found.push(disk);
    }
    return found;
  }

  holds(uid: string): boolean {
    return this.#entries.has(uid) || this.#unreadable.has(uid) || this.#deleting.has(uid);
  }

  findRetained(namespace: string, name: string): string | undefined {
    let latest: { uid: string; at: string } | undefined;
    for (const [uid, { record }] of this.#entries) {
      const { retainedAt: at } = record;
      if (at === undefined || record.namespace !== namespace || record.name !== name) continue;
      if (latest === undefined || at > latest.at) latest = { uid, at };
    }
    return latest?.uid;
  }

  async create(identity: VolumeIdentity, sizeBytes: number, accessMode: AccessMode): Promise<void> {
    if (this.holds(identity.uid)) return;
    const { namespace, name } = identity;
    await this.#make(identity.uid, { namespace, name, accessMode, claims: [] }, (path) =>
      this.#disks.create(path, sizeBytes),
    );
  }

  async takeUp(retainedUid: string, { uid, namespace, name }: VolumeIdentity): Promise<void> {
    const entry = this.#entry(retainedUid);
    await entry.occupy('being taken up', refuseUsed, async () => {
      if (uid === retainedUid) return;
      await guarded(`volume ${uid}`, async () => {
        const path = join(this.#dir, uid);
        await rename(entry.dir, path);
        this.#entries.delete(retainedUid);
        this.#adopt(uid, entry.record);
        await this.#step('renamed');
        await syncPath(this.#dir);
      });
    });
    // Until this is written it is still kept for the name, and is taken up again from its new place.
    await this.#entry(uid).update(({ retainedAt: _since, ...record }) => ({ ...record, namespace, name }));
  }

  async setAccessMode(uid: string, accessMode: AccessMode): Promise<void> {
    await this.#entry(uid).update((record) =>
      record.accessMode === accessMode ? record : { ...record, accessMode },
    );
  }

  async check(uid: string, signal: AbortSignal): Promise<VolumeCheck> {
    const entry = this.#entry(uid);
    return entry.occupy('being checked', refuseRunning, async () => {
      const { result, message } = await guarded(`check of volume ${uid}`, () =>
        checkDisk(diskIn(entry.dir), signal),
      );
      const lastCheck = { result, message, at: this.#now().toISOString() };
      await this.#step('checked');
      await entry.update((record) => ({ ...record, lastCheck }));
      return lastCheck;
    });
  }

  async grow(uid: string, sizeBytes: number, signal: AbortSignal): Promise<void> {
    const entry = this.#entry(uid);
    await entry.occupy('being resized', refuseRunning, () =>
      guarded(`growth of volume ${uid}`, async () => {
        const { size } = await stat(diskIn(entry.dir));
        if (sizeBytes < size)
          throw new BulkheadError(
            'VOLUME_SHRINK',
            `The disk has ${size} bytes; a capacity of ${sizeBytes} bytes would lose what is in it.`,
          );
        await this.#files.grow(entry.dir, sizeBytes, signal);
      }),
    );
  }

  async retain(uid: string): Promise<void> {
    const retainedAt = this.#now().toISOString();
    await this.#entry(uid).update((record) => {
      refuseUsed(record);
      return record.retainedAt === undefined ? { ...record, retainedAt } : record;
    });
  }

  async remove(uid: string): Promise<void> {
    const entry = this.#entries.get(uid);
    const grave = join(this.#dir, `${DELETING}${uid}`);
    if (entry === undefined) {
      if (this.#deleting.has(uid)) await this.#bury(uid, grave);
      return;
    }
    await entry.occupy('being removed', refuseUsed, () =>
      guarded(`removal of volume ${uid}`, async () => {
        await rename(entry.dir, grave);
        this.#deleting.add(uid);
        this.#entries.delete(uid);
        await this.#step('unnamed');
        await syncPath(this.#dir);
        await this.#bury(uid, grave);
      }),
    );
  }

  async copy(
    uid: string,
    { namespace, name }: { namespace: string; name: string },
    accessMode: AccessMode,
  ): Promise<string> {
    const entry = this.#entry(uid);
    const target = `${namespace}/${name}`;
    if (this.#copying.has(target) || this.findRetained(namespace, name) !== undefined)
      throw new BulkheadError(
        'ALREADY_EXISTS',
        `A disk is kept for the volume ${namespace}/${name} already.`,
      );
    this.#copying.add(target);
    try {
      return await entry.occupy('being copied', refuseWritten, async () => {
        await this.#requireClean(uid, entry);
        await this.#requireRoom(diskIn(entry.dir), this.#dir);
        const record = { namespace, name, accessMode, claims: [], retainedAt: this.#now().toISOString() };
        const copy = randomUUID();
        await this.#make(copy, record, (path) => this.#disks.copy(diskIn(entry.dir), path));
        return copy;
      });
    } finally {
      this.#copying.delete(target);
    }
  }

  async exportTo(uid: string, path: string): Promise<void> {
    const entry = this.#entry(uid);
    await entry.occupy('being exported', refuseWritten, async () => {
      await this.#requireClean(uid, entry);
      await this.#requireRoom(diskIn(entry.dir), dirname(path));
      await guarded(`export to ${path}`, () => this.#files.exportTo(entry.dir, path));
    });
  }

  async importFrom(uid: string, path: string, overwrite: boolean, signal: AbortSignal): Promise<void> {
    const entry = this.#entry(uid);
    await entry.occupy('being imported', refuseUsed, () =>
      guarded(`import of ${path}`, async () => {
        const present = await readSuperblock(diskIn(entry.dir));
        const empty = present !== undefined && present.inodes - present.freeInodes <= EMPTY_INODES;
        if (!empty && !overwrite)
          throw new BulkheadError('ALREADY_EXISTS', 'The volume holds files, which an import would replace.');
        await this.#files.replace(entry.dir, path, signal, () => this.#requireRoom(path, entry.dir));
      }),
    );
  }

  async claim(
    volumeUid: string,
    { uid, name }: { uid: string; name: string },
    mode: ClaimMode,
  ): Promise<ClaimedDisk> {
    const entry = this.#entry(volumeUid);
    const has = ({ claims }: VolumeRecord) =>
      claims.some((each) => each.sandbox === uid && each.mode === mode && each.resting !== true);
    // Whoever has it goes on: after a restart its VM may still run.
    if (!has(entry.record)) {
      entry.refuseBusy();
      if (!isWritten(entry.record.claims)) await this.#requireClean(volumeUid, entry);
      await entry.update((record) => {
        entry.refuseBusy();
        if (record.retainedAt !== undefined)
          throw new BulkheadError('VOLUME_NOT_READY', 'The volume was kept and was not taken up yet.');
        const claims = withClaim(record.claims, { sandbox: uid, name, mode }, record.accessMode);
        return claims === record.claims ? record : { ...record, claims };
      });
    }
    const diskPath = diskIn(entry.dir);
    const { size } = await guarded(`disk of volume ${volumeUid}`, () => stat(diskPath));
    return { diskPath, readOnly: mode === 'ReadOnly', sizeBytes: size };
  }

  async release(volumeUid: string, sandboxUid: string): Promise<void> {
    await this.#entries.get(volumeUid)?.update((record) => {
      const claims = record.claims.filter(({ sandbox }) => sandbox !== sandboxUid);
      return claims.length === record.claims.length ? record : { ...record, claims };
    });
  }

  async releaseAll(sandboxUid: string): Promise<void> {
    for (const uid of this.claimedBy(sandboxUid)) await this.release(uid, sandboxUid);
  }

  async restAll(sandboxUid: string): Promise<void> {
    for (const uid of this.claimedBy(sandboxUid)) {
      await this.#entries.get(uid)?.update((record) => {
        const claims = withRest(record.claims, sandboxUid);
        return claims === record.claims ? record : { ...record, claims };
      });
    }
  }

  claimedBy(sandboxUid: string): string[] {
    const claimed: string[] = [];
    for (const [uid, { record }] of this.#entries)
      if (record.claims.some(({ sandbox }) => sandbox === sandboxUid)) claimed.push(uid);
    return claimed;
  }

  onChange(listener: (volumeUid: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#listeners.clear();
    this.#lock.release();
  }

  /** Fails with NOT_FOUND. */
  #entry(uid: string): VolumeEntry {
    const entry = this.#entries.get(uid);
    if (entry === undefined) throw this.#unreadable.get(uid) ?? notThere(uid);
    return entry;
  }

  #adopt(uid: string, record: VolumeRecord): void {
    const told = (): void => {
      for (const listener of this.#listeners) listener(uid);
    };
    this.#entries.set(uid, new VolumeEntry(join(this.#dir, uid), record, told));
  }

  /** `undefined` when it went, or got another uid, while it was looked at. */
  async #look(uid: string, entry: VolumeEntry): Promise<VolumeDisk | undefined> {
    try {
      return await guarded(`disk of volume ${uid}`, () => this.#describe(uid, entry));
    } catch (error) {
      if (this.#entries.get(uid) !== entry) return undefined;
      throw error;
    }
  }

  async #describe(uid: string, entry: VolumeEntry): Promise<VolumeDisk> {
    const path = diskIn(entry.dir);
    const { namespace, name, accessMode, claims, lastCheck, retainedAt } = entry.record;
    const { size, blocks } = await stat(path);
    const resting = !isWritten(claims) && entry.busy === undefined;
    const superblock = resting ? await readSuperblock(path) : undefined;
    const clean = superblock?.clean === true;
    return {
      uid,
      namespace,
      name,
      sizeBytes: size,
      diskBytes: blocks * STAT_BLOCK_BYTES,
      accessMode,
      claims,
      state: !resting ? 'Unknown' : clean ? 'Clean' : 'Unclean',
      short: superblock !== undefined && isShort(superblock, size),
      ...(clean ? { usage: usageOf(superblock) } : {}),
      ...(lastCheck === undefined ? {} : { lastCheck }),
      ...(retainedAt === undefined ? {} : { retainedAt }),
      ...(entry.busy === undefined ? {} : { busy: entry.busy }),
    };
  }

  /** A directory with its disk, whole or not at all. */
  async #make(uid: string, record: VolumeRecord, fill: (path: string) => Promise<void>): Promise<void> {
    const making = join(this.#dir, `${MAKING}${uid}`);
    await guarded(`disk of volume ${uid}`, async () => {
      try {
        await rm(making, { recursive: true, force: true });
        await mkdir(making, { mode: 0o700 });
        await this.#step('directory made');
        await fill(diskIn(making));
        await this.#step('disk made');
        await syncPath(diskIn(making));
        await writeRecord(making, record);
        await this.#step('record written');
        await rename(making, join(this.#dir, uid));
        await this.#step('named');
        await syncPath(this.#dir);
      } catch (error) {
        await rm(making, { recursive: true, force: true });
        throw error;
      }
    });
    this.#adopt(uid, record);
    for (const listener of this.#listeners) listener(uid);
  }

  async #requireClean(uid: string, entry: VolumeEntry): Promise<void> {
    const superblock = await guarded(`disk of volume ${uid}`, () => readSuperblock(diskIn(entry.dir)));
    if (superblock?.clean === true) return;
    throw new BulkheadError(
      'VOLUME_NOT_READY',
      'The volume was not unmounted in order and waits for a check.',
    );
  }

  /** On another disk than the volumes' own a copy may take what there is. */
  async #requireRoom(source: string, folder: string): Promise<void> {
    await guarded(`copy to ${folder}`, async () => {
      const [own, target] = await Promise.all([stat(this.#dir), stat(folder)]);
      const kept = own.dev === target.dev ? await this.#keptFreeBytes() : 0;
      await requireRoomForCopy(source, folder, kept);
    });
  }

  async #bury(uid: string, grave: string): Promise<void> {
    await guarded(`removal of volume ${uid}`, async () => {
      await rm(grave, { recursive: true, force: true });
      await syncPath(this.#dir);
    });
    this.#deleting.delete(uid);
  }
}

function usageOf(superblock: NonNullable<Awaited<ReturnType<typeof readSuperblock>>>): VolumeUsage {
  const { inodes, freeInodes } = superblock;
  return { ...spaceOf(superblock), inodes, inodesUsed: inodes - freeInodes };
}

function refuseUsed({ claims }: VolumeRecord): void {
  refuseClaimed(claims);
}

function refuseRunning({ claims }: VolumeRecord): void {
  refuseAttached(claims);
}

function refuseWritten(record: VolumeRecord): void {
  if (isWritten(record.claims)) refuseRunning(record);
}

function notThere(uid: string): BulkheadError {
  return new BulkheadError('NOT_FOUND', `There is no disk of a volume with uid ${uid}.`);
}
