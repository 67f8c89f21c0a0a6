// Volumes of a guest as messages to its agent.
import { createHash } from 'node:crypto';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { GuestVolume, GuestVolumeFile, GuestVolumeMount } from './agent.ts';
import type { MountVolumesSchema, VolumeSchema, WriteVolumeFilesSchema } from './generated/agent_pb.js';
import { VOLUME_FILE_ENVELOPE_BYTES, VOLUME_FILES_MESSAGE_BYTES } from './limits.ts';

/** Of the virtiofs in which drivers give a VM its shares. */
export const SHARES_TAG = 'bulkhead';

type VolumeSourceShape = NonNullable<
  Exclude<MessageInitShape<typeof VolumeSchema>, { $typeName: string }>['source']
>;

export function toMountVolumes(
  volumes: readonly GuestVolume[],
  mounts: readonly GuestVolumeMount[],
): MessageInitShape<typeof MountVolumesSchema> {
  return {
    volumes: volumes.map(({ name, source }) => ({ name, source: toVolumeSource(source) })),
    mounts: mounts.map(({ volume, mountPath, subPath = '', readOnly }) => ({
      ...{ volume, mountPath, subPath, readOnly },
    })),
  };
}

function toVolumeSource(source: GuestVolume['source']): VolumeSourceShape {
  switch (source.kind) {
    case 'disk':
      return { case: 'disk', value: { device: source.device, readOnly: source.readOnly } };
    case 'memory':
      return { case: 'memory', value: { sizeBytes: BigInt(source.sizeBytes) } };
    case 'files':
      return { case: 'files', value: {} };
    case 'share':
      return {
        case: 'share',
        value: { tag: SHARES_TAG, entry: source.entry, readOnly: source.readOnly },
      };
  }
}

/** Changes with every change of a path, a mode or a content. */
function revisionOf(files: readonly GuestVolumeFile[]): string {
  const hash = createHash('sha256');
  for (const { path, mode, content } of files) {
    hash.update(JSON.stringify([path, mode, content.length]));
    hash.update(content);
  }
  return hash.digest('hex').slice(0, 32);
}

/** The files as one revision, in as many messages as their size takes; a large content is cut. */
export function toVolumeFiles(
  volume: string,
  files: readonly GuestVolumeFile[],
): MessageInitShape<typeof WriteVolumeFilesSchema>[] {
  const revision = revisionOf(files);
  const messages: GuestVolumeFile[][] = [[]];
  let room = VOLUME_FILES_MESSAGE_BYTES;
  for (const { path, mode, content } of files) {
    const around = VOLUME_FILE_ENVELOPE_BYTES + Buffer.byteLength(path);
    let at = 0;
    do {
      if (room <= around) {
        messages.push([]);
        room = VOLUME_FILES_MESSAGE_BYTES;
      }
      const part = content.subarray(at, at + room - around);
      messages.at(-1)?.push({ path, mode, content: part });
      at += part.length;
      room -= around + part.length;
    } while (at < content.length);
  }
  return messages.map((part, index) => ({
    ...{ volume, revision, files: part, first: index === 0, last: index === messages.length - 1 },
  }));
}
