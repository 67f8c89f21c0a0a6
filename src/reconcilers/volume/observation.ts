// What one reconcile of a Volume sees.
import type { BulkheadError, ErrorCode } from '../../api/errors.ts';
import type { DefaultedVolume } from '../../api/volume.ts';
import type { VolumeDisk, VolumeUsage } from '../../volumes/volumes.ts';

/** Effects that take longer than a reconcile should; one at a time for each volume. */
export type TaskKind = 'create' | 'take-up' | 'check' | 'grow' | 'reclaim';

/** How the last attempt of a task failed. */
export interface TaskFailure {
  task: TaskKind;
  code: ErrorCode;
  reason: string;
  message: string;
  terminal: boolean;
  attempts: number;
  retryInMs: number;
}

export interface Observation {
  object: DefaultedVolume;
  /** The disk of this object; absent until it is whole. */
  disk?: VolumeDisk;
  /** As the guest that writes to it told it last. */
  liveUsage?: VolumeUsage;
  /** It can grow in the VM that has it. */
  growsAttached: boolean;
  /** A disk that was kept for an object of this name. */
  retainedUid?: string;
  /** Why the disk could not be looked at. */
  unavailable?: BulkheadError;
  /** Something of this object is on the host. */
  held: boolean;
  /** What `spec.capacity` asks for, in whole blocks of a disk. */
  wantedBytes: number;
  task?: TaskKind;
  failure?: TaskFailure;
  /** Unix milliseconds. */
  now: number;
}

/** uid of the sandbox whose VM has the disk, of the one that writes where there are several. */
export function attachedTo(disk: VolumeDisk | undefined): string | undefined {
  const attached = (disk?.claims ?? []).filter(({ resting }) => resting !== true);
  return (attached.find(({ mode }) => mode === 'ReadWrite') ?? attached[0])?.sandbox;
}
