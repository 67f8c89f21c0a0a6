// An image cache in memory; what it holds and leases outlives daemon processes.

import { createHash } from 'node:crypto';
import { BulkheadError } from '../../api/errors.ts';
import type { CachedImage } from '../../api/wire.ts';
import type {
  BootableImage,
  ImageConfig,
  Images,
  PullOptions,
  RegistryCredential,
} from '../../images/images.ts';
import type { Faults } from './faults.ts';
import type { FakeProcess } from './process.ts';

export const FAKE_IMAGE_CONFIG: ImageConfig = {
  entrypoint: ['/entry'],
  cmd: ['default'],
  env: ['PATH=/bin'],
  workingDir: '/work',
  user: '',
  stopSignal: '',
  labels: {},
};

/** Cache and registry behind all processes. */
export class FakeImageWorld {
  readonly faults: Faults;
  readonly cache = new Map<string, BootableImage>();
  /** Digest by holder. */
  readonly leases = new Map<string, string>();
  /** References that the registry holds; all when empty. */
  readonly registry = new Set<string>();
  pulls = 0;
  lastCredentials: readonly RegistryCredential[] = [];
  readonly #listeners = new Set<(digest: string) => void>();

  constructor(faults: Faults) {
    this.faults = faults;
  }

  image(reference: string): BootableImage {
    const at = reference.indexOf('@');
    const digest =
      at < 0 ? `sha256:${createHash('sha256').update(reference).digest('hex')}` : reference.slice(at + 1);
    return { reference, digest, diskPath: `/images/${digest}`, sizeBytes: 1000, config: FAKE_IMAGE_CONFIG };
  }

  add(reference: string): BootableImage {
    const image = this.image(reference);
    const isNew = !this.cache.has(image.digest);
    this.cache.set(image.digest, image);
    if (isNew) for (const listener of this.#listeners) listener(image.digest);
    return image;
  }

  onArrival(listener: (digest: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

export class FakeImages implements Images {
  readonly #world: FakeImageWorld;
  readonly #process: FakeProcess;

  constructor(world: FakeImageWorld, process: FakeProcess) {
    this.#world = world;
    this.#process = process;
  }

  ensure(reference: string, options: PullOptions): Promise<BootableImage> {
    return this.#process.call('images.ensure', async () => {
      const world = this.#world;
      const image = world.image(reference);
      const cached = world.cache.get(image.digest);
      if (cached !== undefined && options.policy !== 'Always') return cached;
      if (options.policy === 'Never')
        throw new BulkheadError('IMAGE_NOT_PRESENT', `${reference} is not loaded`);
      world.lastCredentials = options.credentials;
      options.onProgress?.({
        phase: 'downloading',
        layersDone: 0,
        layersTotal: 2,
        bytesDone: 10,
        bytesTotal: 40,
      });
      await world.faults.pass('pull', options.signal);
      if (world.registry.size > 0 && !world.registry.has(reference)) {
        throw new BulkheadError('IMAGE_NOT_FOUND', `${reference} does not exist`);
      }
      world.pulls += 1;
      return world.add(reference);
    });
  }

  async lookup(reference: string): Promise<BootableImage | undefined> {
    return this.#world.cache.get(this.#world.image(reference).digest);
  }

  lookupDigest(digest: string): Promise<BootableImage | undefined> {
    return this.#process.call('images.lookupDigest', async () => this.#world.cache.get(digest));
  }

  lease(digest: string, holder: string): Promise<void> {
    return this.#process.call('images.lease', async () => {
      this.#world.leases.set(holder, digest);
    });
  }

  releaseLease(holder: string): Promise<void> {
    return this.#process.call('images.releaseLease', async () => {
      this.#world.leases.delete(holder);
    });
  }

  onArrival(listener: (digest: string) => void): () => void {
    return this.#world.onArrival((digest) => {
      if (!this.#process.dead) listener(digest);
    });
  }

  async list(): Promise<CachedImage[]> {
    return [];
  }

  async remove(): Promise<void> {}

  async prune(): Promise<CachedImage[]> {
    return [];
  }

  async load(): Promise<BootableImage[]> {
    return [];
  }

  async close(): Promise<void> {}
}
