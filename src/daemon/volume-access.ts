// The server's way from a Volume's name to its disk.
import { BulkheadError } from '../api/errors.ts';
import type { ObjectManifest } from '../api/meta.ts';
import { formatQuantity } from '../api/quantity.ts';
import type { DefaultedVolume } from '../api/volume.ts';
import type { VolumeDiskInfo } from '../api/wire.ts';
import type { ObjectRules, VolumeAccess } from '../server/contracts.ts';
import type { Store } from '../store/store.ts';
import type { VolumeDisk, Volumes } from '../volumes/volumes.ts';

export function volumeAccess(
  store: Store,
  volumes: Volumes,
  rules: Pick<ObjectRules, 'admit'>,
): VolumeAccess {
  const find = async (namespace: string, name: string): Promise<DefaultedVolume> => {
    const object = await store.get({ kind: 'Volume', namespace, name });
    if (object === undefined) throw new BulkheadError('NOT_FOUND', `volumes "${name}" not found`);
    return object as DefaultedVolume;
  };
  const uidOf = async (namespace: string, name: string): Promise<string> =>
    (await find(namespace, name)).metadata.uid;
  return {
    async list() {
      return (await volumes.list()).map(infoOf);
    },
    async exportTo(namespace, name, path) {
      await volumes.exportTo(await uidOf(namespace, name), path);
    },
    async importFrom(namespace, name, path, overwrite, signal) {
      await volumes.importFrom(await uidOf(namespace, name), path, overwrite, signal);
    },
    async clone(namespace, name, target) {
      const source = await find(namespace, name);
      const { uid } = source.metadata;
      if ((await store.get({ kind: 'Volume', namespace, name: target.name })) !== undefined)
        throw new BulkheadError('ALREADY_EXISTS', `volumes "${target.name}" already exists`);
      const disk = await volumes.inspect(uid);
      if (disk === undefined)
        throw new BulkheadError('VOLUME_NOT_READY', `The volume "${name}" has no disk yet.`);
      const accessMode = target.accessMode ?? source.spec.accessMode;
      const manifest: ObjectManifest = rules.admit({
        apiVersion: source.apiVersion,
        kind: source.kind,
        metadata: { namespace, name: target.name },
        spec: { ...source.spec, accessMode, capacity: formatQuantity(disk.sizeBytes) },
      });
      // Whatever ends this between the two, the copy waits for an object of its name.
      await volumes.copy(uid, { namespace, name: target.name }, accessMode);
      return store.create(manifest);
    },
  };
}

function infoOf(disk: VolumeDisk): VolumeDiskInfo {
  const { uid, namespace, name, accessMode, sizeBytes, claims, usage, retainedAt, state, busy } = disk;
  return {
    uid,
    namespace,
    name,
    state: retainedAt !== undefined ? 'Retained' : claims.length > 0 ? 'InUse' : 'Available',
    unclean: state === 'Unclean',
    accessMode,
    capacityBytes: sizeBytes,
    users: claims.map((claim) => claim.name),
    ...usage,
    ...(retainedAt === undefined ? {} : { retainedAt }),
    ...(busy === undefined ? {} : { busy }),
  };
}
