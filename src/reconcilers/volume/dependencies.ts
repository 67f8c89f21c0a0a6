// What the Volume reconciler is given from outside.
import type { Clock } from '../../controller/clock.ts';
import type { Log } from '../../controller/log.ts';
import type { Enqueuer } from '../../controller/reconciler.ts';
import type { Store } from '../../store/store.ts';
import type { VolumeCheck, Volumes, VolumeUsage } from '../../volumes/volumes.ts';
import type { VolumeEventRecorder } from './recorder.ts';

/** Figures that the metrics want as they happen. */
export interface VolumeMetrics {
  checked(result: VolumeCheck['result'] | 'Damaged'): void;
  quotaExceeded(): void;
}

/** What the VM of a sandbox tells and does about a disk that it writes to. */
export interface AttachedDisks {
  /** As its guest told it last; absent until it has. */
  usage(volumeUid: string, sandboxUid: string): VolumeUsage | undefined;
  /** Can the disk grow while the VM has it? */
  canGrow(volumeUid: string, sandboxUid: string): boolean;
  /** Makes disk and file system larger where they are. */
  grow(volumeUid: string, sandboxUid: string, sizeBytes: number, signal: AbortSignal): Promise<void>;
}

export interface VolumeReconcilerDeps {
  store: Store;
  volumes: Volumes;
  attached: AttachedDisks;
  enqueuer: Enqueuer;
  recorder: VolumeEventRecorder;
  metrics: VolumeMetrics;
  log: Log;
  clock: Clock;
  /** Has this host anything left of a sandbox? Only without it, and without its object, its claims end by themselves. */
  holdsSandbox(uid: string): Promise<boolean>;
  /** 0 to 1; for jitter. */
  random: () => number;
}
