// What the Volume reconciler is given from outside.
import type { Clock } from '../../controller/clock.ts';
import type { Log } from '../../controller/log.ts';
import type { Enqueuer } from '../../controller/reconciler.ts';
import type { Store } from '../../store/store.ts';
import type { VolumeCheck, Volumes } from '../../volumes/volumes.ts';
import type { VolumeEventRecorder } from './recorder.ts';

/** Figures that the metrics want as they happen. */
export interface VolumeMetrics {
  checked(result: VolumeCheck['result'] | 'Damaged'): void;
  quotaExceeded(): void;
}

export interface VolumeReconcilerDeps {
  store: Store;
  volumes: Volumes;
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
