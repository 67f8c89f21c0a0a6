// The Volume kind: a disk of a fixed size that outlives the sandboxes that mount it.
import { type Static, Type } from 'typebox';
import type { StoredObject } from './meta.ts';
import {
  choice,
  conditionList,
  integer,
  list,
  object,
  SAFE_INTEGER_MAX,
  SIZE_LENGTH_MAX,
  size,
  text,
} from './schema.ts';

export const VolumeSpecSchema = object(
  {
    capacity: size({
      description: 'Size of the disk, a hard quota for what is in it. Grows, never shrinks.',
      minimum: '16Mi',
      maximum: '16Ti',
      of: 'capacity',
    }),
    accessMode: Type.Optional(
      choice(['ReadWriteOnce', 'ReadOnlyMany'], {
        description: 'One sandbox that writes, or many that read.',
        default: 'ReadWriteOnce',
      }),
    ),
    reclaimPolicy: Type.Optional(
      choice(['Retain', 'Delete'], {
        description: 'What happens to the disk when this object is deleted: it is kept, or deleted too.',
        default: 'Retain',
      }),
    ),
  },
  {
    description: 'What is asked for.',
    rules: [
      {
        rule: 'quantity(self.capacity).compareTo(quantity(oldSelf.capacity)) >= 0',
        message: 'capacity cannot shrink; keep the size or grow it, or create another Volume',
        fieldPath: '.capacity',
      },
    ],
  },
);

export const VolumeStatusSchema = object(
  {
    observedGeneration: Type.Optional(
      integer({
        description: 'Generation of the spec that this status speaks of.',
        minimum: 0,
        maximum: SAFE_INTEGER_MAX,
      }),
    ),
    phase: Type.Optional(
      choice(['Pending', 'Bound', 'Failed'], {
        description: 'Summary for people; programs read the conditions.',
      }),
    ),
    capacity: Type.Optional(text({ description: 'Size the disk has now.', maxLength: SIZE_LENGTH_MAX })),
    usedBytes: Type.Optional(
      integer({ description: 'Space in use, as last measured.', minimum: 0, maximum: SAFE_INTEGER_MAX }),
    ),
    mountedBy: Type.Optional(
      list(text({ description: 'namespace/name of a Sandbox.', maxLength: 320 }), {
        description: 'Sandboxes that have it mounted; the first ones where there are many.',
        maxItems: 64,
      }),
    ),
    conditions: Type.Optional(conditionList('What is observed of this volume.')),
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
