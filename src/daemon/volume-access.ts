// The server's way from a Volume's name to its disk.
import { asBulkheadError, BulkheadError } from '../api/errors.ts';
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
      const objects = new Map(
        (await store.list('Volume')).items.map((item) => [item.metadata.uid, item as DefaultedVolume]),
      );
      return (await volumes.list()).map((disk) => infoOf(disk, objects.get(disk.uid)));
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
      const copy = await volumes.copy(uid, { namespace, name: target.name }, accessMode);
      try {
        return await store.create(manifest);
      } catch (error) {
        // Somebody else has the name, and must not find the copy there. After other failures the object may have been made.
        if (asBulkheadError(error).code === 'ALREADY_EXISTS') await volumes.remove(copy);
        throw error;
      }
    },
  };
}

/** Of a disk that a sandbox writes to the object knows what its guest told last. */
function infoOf(disk: VolumeDisk, object: DefaultedVolume | undefined): VolumeDiskInfo {
  const told = object?.status;
  const { uid, namespace, name, accessMode, sizeBytes, diskBytes, claims, usage, retainedAt, state, busy } =
    disk;
  return {
    uid,
    namespace,
    name,
    state: retainedAt !== undefined ? 'Retained' : claims.length > 0 ? 'InUse' : 'Available',
    unclean: state === 'Unclean',
    accessMode,
    capacityBytes: sizeBytes,
    users: claims.map((claim) => claim.name),
    diskBytes,
    ...(usage ?? pick(told, ['usedBytes', 'availableBytes', 'inodes', 'inodesUsed'])),
    ...(retainedAt === undefined ? {} : { retainedAt }),
    ...(busy === undefined ? {} : { busy }),
  };
}

function pick<T extends object, K extends keyof T>(
  from: T | undefined,
  names: readonly K[],
): Partial<Pick<T, K>> {
  const found: Partial<Pick<T, K>> = {};
  for (const name of names) if (from?.[name] !== undefined) found[name] = from[name];
  return found;
}
