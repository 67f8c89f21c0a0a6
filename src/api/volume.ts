// The Volume kind: a disk of a fixed size that outlives the sandboxes that mount it.
import { type Static, Type } from 'typebox';
import type { StoredObject } from './meta.ts';
import { HANDLED_RECONCILE_MAX } from './sandbox-status.ts';
import {
  choice,
  conditionList,
  integer,
  list,
  object,
  observedGeneration,
  SAFE_INTEGER_MAX,
  SIZE_LENGTH_MAX,
  size,
  text,
  time,
} from './schema.ts';

const count = (description: string) => integer({ description, minimum: 0, maximum: SAFE_INTEGER_MAX });

export const VolumeSpecSchema = object(
  {
    capacity: size({
      description:
        'Size of the disk, a hard quota for what is in it and for the bookkeeping of its file system. Takes space on the host only as it is written. Grows, never shrinks.',
      // Below 64Mi journal and tables leave little; files on an ext4 host end just below 16Ti.
      minimum: '64Mi',
      maximum: '15Ti',
      of: 'capacity',
    }),
    accessMode: Type.Optional(
      choice(['ReadWriteOnce', 'ReadOnlyMany'], {
        description:
          'ReadWriteOnce: one sandbox at a time has it, and may write. ReadOnlyMany: any number have it, and only read.',
        default: 'ReadWriteOnce',
      }),
    ),
    reclaimPolicy: Type.Optional(
      choice(['Retain', 'Delete'], {
        description:
          'What happens to the disk when this object is deleted. Retain: it is kept, and the next Volume of the same namespace and name takes it up. Delete: it goes, with what is on it.',
        default: 'Retain',
      }),
    ),
  },
  {
    description: 'What is asked for.',
    rules: [
      {
        rule: '!isQuantity(self.capacity) || quantity(self.capacity).compareTo(quantity(oldSelf.capacity)) >= 0',
        message: 'capacity cannot shrink; keep the size or grow it, or create another Volume',
        fieldPath: '.capacity',
      },
    ],
  },
);

export const VolumeStatusSchema = object(
  {
    observedGeneration: Type.Optional(observedGeneration()),
    phase: Type.Optional(
      choice(['Pending', 'Bound', 'Failed'], {
        description: 'Summary for people; programs read the conditions.',
      }),
    ),
    nodeName: Type.Optional(text({ description: 'Node that has the disk, in a cluster.', maxLength: 253 })),
    capacity: Type.Optional(text({ description: 'Size the disk has now.', maxLength: SIZE_LENGTH_MAX })),
    usedBytes: Type.Optional(count('Space that files use, as `df` says it.')),
    availableBytes: Type.Optional(count('Space that files can still use.')),
    inodes: Type.Optional(count('How many files and folders the file system has room for.')),
    inodesUsed: Type.Optional(count('How many of them are in use; 11 belong to the file system itself.')),
    diskBytes: Type.Optional(count('What the disk takes on the host.')),
    measuredAt: Type.Optional(
      time(
        'When the figures above were last measured and had changed. They are while no sandbox writes to the volume.',
      ),
    ),
    mountedBy: Type.Optional(
      list(text({ description: 'namespace/name of a Sandbox.', maxLength: 320 }), {
        description: 'Sandboxes that have it mounted; the first ones where there are many.',
        maxItems: 64,
      }),
    ),
    conditions: Type.Optional(conditionList('What is observed of this volume.')),
    lastHandledReconcileAt: Type.Optional(
      text({
        description: 'Value of the annotation bulkhead.dev/requestedAt that was last acted on.',
        maxLength: HANDLED_RECONCILE_MAX,
      }),
    ),
  },
  { description: 'What is observed. Written by the controller.' },
);

export const VolumeSchema = object(
  { spec: VolumeSpecSchema, status: Type.Optional(VolumeStatusSchema) },
  { description: 'A disk that outlives the sandboxes that mount it.' },
);

export type VolumeSpec = Static<typeof VolumeSpecSchema>;
export type VolumeStatus = Static<typeof VolumeStatusSchema>;
export type Volume = StoredObject<VolumeSpec, VolumeStatus>;
/** A Volume as the store holds it: every default is filled in. */
export type DefaultedVolume = StoredObject<Required<VolumeSpec>, VolumeStatus>;
