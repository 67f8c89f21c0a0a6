// What the rest of the product asks of images: a reference in, a bootable read-only disk out.

import type { CachedImage, ImageProgress } from '../api/wire.ts';

/** The parts of an OCI image configuration that running it needs. */
export interface ImageConfig {
  entrypoint: string[];
  cmd: string[];
  env: string[];
  workingDir: string;
  user: string;
  stopSignal: string;
  labels: Record<string, string>;
}

/** An image that is ready to boot. */
export interface BootableImage {
  reference: string;
  /** Manifest digest, `sha256:...`. */
  digest: string;
  /** EROFS file; stays as it is for as long as a lease on it is held. */
  diskPath: string;
  sizeBytes: number;
  config: ImageConfig;
}

export interface RegistryCredential {
  /** Registry host as in `~/.docker/config.json`'s `auths`. */
  registry: string;
  username: string;
  password: string;
}

export interface PullOptions {
  policy: 'Always' | 'IfNotPresent' | 'Never';
  credentials: readonly RegistryCredential[];
  onProgress?: (progress: ImageProgress) => void;
  signal: AbortSignal;
}

/**
 * The image cache of one host. Failures are `BulkheadError`s of the IMAGE_* and REGISTRY_* codes; hostile content is
 * refused with the layer and the entry named.
 */
export interface Images {
  /** One pull per digest however many ask; a caller that aborts does not end the pull of the others. */
  ensure(reference: string, options: PullOptions): Promise<BootableImage>;
  /** Without any network; `undefined` when it is not in the cache. */
  lookup(reference: string): Promise<BootableImage | undefined>;
  /** By digest, for a sandbox that was created with it and has to start again. */
  lookupDigest(digest: string): Promise<BootableImage | undefined>;
  /**
   * Calls `listener` with the digest when an image has come into the cache, or got a name that it had not, by whatever
   * way: what was looked for in vain may now be found. The result ends it. A listener never throws.
   */
  onArrival(listener: (digest: string) => void): () => void;
  /** Keeps an image from being collected while `holder` (a sandbox uid) needs it. Idempotent, survives restarts. */
  lease(digest: string, holder: string): Promise<void>;
  releaseLease(holder: string): Promise<void>;
  list(): Promise<CachedImage[]>;
  remove(referenceOrDigest: string): Promise<void>;
  /** Removes images that nothing uses, oldest use first, until `targetFreeBytes` is free or none is left. */
  prune(options: { targetFreeBytes?: number; dryRun?: boolean }): Promise<CachedImage[]>;
  /** Docker archive, OCI archive or OCI layout folder. */
  load(
    path: string,
    options: { reference?: string; signal: AbortSignal; onProgress?: (progress: ImageProgress) => void },
  ): Promise<BootableImage[]>;
  close(): Promise<void>;
}
