// Who may start on this host: memory is given to sandboxes as a ledger, beside a look at what is free just now; disks are sparse,
// so that what is free of their file system decides. What does not fit waits.
import type { ErrorCode } from '../../api/errors.ts';

const MEBIBYTE = 1024 * 1024;
/** Left for the host itself and the daemon: VMs that start take their memory only little by little. */
const MEMORY_KEPT_BYTES = 256 * MEBIBYTE;
/** Of a small host, at most so much of all memory. */
const MEMORY_KEPT_RATIO = 0.05;
/** What a new root file system takes at once, with the first writes of its guest: a few MiB. */
const NEW_ROOT_BYTES = 16 * MEBIBYTE;

/** Of the host, as it is now. */
export interface HostRoom {
  memory(): Promise<{ totalBytes: number; availableBytes: number }>;
  /** Of the file system with the disks of sandboxes. `keptBytes`: nothing new begins when less than that would be left. */
  disk(): Promise<{ availableBytes: number; keptBytes: number }>;
}

export interface RoomOptions {
  host: HostRoom;
  /** Memory that may be given away, as a multiple of what the host has. */
  memoryOvercommit: number;
  /** Memory of VMs that an earlier daemon may have left running, by uid of the sandbox. Asked for once. */
  formerly: () => Promise<ReadonlyMap<string, number>>;
}

/** Why a sandbox waits. */
export interface RoomProblem {
  code: Extract<ErrorCode, 'INSUFFICIENT_MEMORY' | 'INSUFFICIENT_DISK'>;
  message: string;
}

export class Room {
  readonly #options: RoomOptions;
  readonly #given = new Map<string, number>();
  readonly #listeners = new Set<() => void>();
  #formerly: Promise<void> | undefined;

  constructor(options: RoomOptions) {
    this.#options = options;
  }

  /** Was the sandbox given exactly so much? */
  has(uid: string, memoryBytes: number): boolean {
    return this.#given.get(uid) === memoryBytes;
  }

  /** A VM that runs has its memory, whether or not it would be given now. */
  note(uid: string, memoryBytes: number): void {
    this.#given.set(uid, memoryBytes);
  }

  /**
   * Gives a sandbox its memory in place of what it had, or says why not; then it has none, as what waits for more must not keep
   * others from what it had. `hasRoot`: its root file system is there already.
   */
  async take(uid: string, memoryBytes: number, hasRoot: boolean): Promise<RoomProblem | undefined> {
    const { host } = this.#options;
    this.#formerly ??= this.#noteFormer();
    await this.#formerly.catch((error: unknown) => {
      this.#formerly = undefined;
      throw error;
    });
    const [memory, disk] = await Promise.all([host.memory(), host.disk()]);
    // From here to the entry in the ledger without a pause: two that ask at once are not both given the last of it.
    const problem = this.#lacksMemory(uid, memoryBytes, memory) ?? lacksDisk(hasRoot, disk);
    if (problem === undefined) this.#given.set(uid, memoryBytes);
    else this.release(uid);
    return problem;
  }

  /** The sandbox has no VM and is not about to start one. */
  release(uid: string): void {
    if (!this.#given.delete(uid)) return;
    for (const listener of this.#listeners) listener();
  }

  /** Calls back when there may be more room. Returns what ends it. */
  onRelease(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async #noteFormer(): Promise<void> {
    for (const [uid, bytes] of await this.#options.formerly())
      if (!this.#given.has(uid)) this.#given.set(uid, bytes);
  }

  #lacksMemory(
    uid: string,
    memoryBytes: number,
    { totalBytes, availableBytes }: { totalBytes: number; availableBytes: number },
  ): RoomProblem | undefined {
    const { memoryOvercommit } = this.#options;
    let given = 0;
    for (const [each, bytes] of this.#given) if (each !== uid) given += bytes;
    const allowed = totalBytes * memoryOvercommit;
    if (given + memoryBytes > allowed)
      return {
        code: 'INSUFFICIENT_MEMORY',
        message: `resources.memory asks for ${mebi(memoryBytes)}; sandboxes of this host have ${mebi(given)} of the ${mebi(allowed)} that may be given.`,
      };
    const kept = Math.min(MEMORY_KEPT_BYTES, totalBytes * MEMORY_KEPT_RATIO);
    const needed = memoryBytes / Math.max(1, memoryOvercommit);
    return needed > availableBytes - kept
      ? {
          code: 'INSUFFICIENT_MEMORY',
          message: `resources.memory asks for ${mebi(memoryBytes)}; this host has ${mebi(availableBytes)} free, of which ${mebi(kept)} are kept.`,
        }
      : undefined;
  }
}

function lacksDisk(
  hasRoot: boolean,
  { availableBytes, keptBytes }: { availableBytes: number; keptBytes: number },
): RoomProblem | undefined {
  const needed = hasRoot ? 0 : NEW_ROOT_BYTES;
  return availableBytes - needed < keptBytes
    ? {
        code: 'INSUFFICIENT_DISK',
        message: `The disk with the sandboxes has ${mebi(availableBytes)} free, of which ${mebi(keptBytes)} are kept for the sandboxes that run.`,
      }
    : undefined;
}

function mebi(bytes: number): string {
  return `${Math.floor(bytes / MEBIBYTE)}Mi`;
}
