// What the cache asks of registries.

import type { RegistryCredential } from '../images.ts';
import type { ConfigFile, Manifest } from '../oci/manifest.ts';
import type { ImageReference } from '../reference.ts';

/** An image that a registry has, before its layers are fetched. */
export interface RemoteImage {
  /** Of the manifest for this platform. */
  digest: string;
  manifest: Manifest;
  config: ConfigFile;
  /** Writes one layer to a new file at `path`, checked against its size and digest. */
  fetchLayer(
    index: number,
    path: string,
    signal: AbortSignal,
    onBytes: (bytes: number) => void,
  ): Promise<void>;
}

/** Failures are `BulkheadError`s of the IMAGE_* and REGISTRY_* codes; none holds a secret. */
export interface Registries {
  resolve(
    reference: ImageReference,
    credentials: readonly RegistryCredential[],
    signal: AbortSignal,
  ): Promise<RemoteImage>;
  close(): Promise<void>;
}
