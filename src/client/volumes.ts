// The disks of volumes on the daemon's host. Paths are of that host.
import { GROUP_VERSION, type StoredObject } from '../api/meta.ts';
import type { CloneVolumeRequest, ImportVolumeRequest, VolumeDiskInfo } from '../api/wire.ts';
import type { Transport } from './transport.ts';

function item(namespace: string, name: string): string {
  return `/apis/${GROUP_VERSION}/namespaces/${encodeURIComponent(namespace)}/volumes/${encodeURIComponent(name)}`;
}

export class VolumeClient {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Every disk, those that were kept without an object included. */
  async list(): Promise<VolumeDiskInfo[]> {
    const path = `/apis/${GROUP_VERSION}/volumedisks`;
    return (await this.#transport.request<{ items: VolumeDiskInfo[] }>('GET', path)).body.items;
  }

  /** Writes the disk to a new sparse file. */
  async export(namespace: string, name: string, path: string): Promise<void> {
    await this.#transport.request('POST', `${item(namespace, name)}/export`, { body: { path } });
  }

  /** Replaces what is on the disk by a raw ext4 image. */
  async import(namespace: string, name: string, request: ImportVolumeRequest): Promise<void> {
    await this.#transport.request('POST', `${item(namespace, name)}/import`, { body: request });
  }

  /** Makes another Volume with the same content. */
  async clone(namespace: string, name: string, request: CloneVolumeRequest): Promise<StoredObject> {
    const path = `${item(namespace, name)}/clone`;
    return (await this.#transport.request<StoredObject>('POST', path, { body: request })).body;
  }
}
