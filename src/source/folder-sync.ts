// One pass after another over the folder: read, plan, record, write, report. What is kept between passes is the
// inventory (on disk too), how long deletions have been waited for, and what was said already.
import { BulkheadError } from '../api/errors.ts';
import type { ObjectManifest, StoredObject } from '../api/meta.ts';
import { formatFieldError } from '../api/validation/field-error.ts';
import { validateObject } from '../api/validation/validate.ts';
import type { Clock } from '../controller/clock.ts';
import type { Store } from '../store/store.ts';
import { type ActionResult, applyActions, rowsAfter } from './apply.ts';
import type { CopyKeeper } from './copies.ts';
import { FolderReader, type ParseFile } from './documents.ts';
import type { Inventory, InventoryFile, InventoryRow } from './inventory.ts';
import { keyText, OBJECT_STATES, type ObjectReport, type ObjectState, type SourceProblem } from './model.ts';
import { makePlan } from './plan.ts';
import type { Action, FolderReading, Plan } from './plan-parts.ts';
import { ProblemReporter, type SourceLog } from './problem-reporter.ts';
import { EMPTY_PRUNE_MEMORY, type PruneMemory, type PruneOptions } from './prune.ts';
import { type Snapshot, type SnapshotOptions, takeSnapshot } from './snapshot.ts';
import { MAX_PROBLEMS, type SourceStatus, type SyncResult } from './status.ts';

export interface FolderSyncOptions {
  /** Absolute, as configured. */
  root: string;
  store: Store;
  kinds: readonly string[];
  inventory: InventoryFile;
  log: SourceLog;
  clock: Clock;
  parse: ParseFile;
  copies: CopyKeeper;
  snapshot: SnapshotOptions;
  strict: boolean;
  prune: PruneOptions;
}

export interface PassOutcome {
  result: SyncResult;
  /** A deletion waits; look again after so long. */
  checkAfterMs?: number;
  /** Trying again without a change may help. */
  retry: boolean;
  /** Objects as the pass left them, by keyText, and the versions that the lists had; absent when it came not so far. */
  observed?: Observed;
}

export interface Observed {
  objects: ReadonlyMap<string, StoredObject>;
  /** By kind. */
  resourceVersions: ReadonlyMap<string, string>;
}

/** Keys named in one line of the log. */
const MAX_LOGGED_KEYS = 50;

/** Problems that are no fault of the folder's content. */
const BENIGN: ReadonlySet<string> = new Set(['SourcePruneHeld', 'SourceOrphaned']);

export class FolderSync {
  readonly #options: FolderSyncOptions;
  readonly #reader: FolderReader;
  readonly #reporter: ProblemReporter;
  #inventory: Inventory | undefined;
  /** What the disk holds. */
  #saved = '';
  #pruneMemory: PruneMemory = EMPTY_PRUNE_MEMORY;
  #problems: readonly SourceProblem[] = [];
  #reports: readonly ObjectReport[] = [];
  #available = false;
  #folderRead = false;
  #digest: string | undefined;
  #lastAttempt: Date | undefined;
  #lastSuccess: Date | undefined;
  readonly #syncs: Record<SyncResult, number> = { success: 0, partial: 0, error: 0 };

  constructor(options: FolderSyncOptions) {
    this.#options = options;
    this.#reader = new FolderReader(options.parse, options.copies);
    this.#reporter = new ProblemReporter(options.store, options.log, options.root);
  }

  /** One pass. Never throws: a failure is an outcome, and the next pass starts from what is there. */
  async run(signal: AbortSignal): Promise<PassOutcome> {
    this.#lastAttempt = new Date(this.#options.clock.now());
    let outcome: PassOutcome;
    try {
      outcome = await this.#pass(signal);
    } catch (error) {
      const message = `A pass over ${this.#options.root} failed: ${messageOf(error)}`;
      await this.#conclude([{ reason: 'SourceApplyFailed', message }], new Map());
      outcome = { result: 'error', retry: true };
    }
    this.#syncs[outcome.result]++;
    if (outcome.result === 'success') this.#lastSuccess = new Date(this.#options.clock.now());
    return outcome;
  }

  async #pass(signal: AbortSignal): Promise<PassOutcome> {
    const { root } = this.#options;
    const inventory = this.#inventory ?? (await this.#load());
    this.#inventory = inventory;
    const result = await takeSnapshot(root, this.#options.snapshot);
    this.#folderRead = result.type === 'read';
    if (result.type === 'unavailable') {
      this.#available = false;
      const message = `${result.message}; everything it declared before is kept.`;
      await this.#conclude([{ reason: 'SourceUnavailable', message }], new Map());
      return { result: 'error', retry: true };
    }
    const { snapshot } = result;
    const reading = await this.#reader.read(snapshot);
    const { objects, resourceVersions } = await this.#list();
    const plan = this.#plan(inventory, snapshot, reading, objects);
    const device = reading.documents.length > 0 ? snapshot.device : (inventory.device ?? snapshot.device);

    // Recorded before it is done: what a crash leaves half done is then still known to be ours.
    await this.#save({ rows: plan.rows, device });
    const results = await applyActions(plan.actions, { store: this.#options.store, root, signal });
    await this.#save({ rows: rowsAfter(plan.rows, results), device });

    this.#digest = snapshot.digest;
    const failures = failuresOf(results);
    const problems = [...plan.problems, ...failures.map(({ problem }) => problem)];
    this.#available = !problems.some(({ reason }) => reason === 'SourceUnavailable');
    this.#reports = withFailures(plan.reports, failures);
    noteResults(objects, results);
    await this.#conclude(problems, objects);
    this.#sayApplied(results);
    await this.#sayDrift(results);
    return {
      result: resultOf(problems, failures.length),
      retry: failures.some(({ error }) => !error.row.terminal || error.code === 'ALREADY_EXISTS'),
      ...(plan.checkAfterMs === undefined ? {} : { checkAfterMs: plan.checkAfterMs }),
      observed: { objects, resourceVersions },
    };
  }

  async #load(): Promise<Inventory> {
    const loaded = await this.#options.inventory.load();
    if (loaded.type === 'read') {
      this.#saved = JSON.stringify(loaded.inventory);
      return loaded.inventory;
    }
    if (loaded.type === 'lost') {
      this.#options.log.warn(
        { movedTo: loaded.movedTo },
        `The folder's inventory cannot be trusted (${loaded.message}); it is made anew, and nothing is deleted for it.`,
      );
    }
    return { rows: [] };
  }

  /** Keeps rows as of now, and makes them durable when they changed. */
  async #save(inventory: Inventory): Promise<void> {
    const text = JSON.stringify(inventory);
    if (text !== this.#saved) {
      await this.#options.inventory.save(inventory);
      this.#saved = text;
    }
    this.#inventory = inventory;
  }

  async #list(): Promise<{ objects: Map<string, StoredObject>; resourceVersions: Map<string, string> }> {
    const objects = new Map<string, StoredObject>();
    const resourceVersions = new Map<string, string>();
    for (const kind of this.#options.kinds) {
      const { items, resourceVersion } = await this.#options.store.list(kind);
      resourceVersions.set(kind, resourceVersion);
      for (const item of items) {
        objects.set(keyText({ kind, namespace: item.metadata.namespace, name: item.metadata.name }), item);
      }
    }
    return { objects, resourceVersions };
  }

  #plan(
    inventory: Inventory,
    snapshot: Snapshot,
    reading: FolderReading,
    live: ReadonlyMap<string, StoredObject>,
  ): Plan {
    const { root, kinds, strict, prune, clock } = this.#options;
    const plan = makePlan({
      root,
      reading,
      rows: inventory.rows,
      live,
      kinds,
      strict,
      deviceChanged: inventory.device !== undefined && inventory.device !== snapshot.device,
      nowMs: clock.monotonic(),
      prune,
      pruneMemory: this.#pruneMemory,
      refuseUpdate,
    });
    this.#pruneMemory = plan.pruneMemory;
    return plan;
  }

  async #conclude(
    problems: readonly SourceProblem[],
    objects: ReadonlyMap<string, StoredObject>,
  ): Promise<void> {
    this.#problems = problems;
    await this.#reporter.report(problems, (key) => objects.get(key));
  }

  /** What a pass did, for whoever asks later why an object came or went. */
  #sayApplied(results: readonly ActionResult[]): void {
    const keys = (type: Action['type']): string[] =>
      results
        .filter((each) => each.type === 'done' && each.action.type === type)
        .map(({ action }) => keyText(action.key));
    const [created, updated, deleted] = [keys('create'), keys('update'), keys('delete')];
    if (created.length + updated.length + deleted.length === 0) return;
    this.#options.log.info(
      { created: created.length, updated: updated.length, deleted: deleted.slice(0, MAX_LOGGED_KEYS) },
      `From the folder: ${created.length} created, ${updated.length} updated, ${deleted.length} deleted.`,
    );
  }

  async #sayDrift(results: readonly ActionResult[]): Promise<void> {
    for (const { type, action, ...rest } of results) {
      if (type !== 'done' || action.type !== 'update' || !action.drift || !('live' in rest) || !rest.live)
        continue;
      await this.#reporter.driftCorrected(rest.live, action.desired.file);
    }
  }

  /** True when the last look at the folder found one that could be read within the limits. */
  get folderRead(): boolean {
    return this.#folderRead;
  }

  status(): SourceStatus {
    const objects = Object.fromEntries(OBJECT_STATES.map((state) => [state, 0])) as Record<
      ObjectState,
      number
    >;
    for (const { state } of this.#reports) objects[state]++;
    return {
      root: this.#options.root,
      available: this.#available,
      ...(this.#digest === undefined ? {} : { digest: this.#digest }),
      ...(this.#lastAttempt === undefined ? {} : { lastAttemptTime: this.#lastAttempt.toISOString() }),
      ...(this.#lastSuccess === undefined
        ? {}
        : {
            lastSuccessTime: this.#lastSuccess.toISOString(),
            lastSuccessTimestampSeconds: this.#lastSuccess.getTime() / 1000,
          }),
      objects,
      syncs: { ...this.#syncs },
      invalidDocuments: countInvalid(this.#problems),
      problems: this.#problems.slice(0, MAX_PROBLEMS),
      problemCount: this.#problems.length,
      reports: this.#reports,
    };
  }
}

/** One document may have many mistakes; a file that cannot be split into documents counts as one. */
function countInvalid(problems: readonly SourceProblem[]): number {
  const invalid = problems.filter(({ reason }) => reason === 'SourceInvalid');
  return new Set(invalid.map(({ file, document }) => `${file}\0${document ?? 0}`)).size;
}

interface Failure {
  key: string;
  error: BulkheadError;
  problem: SourceProblem;
}

function failuresOf(results: readonly ActionResult[]): Failure[] {
  return results.flatMap((result) => {
    if (result.type === 'done') return [];
    const { action, error } = result;
    const place: Partial<InventoryRow> = action.type === 'delete' ? {} : action.row;
    const where = place.file === undefined ? '' : `${place.file}: document ${place.document}: `;
    const problem: SourceProblem = {
      reason: 'SourceApplyFailed',
      message: `${where}${action.type} of ${keyText(action.key)} failed: ${error.message}`,
      key: action.key,
      ...(place.file === undefined ? {} : { file: place.file }),
      ...(place.document === undefined ? {} : { document: place.document }),
    };
    return [{ key: keyText(action.key), error, problem }];
  });
}

function withFailures(reports: readonly ObjectReport[], failures: readonly Failure[]): ObjectReport[] {
  const failed = new Map(failures.map(({ key, problem }) => [key, problem.message]));
  return reports.map((report) => {
    const message = failed.get(keyText(report.key));
    if (message === undefined || report.state === 'duplicate') return report;
    return { ...report, state: 'failed', message };
  });
}

/** The lists were taken before the writes. */
function noteResults(objects: Map<string, StoredObject>, results: readonly ActionResult[]): void {
  for (const result of results) {
    if (result.type !== 'done') continue;
    if (result.live) objects.set(keyText(result.action.key), result.live);
    else objects.delete(keyText(result.action.key));
  }
}

function resultOf(problems: readonly SourceProblem[], failures: number): SyncResult {
  if (failures > 0 || problems.some(({ reason }) => reason === 'SourceUnavailable')) return 'error';
  return problems.some(({ reason }) => !BENIGN.has(reason)) ? 'partial' : 'success';
}

/** The kind's own rules about what may not change, in the words of the validator. */
function refuseUpdate(live: StoredObject, manifest: ObjectManifest): string | undefined {
  // Secrets and ConfigMaps have no spec, and with it nothing that may not change.
  if (manifest.spec === undefined) return undefined;
  const { errors } = validateObject(manifest, { spec: live.spec });
  return errors.length === 0 ? undefined : errors.map(formatFieldError).join('; ');
}

function messageOf(error: unknown): string {
  return error instanceof BulkheadError || error instanceof Error ? error.message : String(error);
}
