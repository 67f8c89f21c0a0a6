// One disk in memory: its record, what is done with it, and the order of both.
import { BulkheadError } from '../api/errors.ts';
import { type VolumeRecord, writeRecord } from './record.ts';

export class VolumeEntry {
  readonly dir: string;
  readonly #onChange: () => void;
  #record: VolumeRecord;
  #busy: string | undefined;
  #tail: Promise<unknown> = Promise.resolve();

  constructor(dir: string, record: VolumeRecord, onChange: () => void) {
    this.dir = dir;
    this.#record = record;
    this.#onChange = onChange;
  }

  get record(): VolumeRecord {
    return this.#record;
  }

  get busy(): string | undefined {
    return this.#busy;
  }

  /** Changes the record, on the disk before in memory; `change` sees the latest one and may refuse by throwing. */
  async update(change: (record: VolumeRecord) => VolumeRecord): Promise<void> {
    const changed = await this.#inTurn(async () => {
      const next = change(this.#record);
      if (next === this.#record) return false;
      await writeRecord(this.dir, next);
      this.#record = next;
      return true;
    });
    if (changed) this.#onChange();
  }

  /** Throws VOLUME_NOT_READY while something long is done with the disk. */
  refuseBusy(): void {
    if (this.#busy !== undefined) throw new BulkheadError('VOLUME_NOT_READY', `The volume is ${this.#busy}.`);
  }

  /** Does something long that nobody may come between; `admit` refuses by throwing. `what` is such as "being checked". */
  async occupy<T>(what: string, admit: (record: VolumeRecord) => void, work: () => Promise<T>): Promise<T> {
    await this.#inTurn(async () => {
      this.refuseBusy();
      admit(this.#record);
      this.#busy = what;
    });
    try {
      return await work();
    } finally {
      this.#busy = undefined;
      this.#onChange();
    }
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#tail.then(work);
    this.#tail = mine.catch(() => undefined);
    return mine;
  }
}
