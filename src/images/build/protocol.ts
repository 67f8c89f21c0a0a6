// Messages between the cache and the thread that writes a disk.

import type { ErrorCode } from '../../api/errors.ts';
import type { BuildInput, BuiltDisk, LayerSource } from './build-disk.ts';

/** `workerData` of the thread. */
export type WorkerInput = BuildInput;

/** To the thread: a layer is on the disk and may be read. */
export interface LayerReady {
  index: number;
  source: LayerSource;
}

/** From the thread. */
export type WorkerReport =
  | { type: 'bytes'; bytes: number }
  | { type: 'done'; disk: BuiltDisk }
  | { type: 'failed'; code: ErrorCode; message: string };
