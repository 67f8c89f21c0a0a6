// The folder source: keeps the store at what the YAML in a directory says.
import { realpath } from 'node:fs/promises';
import { dirname, isAbsolute, join, resolve, sep } from 'node:path';
import { BulkheadError } from '../api/errors.ts';
import { type Clock, systemClock } from '../controller/clock.ts';
import type { Store } from '../store/store.ts';
import { type CopyKeeper, NO_COPIES } from './copies.ts';
import type { ParseFile } from './documents.ts';
import { FolderSync, type PassOutcome } from './folder-sync.ts';
import { type InventoryFile, inventoryFile } from './inventory.ts';
import { keyText } from './model.ts';
import { parseManifests } from './parse.ts';
import { SOURCE_KINDS } from './plan.ts';
import type { SourceLog } from './problem-reporter.ts';
import { PRUNE_OPTIONS, type PruneOptions } from './prune.ts';
import { SNAPSHOT_LIMITS, type SnapshotLimits } from './snapshot.ts';
import { nodeFs, type SnapshotFs } from './snapshot-fs.ts';
import type { SourceStatus } from './status.ts';
import { StoreWatch } from './store-watch.ts';
import { type FolderWatch, watchFolder } from './watch.ts';

/** Name of the inventory in the state directory. */
const INVENTORY_NAME = 'folder-inventory';

export interface SourceTiming {
  /** Quiet time after a hint before the pass: an editor's save is several steps. */
  debounceMs: number;
  /** A folder that never gets quiet is read after this long all the same. */
  maxDebounceMs: number;
  /** A pass without any hint, plus or minus a tenth at random, so that many daemons on one share do not march in step. */
  resyncMs: number;
  /** After a pass that failed; doubles up to the resync. */
  retryMs: number;
}

export const SOURCE_TIMING: SourceTiming = {
  debounceMs: 150,
  maxDebounceMs: 1_000,
  resyncMs: 60_000,
  retryMs: 1_000,
};

export interface FolderSourceOptions {
  /** The watched directory; may be a link, and may not exist yet. Relative to the working directory. */
  root: string;
  store: Store;
  /** What the folder may declare; all kinds by default. */
  kinds?: readonly string[];
  /** Where the inventory is kept. Must not lie in `root`. */
  stateDir: string;
  log: SourceLog;
  /** Look into subdirectories; true by default. */
  recursive?: boolean;
  /** One broken document stops every change; false by default. */
  strict?: boolean;
  prune?: Partial<PruneOptions>;
  timing?: Partial<SourceTiming>;
  limits?: Partial<SnapshotLimits>;
  clock?: Clock;
  /** From 0 to 1; Math.random by default. */
  random?: () => number;
  fs?: SnapshotFs;
  inventory?: InventoryFile;
  /** Keeps what patches copy; nowhere when absent. */
  copies?: CopyKeeper;
  parse?: ParseFile;
}

/** Runs passes over one folder: when something hints at a change, when a wait is over, and every minute anyway. */
export class FolderSource {
  readonly #root: string;
  readonly #stateDir: string;
  readonly #timing: SourceTiming;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #log: SourceLog;
  readonly #sync: FolderSync;
  readonly #folderWatch: FolderWatch;
  readonly #storeWatch: StoreWatch;
  readonly #stopped = new AbortController();
  /** The pass under way, and whether another must follow it. */
  #passing: Promise<void> | undefined;
  #again = false;
  #cancelTimer: () => void = () => {};
  #cancelDebounce: () => void = () => {};
  #hintedSince: number | undefined;
  #failures = 0;

  constructor(options: FolderSourceOptions) {
    this.#root = resolve(options.root);
    this.#stateDir = resolve(options.stateDir);
    this.#timing = { ...SOURCE_TIMING, ...options.timing };
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#log = options.log;
    const limits = { ...SNAPSHOT_LIMITS, ...options.limits };
    const clock = this.#clock;
    this.#sync = new FolderSync({
      root: this.#root,
      store: options.store,
      kinds: options.kinds ?? SOURCE_KINDS,
      inventory:
        options.inventory ?? inventoryFile(join(this.#stateDir, INVENTORY_NAME), () => String(clock.now())),
      log: options.log,
      clock,
      parse: options.parse ?? parseManifests,
      copies: options.copies ?? NO_COPIES,
      snapshot: { fs: options.fs ?? nodeFs, limits, recursive: options.recursive ?? true },
      strict: options.strict ?? false,
      prune: { ...PRUNE_OPTIONS, ...options.prune },
    });
    const onHint = (): void => this.hint();
    this.#storeWatch = new StoreWatch(options.store, onHint);
    this.#folderWatch = watchFolder({
      root: this.#root,
      maxDepth: limits.maxDepth,
      onHint,
      onError: (error) =>
        this.#log.warn({ err: error }, 'Watching the folder fails; it is read every minute.'),
    });
  }

  /** Resolves after the first pass. Throws BAD_REQUEST when the state directory lies in the folder. */
  async start(): Promise<void> {
    await this.#refuseStateInRoot();
    await this.sync();
  }

  /** Ends the pass under way at its next step, and all watching. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#cancelTimer();
    this.#cancelDebounce();
    await Promise.all([this.#folderWatch.close(), this.#storeWatch.close(), this.#passing]);
  }

  status(): SourceStatus {
    return this.#sync.status();
  }

  /** Something may have changed: a pass follows soon. */
  hint(): void {
    if (this.#stopped.signal.aborted) return;
    const now = this.#clock.monotonic();
    this.#hintedSince ??= now;
    const { debounceMs, maxDebounceMs } = this.#timing;
    const wait = Math.max(1, Math.min(debounceMs, this.#hintedSince + maxDebounceMs - now));
    this.#cancelDebounce();
    this.#cancelDebounce = this.#clock.after(wait, () => void this.sync());
  }

  /** A pass that begins after this call; resolves when it has ended. Never throws. */
  async sync(): Promise<void> {
    if (this.#passing !== undefined) {
      this.#again = true;
      return this.#passing;
    }
    this.#passing = this.#passes();
    try {
      await this.#passing;
    } finally {
      this.#passing = undefined;
    }
  }

  async #passes(): Promise<void> {
    do {
      this.#again = false;
      this.#hintedSince = undefined;
      this.#cancelDebounce();
      this.#cancelTimer();
      if (this.#stopped.signal.aborted) return;
      const outcome = await this.#sync.run(this.#stopped.signal);
      await this.#watchFolder();
      this.#watchStore(outcome);
      this.#schedule(outcome);
    } while (this.#again);
  }

  async #watchFolder(): Promise<void> {
    try {
      await this.#folderWatch.rearm(this.#sync.folderRead);
    } catch (error) {
      this.#log.warn({ err: error }, 'Watching the folder fails; it is read every minute.');
    }
  }

  #watchStore({ observed }: PassOutcome): void {
    if (observed === undefined) return;
    const { reports } = this.#sync.status();
    this.#storeWatch.observe(observed, new Set(reports.map(({ key }) => keyText(key))));
  }

  #schedule({ retry, checkAfterMs }: PassOutcome): void {
    const { resyncMs, retryMs } = this.#timing;
    this.#failures = retry ? this.#failures + 1 : 0;
    const jitter = 0.9 + 0.2 * this.#random();
    const waits = [resyncMs * jitter];
    if (retry) waits.push(Math.min(resyncMs, retryMs * 2 ** (this.#failures - 1)) * jitter);
    if (checkAfterMs !== undefined) waits.push(checkAfterMs);
    if (this.#stopped.signal.aborted) return;
    this.#cancelTimer();
    // A whole millisecond up: a wait that ends a fraction early finds nothing due.
    this.#cancelTimer = this.#clock.after(Math.ceil(Math.min(...waits)), () => void this.sync());
  }

  /** A pass that reads its own inventory, or objects written there by others, would chase its tail. */
  async #refuseStateInRoot(): Promise<void> {
    const [root, state] = await Promise.all([realOrSelf(this.#root), realOrSelf(this.#stateDir)]);
    if (state === root || state.startsWith(root + sep)) {
      throw new BulkheadError(
        'BAD_REQUEST',
        `The state directory ${state} must not lie in the folder ${root}.`,
      );
    }
  }
}

/** The real path, as far as it exists. */
async function realOrSelf(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch {
    const parent = dirname(path);
    return parent === path || !isAbsolute(path)
      ? path
      : join(await realOrSelf(parent), path.slice(parent.length));
  }
}
