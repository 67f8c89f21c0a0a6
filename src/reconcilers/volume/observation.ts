// What one reconcile of a Volume sees.
import type { BulkheadError, ErrorCode } from '../../api/errors.ts';
import type { DefaultedVolume } from '../../api/volume.ts';
import type { VolumeDisk } from '../../volumes/volumes.ts';

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
