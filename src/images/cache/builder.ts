// Makes disks of images: room and a staging folder first, then the layers, then the build. What becomes of a finished disk
// is the cache's matter.
import { randomUUID } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { LocalImage } from '../archive/sources.ts';
import type { LayerSource } from '../build/build-disk.ts';
import { buildInThread } from '../build/build-in-thread.ts';
import type { ImageConfig } from '../images.ts';
import type { ImageLimits } from '../limits.ts';
import type { RemoteImage } from '../registry/registry.ts';
import { type DiskRecord, diskPathOf } from './disks.ts';
import { Limiter } from './limiter.ts';
import { ProgressMeter } from './progress-meter.ts';
import type { ProgressListener } from './shared-jobs.ts';

/** One that waits for a slow registry holds its slot as well, so more than there are cores to keep busy. */
const CONCURRENT_BUILDS = 4;
/** Registries throttle more, and one stream seldom fills the line. */
const CONCURRENT_DOWNLOADS = 6;
/** Uncompressed to compressed size of common images, for the guess at the space that one will need. */
const EXPECTED_RATIO = 4;

export interface BuilderOptions {
  /** Where staging folders are made; on the same file system as the disks. */
  temporary: string;
  limits: ImageLimits;
  /**
   * Sees to so much free space, as far as there is something to remove. Fails with DISK_FULL where there is not even room for
   * what it certainly takes.
   */
  makeRoom(expectedBytes: number, certainBytes: number): Promise<void>;
  /** Takes over the folder with a finished disk. */
  commit(
    staged: string,
    image: { digest: string; config: ImageConfig; sizeBytes: number },
  ): Promise<DiskRecord>;
}

export class DiskBuilder {
  readonly #options: BuilderOptions;
  readonly #buildSlots = new Limiter(CONCURRENT_BUILDS);
  readonly #downloadSlots = new Limiter(CONCURRENT_DOWNLOADS);

  constructor(options: BuilderOptions) {
    this.#options = options;
  }

  /** A folder for what is unfinished; who asks removes it. */
  async stage(): Promise<string> {
    const staging = join(this.#options.temporary, randomUUID());
    await mkdir(staging, { mode: 0o700 });
    return staging;
  }

  async fromRegistry(
    remote: RemoteImage,
    signal: AbortSignal,
    onProgress: ProgressListener,
  ): Promise<DiskRecord> {
    const { layers } = remote.manifest;
    const total = layers.reduce((sum, layer) => sum + layer.size, 0);
    await this.#options.makeRoom(total * (1 + EXPECTED_RATIO), total);
    const meter = new ProgressMeter('downloading', layers.length, total, onProgress);
    const staging = await this.stage();
    // The first failure ends the downloads that are still under way.
    const failed = new AbortController();
    const both = AbortSignal.any([signal, failed.signal]);
    const downloads = layers.map(async (layer, index): Promise<LayerSource> => {
      const path = join(staging, `layer-${index}`);
      await this.#downloadSlots.run(both, () =>
        remote.fetchLayer(index, path, both, (bytes) => meter.add(bytes)),
      );
      meter.layerDone();
      return { range: { path, offset: 0, length: layer.size }, diffId: remote.config.diffIds[index] ?? '' };
    });
    for (const download of downloads) download.catch((error: unknown) => failed.abort(error));
    try {
      const image = { digest: remote.digest, config: remote.config.config, diffIds: remote.config.diffIds };
      const record = await this.#build(staging, image, downloads, both, () => undefined);
      meter.finish();
      return record;
    } catch (error) {
      failed.abort(error);
      throw error;
    } finally {
      await Promise.allSettled(downloads);
      await rm(staging, { recursive: true, force: true });
    }
  }

  async fromArchive(
    image: LocalImage,
    signal: AbortSignal,
    onProgress: ProgressListener,
  ): Promise<DiskRecord> {
    const total = image.layers.reduce((sum, layer) => sum + layer.range.length, 0);
    await this.#options.makeRoom(total * EXPECTED_RATIO, total);
    const meter = new ProgressMeter('writing', image.layers.length, total, onProgress);
    const staging = await this.stage();
    try {
      const layers = image.layers.map((layer) => Promise.resolve(layer));
      const diffIds = image.layers.map((layer) => layer.diffId);
      const { digest, config } = image;
      const record = await this.#build(staging, { digest, config, diffIds }, layers, signal, (bytes) =>
        meter.add(bytes),
      );
      meter.finish();
      return record;
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }

  async #build(
    staging: string,
    { digest, config, diffIds }: { digest: string; config: ImageConfig; diffIds: readonly string[] },
    layers: readonly Promise<LayerSource>[],
    signal: AbortSignal,
    onBytes: (bytes: number) => void,
  ): Promise<DiskRecord> {
    const staged = join(staging, 'image');
    await mkdir(staged, { mode: 0o711 });
    const input = { diskPath: diskPathOf(staged), diffIds, limits: this.#options.limits };
    const { sizeBytes } = await this.#buildSlots.run(signal, () =>
      buildInThread(input, layers, { signal, onBytes }),
    );
    return this.#options.commit(staged, { digest, config, sizeBytes });
  }
}
