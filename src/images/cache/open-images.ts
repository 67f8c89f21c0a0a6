// The image cache of one host: names to disks, one build per digest, leases, collection.

import { mkdir, open, readdir, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { BulkheadError } from '../../api/errors.ts';
import type { CachedImage } from '../../api/wire.ts';
import { openArchive } from '../archive/open-archive.ts';
import { exportArchive } from '../archive/save.ts';
import { localImages } from '../archive/sources.ts';
import { asDiskError } from '../build/build-disk.ts';
import { writeLayout } from '../commit/layout.ts';
import { mergedTar } from '../commit/merged-tree.ts';
import type { BootableImage, ImageConfig, Images, PullOptions } from '../images.ts';
import { DEFAULT_LIMITS, type ImageLimits } from '../limits.ts';
import { type ImageReference, isDigest, parseReference } from '../reference.ts';
import type { Registries } from '../registry/registry.ts';
import { DiskBuilder } from './builder.ts';
import { asBootable, type DiskRecord, Disks, diskPathOf } from './disks.ts';
import { Leases } from './leases.ts';
import { Limiter } from './limiter.ts';
import { type FolderLock, lockFolder } from './lock.ts';
import { type ProgressListener, SharedJobs } from './shared-jobs.ts';

export interface ImagesOptions {
  /** `<state>/images`; made if it is missing. */
  folder: string;
  registries: Registries;
  limits?: Partial<ImageLimits>;
  /** Below this much free space, unused images are collected before a new one is written. Default 2 GiB. */
  lowSpaceBytes?: number;
  /** Nothing new is written that would leave less than this free: before sandboxes that run go short. Default 0. */
  keptFreeBytes?: () => Promise<number>;
  now?: () => Date;
}

/** Room for the writable layers of what runs: without it a pull could starve running sandboxes. */
const DEFAULT_LOW_SPACE_BYTES = 2 * 1024 ** 3;
/** What was asked for so recently may be about to be leased. */
const RECENT_USE_MS = 5 * 60 * 1000;
/** The cache, and what only its owner does with it. */
export interface OpenImages extends Images {
  /** Who keeps which image. */
  leases(): { holder: string; digest: string }[];
  /**
   * The image as an OCI archive with one layer that holds the whole tree.
   * @throws BulkheadError IMAGE_NOT_PRESENT
   */
  save(referenceOrDigest: string, signal: AbortSignal): Promise<Readable>;
  /**
   * A new image: what a guest of the image `digest` saw with this upper disk, which nobody writes to. Its configuration is that of
   * the image. The same content under the same name is the same image.
   * @throws BulkheadError IMAGE_NOT_PRESENT, DISK_DAMAGED, IMAGE_INVALID, DISK_FULL
   */
  commit(digest: string, upperPath: string, reference: string, signal: AbortSignal): Promise<BootableImage>;
}

/**
 * Opens the cache, and removes what an earlier process left unfinished.
 * @throws BulkheadError CONFLICT while another process has it open.
 */
export async function openImages(options: ImagesOptions): Promise<OpenImages> {
  const { folder } = options;
  const paths = {
    disks: join(folder, 'disks'),
    leases: join(folder, 'leases'),
    temporary: join(folder, 'tmp'),
  };
  await mkdir(folder, { recursive: true, mode: 0o711 });
  const lock = lockFolder(folder);
  try {
    for (const path of Object.values(paths)) await mkdir(path, { recursive: true, mode: 0o711 });
    for (const name of await readdir(paths.temporary)) {
      await rm(join(paths.temporary, name), { recursive: true, force: true });
    }
    const leases = await Leases.open(paths.leases, paths.temporary);
    const disks = await Disks.open(paths.disks, paths.temporary, (digest) => leases.has(digest));
    return new ImageCache(options, paths.temporary, lock, leases, disks);
  } catch (error) {
    lock.release();
    throw asDiskError(error, folder);
  }
}

class ImageCache implements OpenImages {
  readonly #folder: string;
  readonly #registries: Registries;
  readonly #limits: ImageLimits;
  readonly #lowSpaceBytes: number;
  readonly #keptFreeBytes: () => Promise<number>;
  readonly #now: () => Date;
  readonly #lock: FolderLock;
  readonly #leases: Leases;
  readonly #disks: Disks;
  readonly #pulls = new SharedJobs<DiskRecord>();
  readonly #builds = new SharedJobs<DiskRecord>();
  readonly #builder: DiskBuilder;
  /** Changes to names, leases and the set of disks happen one after another. */
  readonly #changes = new Limiter(1);
  readonly #closing = new AbortController();
  readonly #arrivalListeners = new Set<(digest: string) => void>();

  constructor(options: ImagesOptions, temporary: string, lock: FolderLock, leases: Leases, disks: Disks) {
    this.#folder = options.folder;
    this.#registries = options.registries;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#lowSpaceBytes = options.lowSpaceBytes ?? DEFAULT_LOW_SPACE_BYTES;
    this.#keptFreeBytes = options.keptFreeBytes ?? (() => Promise.resolve(0));
    this.#now = options.now ?? (() => new Date());
    this.#lock = lock;
    this.#leases = leases;
    this.#disks = disks;
    this.#builder = new DiskBuilder({
      temporary,
      limits: this.#limits,
      makeRoom: (expectedBytes, certainBytes) => this.#makeRoom(expectedBytes, certainBytes),
      commit: (staged, image) => this.#commit(staged, image),
    });
  }

  async ensure(text: string, options: PullOptions): Promise<BootableImage> {
    const reference = parseReference(text);
    const present = options.policy === 'Always' ? undefined : this.#find(reference);
    if (present !== undefined) return this.#use(present, reference.canonical);
    if (options.policy === 'Never') {
      throw new BulkheadError('IMAGE_NOT_PRESENT', `image ${reference.canonical} is not on this machine`);
    }
    // Credentials are part of the key: a pull with better ones must not answer a caller who has none.
    const key = JSON.stringify([reference.canonical, options.credentials]);
    const record = await this.#pulls.join(key, options, (signal, onProgress) =>
      this.#pull(reference, options, signal, onProgress),
    );
    return this.#use(record, reference.canonical);
  }

  async lookup(text: string): Promise<BootableImage | undefined> {
    const reference = parseReference(text);
    const record = this.#find(reference);
    return record === undefined ? undefined : this.#use(record, reference.canonical);
  }

  async lookupDigest(digest: string): Promise<BootableImage | undefined> {
    const record = this.#disks.byDigest(digest);
    return record === undefined ? undefined : this.#use(record, this.#disks.namesOf(record)[0] ?? digest);
  }

  lease(digest: string, holder: string): Promise<void> {
    return this.#change(async () => {
      const record = this.#disks.byDigest(digest);
      if (record === undefined) {
        throw new BulkheadError('IMAGE_NOT_PRESENT', `image ${digest} is not on this machine`);
      }
      await this.#leases.take(digest, holder);
      await this.#disks.touch(record, this.#now());
    });
  }

  leases(): { holder: string; digest: string }[] {
    return this.#leases.all();
  }

  releaseLease(holder: string): Promise<void> {
    return this.#change(() => this.#leases.release(holder));
  }

  onArrival(listener: (digest: string) => void): () => void {
    this.#arrivalListeners.add(listener);
    return () => this.#arrivalListeners.delete(listener);
  }

  list(): Promise<CachedImage[]> {
    const images = this.#disks.all().map((record) => this.#describe(record));
    return Promise.resolve(images.sort((a, b) => (a.digest < b.digest ? -1 : 1)));
  }

  remove(referenceOrDigest: string): Promise<void> {
    return this.#change(() => this.#remove(referenceOrDigest));
  }

  prune(options: { targetFreeBytes?: number; dryRun?: boolean }): Promise<CachedImage[]> {
    return this.#change(() => this.#prune(options));
  }

  async load(
    path: string,
    options: { reference?: string; signal: AbortSignal; onProgress?: ProgressListener },
  ): Promise<BootableImage[]> {
    const given = options.reference === undefined ? undefined : parseReference(options.reference);
    const staging = await this.#builder.stage();
    try {
      const files = await openArchive(path, staging, this.#limits, options.signal);
      const images = await localImages(files, this.#limits);
      if (given !== undefined && images.length !== 1) {
        throw new BulkheadError(
          'BAD_REQUEST',
          `${path} holds ${images.length} images, so one name cannot be given`,
        );
      }
      const loaded: BootableImage[] = [];
      for (const image of images) {
        const names = given === undefined ? image.references : [given.canonical];
        const record = await this.#builds.join(
          image.digest,
          options,
          async (signal, onProgress) =>
            this.#disks.byDigest(image.digest) ??
            (await this.#builder.fromArchive(image, signal, onProgress)),
        );
        for (const name of names) await this.#name(record, name);
        loaded.push(await this.#use(record, names[0] ?? image.digest));
      }
      return loaded;
    } catch (error) {
      throw asDiskError(error, this.#folder);
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }

  async save(referenceOrDigest: string, signal: AbortSignal): Promise<Readable> {
    const record = this.#present(referenceOrDigest);
    const reference = this.#disks.namesOf(record)[0] ?? '';
    // Open, the disk stays readable even if the image is removed meanwhile.
    const file = await open(diskPathOf(record.folder), 'r');
    const archive = Readable.from(exportArchive(file, record.config, reference), {
      objectMode: false,
      signal,
    });
    archive.once('close', () => void file.close());
    return archive;
  }

  async commit(
    digest: string,
    upperPath: string,
    reference: string,
    signal: AbortSignal,
  ): Promise<BootableImage> {
    const record = this.#present(digest);
    parseReference(reference);
    const staging = await this.#builder.stage();
    try {
      await using image = await open(diskPathOf(record.folder), 'r');
      await using upper = await open(upperPath, 'r');
      await this.#makeRoom(2 * record.sizeBytes, record.sizeBytes);
      const layout = join(staging, 'layout');
      const tar = mergedTar(image, upper, this.#limits);
      await writeLayout(layout, tar, record.config, { maxBytes: this.#limits.maxDiskBytes, signal });
      const [made] = await this.load(layout, { reference, signal });
      if (made === undefined) throw new BulkheadError('INTERNAL', 'a layout of one image holds none');
      return made;
    } catch (error) {
      throw asDiskError(error, this.#folder);
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }

  async close(): Promise<void> {
    const reason = new BulkheadError('INTERNAL', 'the image cache is closed');
    this.#closing.abort(reason);
    await this.#pulls.close(reason);
    await this.#builds.close(reason);
    await this.#changes.run(new AbortController().signal, () => Promise.resolve());
    await this.#registries.close();
    this.#lock.release();
  }

  #find(reference: ImageReference): DiskRecord | undefined {
    const { digest, canonical } = reference;
    return this.#disks.byName(canonical) ?? (digest === undefined ? undefined : this.#disks.byDigest(digest));
  }

  async #use(record: DiskRecord, reference: string): Promise<BootableImage> {
    await this.#disks.touch(record, this.#now());
    return asBootable(record, reference);
  }

  #change<T>(work: () => Promise<T>): Promise<T> {
    return this.#changes.run(this.#closing.signal, work);
  }

  #describe(record: DiskRecord): CachedImage {
    return {
      references: this.#disks.namesOf(record),
      digest: record.digest,
      sizeBytes: record.sizeBytes,
      createdAt: record.createdAt,
      lastUsedAt: record.lastUsedAt.toISOString(),
      inUse: this.#leases.has(record.digest),
    };
  }

  async #pull(
    reference: ImageReference,
    options: PullOptions,
    signal: AbortSignal,
    onProgress: ProgressListener,
  ): Promise<DiskRecord> {
    onProgress({ phase: 'resolving', layersDone: 0, layersTotal: 0, bytesDone: 0, bytesTotal: 0 });
    const remote = await this.#registries.resolve(reference, options.credentials, signal);
    const record =
      this.#disks.byDigest(remote.digest) ??
      (await this.#builds.join(remote.digest, { signal, onProgress }, (buildSignal, onBuildProgress) =>
        this.#builder.fromRegistry(remote, buildSignal, onBuildProgress),
      ));
    await this.#name(record, reference.canonical);
    return record;
  }

  #commit(
    staged: string,
    image: { digest: string; config: ImageConfig; sizeBytes: number },
  ): Promise<DiskRecord> {
    return this.#change(async () => {
      // A build whose callers had all left may have been too far to stop, and be first.
      const rival = this.#disks.byDigest(image.digest);
      if (rival !== undefined) return rival;
      const record = await this.#disks.commit(staged, image, this.#now());
      this.#arrived(record);
      return record;
    });
  }

  #name(record: DiskRecord, canonical: string): Promise<void> {
    return this.#change(async () => {
      if (await this.#disks.name(record, canonical, this.#now())) this.#arrived(record);
    });
  }

  #arrived({ digest }: DiskRecord): void {
    for (const listener of this.#arrivalListeners) listener(digest);
  }

  async #makeRoom(expectedBytes: number, certainBytes: number): Promise<void> {
    const kept = await this.#keptFreeBytes();
    const wanted = Math.max(this.#lowSpaceBytes, kept) + expectedBytes;
    if ((await this.#freeBytes()) >= wanted) return;
    await this.#change(() => this.#prune({ targetFreeBytes: wanted, idleMs: RECENT_USE_MS }));
    const free = await this.#freeBytes();
    if (free - certainBytes >= kept) return;
    throw new BulkheadError(
      'DISK_FULL',
      `the image takes at least ${mebi(certainBytes)}, and the disk has ${mebi(free)} free, of which ${mebi(kept)} are kept for sandboxes`,
    );
  }

  async #freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.#folder);
    return bavail * bsize;
  }

  async #prune(options: {
    targetFreeBytes?: number;
    dryRun?: boolean;
    idleMs?: number;
  }): Promise<CachedImage[]> {
    const usedBefore = this.#now().getTime() - (options.idleMs ?? 0);
    const unused = this.#disks
      .all()
      .filter((record) => !this.#leases.has(record.digest) && record.lastUsedAt.getTime() <= usedBefore)
      .sort((a, b) => a.lastUsedAt.getTime() - b.lastUsedAt.getTime());
    const removed: CachedImage[] = [];
    let free = await this.#freeBytes();
    for (const record of unused) {
      if (options.targetFreeBytes !== undefined && free >= options.targetFreeBytes) break;
      removed.push(this.#describe(record));
      // Blocks, not bytes: holes of a disk give nothing back.
      free += (await stat(diskPathOf(record.folder))).blocks * 512;
      if (options.dryRun !== true) await this.#disks.remove(record);
    }
    return removed;
  }

  async #remove(referenceOrDigest: string): Promise<void> {
    const record = this.#present(referenceOrDigest);
    const name = isDigest(referenceOrDigest) ? undefined : parseReference(referenceOrDigest);
    const names = this.#disks.namesOf(record);
    if (name !== undefined && names.some((other) => other !== name.canonical)) {
      await this.#disks.unname(record, name.canonical);
      return;
    }
    if (this.#leases.has(record.digest)) {
      throw new BulkheadError('CONFLICT', `image ${referenceOrDigest} is in use by a sandbox`);
    }
    await this.#disks.remove(record);
  }

  #present(referenceOrDigest: string): DiskRecord {
    const record = isDigest(referenceOrDigest)
      ? this.#disks.byDigest(referenceOrDigest)
      : this.#find(parseReference(referenceOrDigest));
    if (record !== undefined) return record;
    throw new BulkheadError('IMAGE_NOT_PRESENT', `image ${referenceOrDigest} is not on this machine`);
  }
}

function mebi(bytes: number): string {
  return `${Math.ceil(bytes / 1024 ** 2)}Mi`;
}
