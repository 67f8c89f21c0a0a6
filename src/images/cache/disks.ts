// The finished disks of the cache: one folder per image with `disk.erofs` and `image.json`. The folders are the only state;
// every index is made from them at the start, so none can be wrong.

import { mkdir, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { BulkheadError } from '../../api/errors.ts';
import { WRITER_VERSION } from '../build/build-disk.ts';
import type { BootableImage, ImageConfig } from '../images.ts';
import { asObject, asString, asStringMap, asStrings, parseObject } from '../oci/json.ts';
import { isDigest } from '../reference.ts';
import { syncFolder, writeDurably } from './files.ts';

/** One image of the cache. */
export interface DiskRecord {
  digest: string;
  folder: string;
  sizeBytes: number;
  createdAt: string;
  lastUsedAt: Date;
  config: ImageConfig;
  /** Canonical name to the time it was given to this image, ISO 8601. */
  references: Record<string, string>;
}

const DISK = 'disk.erofs';
const RECORD = 'image.json';
const FOLDER_NAME = /^[0-9a-f]{64}-v([0-9]+)$/;
const MAX_ITEMS = 100_000;

export function diskPathOf(folder: string): string {
  return join(folder, DISK);
}

export class Disks {
  readonly #folder: string;
  readonly #temporary: string;
  readonly #records = new Map<string, DiskRecord>();
  readonly #names = new Map<string, DiskRecord>();

  private constructor(folder: string, temporary: string) {
    this.#folder = folder;
    this.#temporary = temporary;
  }

  /** Reads what is in `folder`; damaged images, and those of another writer that `isLeased` has no use for, are removed. */
  static async open(
    folder: string,
    temporary: string,
    isLeased: (digest: string) => boolean,
  ): Promise<Disks> {
    const disks = new Disks(folder, temporary);
    for (const name of await readdir(folder)) {
      const version = FOLDER_NAME.exec(name)?.[1];
      const record = version === undefined ? undefined : await readRecord(join(folder, name));
      const isCurrent = version === String(WRITER_VERSION);
      if (record !== undefined && (isCurrent || isLeased(record.digest))) disks.#adopt(record, isCurrent);
      else await rm(join(folder, name), { recursive: true, force: true });
    }
    return disks;
  }

  #adopt(record: DiskRecord, isCurrent: boolean): void {
    if (isCurrent || !this.#records.has(record.digest)) this.#records.set(record.digest, record);
    for (const [name, since] of Object.entries(record.references)) {
      const rival = this.#names.get(name);
      // A crash between giving a name to one image and taking it from the other leaves both: the newer holds.
      if (rival === undefined || (rival.references[name] ?? '') < since) this.#names.set(name, record);
    }
  }

  byDigest(digest: string): DiskRecord | undefined {
    return this.#records.get(digest);
  }

  byName(canonical: string): DiskRecord | undefined {
    return this.#names.get(canonical);
  }

  all(): DiskRecord[] {
    return [...this.#records.values()];
  }

  namesOf(record: DiskRecord): string[] {
    return Object.keys(record.references).filter((name) => this.#names.get(name) === record);
  }

  /** Moves a written disk, `staged/disk.erofs`, into the cache. */
  async commit(
    staged: string,
    image: { digest: string; sizeBytes: number; config: ImageConfig },
    now: Date,
  ): Promise<DiskRecord> {
    const folder = join(this.#folder, `${image.digest.slice('sha256:'.length)}-v${WRITER_VERSION}`);
    const record: DiskRecord = {
      ...image,
      folder,
      createdAt: now.toISOString(),
      lastUsedAt: now,
      references: {},
    };
    await writeDurably(join(staged, RECORD), encode(record), this.#temporary);
    // A damaged predecessor that could not be removed at the start would stop the rename.
    await rm(folder, { recursive: true, force: true });
    await rename(staged, folder);
    await syncFolder(this.#folder);
    this.#records.set(record.digest, record);
    return record;
  }

  /** Gives `canonical` to the image, and takes it from the one that had it. False when it had the name already. */
  async name(record: DiskRecord, canonical: string, now: Date): Promise<boolean> {
    if (this.#records.get(record.digest) !== record) {
      throw new BulkheadError('CONFLICT', `image ${record.digest} was removed while it was asked for`);
    }
    const former = this.#names.get(canonical);
    if (former === record) return false;
    record.references[canonical] = now.toISOString();
    await this.#save(record);
    this.#names.set(canonical, record);
    if (former !== undefined) await this.unname(former, canonical);
    return true;
  }

  async unname(record: DiskRecord, canonical: string): Promise<void> {
    delete record.references[canonical];
    if (this.#names.get(canonical) === record) this.#names.delete(canonical);
    await this.#save(record);
  }

  async touch(record: DiskRecord, now: Date): Promise<void> {
    record.lastUsedAt = now;
    // Only the order of collection hangs on it: losing it in a crash costs nothing, so nothing waits for the disk.
    await utimes(join(record.folder, RECORD), now, now).catch(() => undefined);
  }

  async remove(record: DiskRecord): Promise<void> {
    for (const name of this.namesOf(record)) this.#names.delete(name);
    this.#records.delete(record.digest);
    // By way of the temporary folder, which is emptied at the start: no half-removed image is ever taken for a whole one.
    const doomed = join(this.#temporary, `removed-${record.digest.slice('sha256:'.length)}-${Date.now()}`);
    await mkdir(this.#temporary, { recursive: true });
    await rename(record.folder, doomed);
    await rm(doomed, { recursive: true, force: true });
  }

  async #save(record: DiskRecord): Promise<void> {
    await writeDurably(join(record.folder, RECORD), encode(record), this.#temporary);
    await this.touch(record, record.lastUsedAt);
  }
}

export function asBootable(record: DiskRecord, reference: string): BootableImage {
  return {
    reference,
    digest: record.digest,
    diskPath: diskPathOf(record.folder),
    sizeBytes: record.sizeBytes,
    config: record.config,
  };
}

function encode(record: DiskRecord): string {
  const { digest, sizeBytes, createdAt, config, references } = record;
  return `${JSON.stringify({ digest, sizeBytes, createdAt, config, references }, undefined, 2)}\n`;
}

/** The record in `folder`, or `undefined` if it or its disk is damaged. */
async function readRecord(folder: string): Promise<DiskRecord | undefined> {
  try {
    const path = join(folder, RECORD);
    const json = parseObject(await readFile(path), RECORD);
    const config = asObject(json.config, 'config');
    const record: DiskRecord = {
      digest: asString(json.digest, 'digest'),
      folder,
      sizeBytes: (await stat(diskPathOf(folder))).size,
      createdAt: asString(json.createdAt, 'createdAt'),
      lastUsedAt: (await stat(path)).mtime,
      config: {
        entrypoint: asStrings(config.entrypoint, 'entrypoint', MAX_ITEMS),
        cmd: asStrings(config.cmd, 'cmd', MAX_ITEMS),
        env: asStrings(config.env, 'env', MAX_ITEMS),
        workingDir: asString(config.workingDir, 'workingDir'),
        user: asString(config.user, 'user'),
        stopSignal: asString(config.stopSignal, 'stopSignal'),
        labels: asStringMap(config.labels, 'labels', MAX_ITEMS),
      },
      references: asStringMap(json.references, 'references', MAX_ITEMS),
    };
    const isWhole = isDigest(record.digest) && json.sizeBytes === record.sizeBytes && record.sizeBytes > 0;
    return isWhole && folder.includes(record.digest.slice('sha256:'.length)) ? record : undefined;
  } catch {
    return undefined;
  }
}
