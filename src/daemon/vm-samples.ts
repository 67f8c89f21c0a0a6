// The host's figures of every VM that runs, read at each scrape.
import type { VmFigures } from '../api/wire.ts';
import { timely } from './timely.ts';

/** All VMs together. Reading one is a few small files of /proc; VMs that take longer keep their former figures. */
const SAMPLE_TIMEOUT_MS = 1_000;
/** VMs read at the same time; each takes five files, and Node reads four at once. */
const READERS = 16;

export interface Measured {
  uid: string;
  handle: { stats(): Promise<VmFigures> };
}

export class VmSamples {
  /** Last figures by uid, oldest first. Those of VMs that are gone are dropped at the next scrape. */
  readonly #last = new Map<string, VmFigures>();
  /** Readings that hang: none is begun again before it ends, so that hung VMs cannot pile up work. */
  readonly #underWay = new Set<string>();

  get(uid: string): VmFigures | undefined {
    return this.#last.get(uid);
  }

  /** Reads all. A figure that cannot be read is as it was, never 0: a counter that falls looks like a new one. */
  async read(live: readonly Measured[]): Promise<void> {
    const uids = new Set(live.map(({ uid }) => uid));
    for (const uid of this.#last.keys()) if (!uids.has(uid)) this.#last.delete(uid);
    const age = new Map([...this.#last.keys()].map((uid, index) => [uid, index]));
    // The oldest figures are read first, from the end: where the time does not suffice, all have their turn.
    const queue = live
      .filter(({ uid }) => !this.#underWay.has(uid))
      .sort((a, b) => (age.get(b.uid) ?? -1) - (age.get(a.uid) ?? -1));
    let late = false;
    const reader = async (): Promise<void> => {
      for (let next = queue.pop(); next !== undefined && !late; next = queue.pop()) await this.#readOne(next);
    };
    await timely(Promise.all(Array.from({ length: READERS }, reader)), SAMPLE_TIMEOUT_MS);
    late = true;
  }

  async #readOne({ uid, handle }: Measured): Promise<void> {
    this.#underWay.add(uid);
    try {
      const figures = await handle.stats();
      this.#last.delete(uid);
      this.#last.set(uid, figures);
    } catch {
      // The VM ended meanwhile, or its files cannot be read now.
    } finally {
      this.#underWay.delete(uid);
    }
  }
}
