// Who needs which image: one small file per holder, so that leases survive restarts and damage to anything else.

import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkheadError } from '../../api/errors.ts';
import { isDigest } from '../reference.ts';
import { syncFolder, writeDurably } from './files.ts';

/** Holders are object uids; the bound keeps them file names. */
const HOLDER = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

export class Leases {
  readonly #folder: string;
  readonly #temporary: string;
  readonly #digests = new Map<string, string>();

  private constructor(folder: string, temporary: string) {
    this.#folder = folder;
    this.#temporary = temporary;
  }

  /** Reads the leases in `folder`; what is not one is removed. */
  static async open(folder: string, temporary: string): Promise<Leases> {
    const leases = new Leases(folder, temporary);
    for (const holder of await readdir(folder)) {
      const digest = await readFile(join(folder, holder), 'utf8').catch(() => '');
      if (HOLDER.test(holder) && isDigest(digest)) leases.#digests.set(holder, digest);
      else await rm(join(folder, holder), { recursive: true, force: true });
    }
    return leases;
  }

  has(digest: string): boolean {
    return [...this.#digests.values()].includes(digest);
  }

  all(): { holder: string; digest: string }[] {
    return [...this.#digests].map(([holder, digest]) => ({ holder, digest }));
  }

  async take(digest: string, holder: string): Promise<void> {
    if (!HOLDER.test(holder))
      throw new BulkheadError('BAD_REQUEST', 'the holder of an image lease is not a uid');
    if (this.#digests.get(holder) === digest) return;
    await writeDurably(join(this.#folder, holder), digest, this.#temporary);
    this.#digests.set(holder, digest);
  }

  async release(holder: string): Promise<void> {
    if (!this.#digests.has(holder)) return;
    await rm(join(this.#folder, holder), { force: true });
    await syncFolder(this.#folder);
    this.#digests.delete(holder);
  }
}
