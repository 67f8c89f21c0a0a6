// Disks that outlive sandboxes, with a size that holds.

import { VOLUME_KIND } from '../api/kinds.ts';
import { GROUP_VERSION, type StoredObject } from '../api/meta.ts';
import { parseBytes } from '../api/quantity.ts';
import { type CallOptions, type Connection, connectionOf, type WaitOptions } from './connection.ts';
import { withDaemon } from './daemon.ts';
import { failure, withTypedErrors } from './errors.ts';

export interface VolumeConfig {
  name: string;
  /** Default: 1024. */
  quotaMib?: number;
  labels?: Record<string, string>;
}

export interface VolumeInfo {
  name: string;
  quotaMib: number;
  usedBytes: number;
  labels: Record<string, string>;
  createdAt: Date;
}

const DEFAULT_QUOTA_MIB = 1024;
const MIB = 1024 * 1024;

function infoOf({ metadata, spec, status }: StoredObject): VolumeInfo {
  const { capacity } = spec as { capacity: string };
  const { usedBytes = 0 } = (status ?? {}) as { usedBytes?: number };
  return {
    ...{ name: metadata.name, quotaMib: parseBytes(capacity) / MIB, usedBytes },
    ...{ labels: metadata.labels ?? {}, createdAt: new Date(metadata.creationTimestamp) },
  };
}

/** A volume as it was when it was looked up. */
export class VolumeHandle implements VolumeInfo {
  readonly name: string;
  readonly quotaMib: number;
  readonly usedBytes: number;
  readonly labels: Record<string, string>;
  readonly createdAt: Date;
  readonly #connection: Connection;

  constructor(connection: Connection, object: StoredObject) {
    const info = infoOf(object);
    this.name = info.name;
    this.quotaMib = info.quotaMib;
    this.usedBytes = info.usedBytes;
    this.labels = info.labels;
    this.createdAt = info.createdAt;
    this.#connection = connection;
  }

  /** A volume is a disk of its own and no directory of the host: this fails, and says what to do instead. */
  get path(): string {
    throw failure(
      'NOT_SUPPORTED',
      `volume "${this.name}" is a disk, not a directory of this host: mount it in a sandbox and use its fs()`,
    );
  }

  /** Waits, if sandboxes use it, until they are gone. */
  async remove(options: WaitOptions = {}): Promise<void> {
    await Volume.remove(this.name, { ...this.#connection, ...options });
  }
}

export const Volume = {
  async create(config: VolumeConfig, options: CallOptions = {}): Promise<VolumeHandle> {
    const connection = await withTypedErrors(() => connectionOf(options));
    const { name, quotaMib = DEFAULT_QUOTA_MIB, labels } = config;
    const manifest = {
      ...{ apiVersion: GROUP_VERSION, kind: VOLUME_KIND.kind },
      metadata: { name, ...(labels === undefined ? {} : { labels }) },
      spec: { capacity: `${quotaMib}Mi`, reclaimPolicy: 'Delete' },
    };
    return withTypedErrors(async () => {
      const create = () =>
        connection.client.create(VOLUME_KIND, connection.namespace, manifest, options.signal);
      const object = await withDaemon(connection, create, options.signal);
      return new VolumeHandle(connection, object);
    });
  },

  async get(name: string, options: CallOptions = {}): Promise<VolumeHandle> {
    const connection = await withTypedErrors(() => connectionOf(options));
    return withTypedErrors(async () => {
      const get = () => connection.client.get(VOLUME_KIND, connection.namespace, name, options.signal);
      const object = await withDaemon(connection, get, options.signal);
      return new VolumeHandle(connection, object);
    });
  },

  async list(options: CallOptions = {}): Promise<VolumeInfo[]> {
    const connection = await withTypedErrors(() => connectionOf(options));
    const { client, namespace } = connection;
    const { signal } = options;
    const query = { namespace, ...(signal === undefined ? {} : { signal }) };
    return withTypedErrors(async () => {
      const { items } = await withDaemon(connection, () => client.list(VOLUME_KIND, query), signal);
      return items.map(infoOf);
    });
  },

  /** Removes the volume and what is on it, once no sandbox uses it. */
  async remove(name: string, options: CallOptions = {}): Promise<void> {
    const connection = await withTypedErrors(() => connectionOf(options));
    const { client, namespace } = connection;
    await withTypedErrors(async () => {
      const request = options.signal === undefined ? {} : { signal: options.signal };
      const remove = () => client.delete(VOLUME_KIND, namespace, name, request);
      await withDaemon(connection, remove, options.signal);
    });
  },
} as const;
