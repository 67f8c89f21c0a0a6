// Volumes of the server's tests: one disk, and a list of what was asked.
import { BulkheadError } from '../../api/errors.ts';
import { GROUP_VERSION, type StoredObject } from '../../api/meta.ts';
import type { VolumeDiskInfo } from '../../api/wire.ts';
import type { VolumeAccess } from '../contracts.ts';

export class FakeVolumeAccess implements VolumeAccess {
  readonly asked: unknown[][] = [];

  async list(): Promise<VolumeDiskInfo[]> {
    const uid = '00000000-0000-4000-8000-000000000001';
    const disk = { uid, namespace: 'default', name: 'data', accessMode: 'ReadWriteOnce' } as const;
    return [{ ...disk, state: 'Available', unclean: false, capacityBytes: 67_108_864, users: [] }];
  }

  async exportTo(namespace: string, name: string, path: string): Promise<void> {
    this.asked.push(['export', namespace, name, path]);
    if (name === 'busy')
      throw new BulkheadError('VOLUME_IN_USE', 'The volume is in use by sandbox default/a.');
  }

  async importFrom(namespace: string, name: string, path: string, overwrite: boolean): Promise<void> {
    this.asked.push(['import', namespace, name, path, overwrite]);
  }

  async clone(namespace: string, name: string, target: { name: string }): Promise<StoredObject> {
    this.asked.push(['clone', namespace, name, target]);
    const metadata = { name: target.name, namespace, uid: 'u', resourceVersion: '1', generation: 1 };
    return {
      apiVersion: GROUP_VERSION,
      kind: 'Volume',
      metadata: { ...metadata, creationTimestamp: '2026-01-01T00:00:00Z' },
      spec: {},
    };
  }
}
