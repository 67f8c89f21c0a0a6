// What the rest of the product asks of the content of copies: kept by digest until the sandboxes that name it have it.
import type { CopyBundle } from '../api/copies/bundle.ts';

export interface Copies {
  has(digest: string): Promise<boolean>;
  /**
   * Keeps a bundle, on the disk before it returns. Safe to repeat; what is there is kept for some time more. Fails with INVALID when the bytes
   * are no bundle or not of this digest, with DISK_FULL, and with TOO_LARGE.
   */
  put(digest: string, bytes: Buffer): Promise<void>;
  /** `undefined` when it is not here, or not whole. */
  read(digest: string): Promise<CopyBundle | undefined>;
  /**
   * Digests that nobody names and that were put some time ago: what was put just now may be about to be named.
   */
  unused(named: ReadonlySet<string>): Promise<{ digest: string; sizeBytes: number }[]>;
  remove(digest: string): Promise<void>;
}
