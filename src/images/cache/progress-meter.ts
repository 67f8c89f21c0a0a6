// Bytes and layers of one pull or load, reported at a bounded rate.

import type { ImageProgress } from '../../api/wire.ts';
import type { ProgressListener } from './shared-jobs.ts';

/** A report per this share of the whole: smooth for a bar, and at most a few hundred calls per image. */
const STEPS = 200;

export class ProgressMeter {
  readonly #progress: ImageProgress;
  readonly #listener: ProgressListener;
  #reported = 0;

  constructor(
    phase: 'downloading' | 'writing',
    layersTotal: number,
    bytesTotal: number,
    listener: ProgressListener,
  ) {
    this.#progress = { phase, layersDone: 0, layersTotal, bytesDone: 0, bytesTotal };
    this.#listener = listener;
    this.#report();
  }

  /** Counts bytes; negative when a transfer starts again. */
  add(bytes: number): void {
    this.#progress.bytesDone += bytes;
    const since = this.#progress.bytesDone - this.#reported;
    if (Math.abs(since) * STEPS >= this.#progress.bytesTotal) this.#report();
  }

  layerDone(): void {
    this.#progress.layersDone++;
    if (this.#progress.layersDone === this.#progress.layersTotal) this.#progress.phase = 'writing';
    this.#report();
  }

  finish(): void {
    const { layersTotal, bytesTotal } = this.#progress;
    Object.assign(this.#progress, { phase: 'done', layersDone: layersTotal, bytesDone: bytesTotal });
    this.#report();
  }

  #report(): void {
    this.#reported = this.#progress.bytesDone;
    this.#listener({ ...this.#progress });
  }
}
