// What this host has free, for those that decide who may start and what may be fetched.
import { statfs } from 'node:fs/promises';
import { freemem, totalmem } from 'node:os';
import type { HostRoom } from '../reconcilers/sandbox/room.ts';

/** Unless the operator says otherwise: enough for the guests that run to end what they write. */
const MIN_FREE_BYTES = 1024 ** 3;
/** Of a small file system, at most so much of it. */
const MIN_FREE_RATIO = 0.05;
/** Images and copies are what can best be waited for, so that they stop first. */
const CAN_WAIT_STOPS_AT = 2;

export class HostFigures implements HostRoom {
  readonly #dir: string;
  readonly #minFreeBytes: number | undefined;

  /** `dir` is on the file system that counts. */
  constructor(dir: string, minFreeBytes: number | undefined) {
    this.#dir = dir;
    this.#minFreeBytes = minFreeBytes;
  }

  /** As the kernel estimates it: what caches can give back counts as available. */
  memory(): Promise<{ totalBytes: number; availableBytes: number }> {
    return Promise.resolve({ totalBytes: totalmem(), availableBytes: freemem() });
  }

  async disk(): Promise<{ availableBytes: number; keptBytes: number }> {
    const { bsize, blocks, bavail } = await statfs(this.#dir);
    const keptBytes = this.#minFreeBytes ?? Math.min(MIN_FREE_BYTES, blocks * bsize * MIN_FREE_RATIO);
    return { availableBytes: bavail * bsize, keptBytes };
  }

  /** What is to stay free when images are fetched and disks are copied. */
  async keptFromWhatCanWait(): Promise<number> {
    return CAN_WAIT_STOPS_AT * (await this.disk()).keptBytes;
  }
}
