// What a plan is made from and of.
import type { ObjectManifest, StoredObject } from '../api/meta.ts';
import type { ObjectKey } from '../store/store.ts';
import type { InventoryRow } from './inventory.ts';
import type { ObjectReport, SourceDocument, SourceProblem } from './model.ts';
import { keyText } from './model.ts';
import type { Desired } from './ownership.ts';
import type { PruneMemory, PruneOptions } from './prune.ts';

/** A file or directory whose content is not wholly known. What it declared before still holds. */
export interface FrozenPath {
  /** Below the root; '' is all of it. Covers everything below it. */
  path: string;
  problems: readonly SourceProblem[];
  /** True when the object may be declared there: its name occurs in the bytes, or nobody knows the bytes. */
  mentions: (name: string) => boolean;
}

/** A snapshot, parsed. */
export interface FolderReading {
  /** Sorted by file, then document. */
  documents: readonly SourceDocument[];
  frozen: readonly FrozenPath[];
  /** Why nothing at all may be taken for deleted. */
  pruneBlocked?: string;
}

export interface PlanInput {
  /** As configured, absolute, links unresolved. */
  root: string;
  reading: FolderReading;
  rows: readonly InventoryRow[];
  /** Every object in the store of the kinds the folder may declare, by keyText. */
  live: ReadonlyMap<string, StoredObject>;
  /** What is followed; documents of other kinds are refused. */
  kinds: readonly string[];
  /** Any problem stops every change. */
  strict: boolean;
  deviceChanged: boolean;
  /** Monotonic, in milliseconds. */
  nowMs: number;
  prune: PruneOptions;
  pruneMemory: PruneMemory;
  /** Why the live object may not become this; undefined when it may. */
  refuseUpdate: (live: StoredObject, manifest: ObjectManifest) => string | undefined;
}

/** One write. `row` is the inventory's record of it, to be made durable before the write. */
export type Action =
  | { type: 'create'; key: ObjectKey; desired: Desired; row: InventoryRow }
  /** `drift`: the document is as it was; someone changed the object. */
  | {
      type: 'update';
      key: ObjectKey;
      desired: Desired;
      row: InventoryRow;
      live: StoredObject;
      drift: boolean;
    }
  | { type: 'delete'; key: ObjectKey; uid: string };

export interface Plan {
  /** In the order to do them. */
  actions: Action[];
  /** The inventory to write before the first action. Sorted by key. */
  rows: InventoryRow[];
  /** How each object will stand once the actions are done. Sorted by key. */
  reports: ObjectReport[];
  problems: SourceProblem[];
  checkAfterMs?: number;
  pruneMemory: PruneMemory;
}

/** Collects the parts of a plan. */
export class Draft {
  readonly actions: Action[] = [];
  readonly rows = new Map<string, InventoryRow>();
  readonly reports: ObjectReport[] = [];
  readonly problems: SourceProblem[] = [];
  /** Rows whose object is to go, by keyText. */
  readonly candidates = new Map<string, { row: InventoryRow; uid: string }>();
}

export function frozenOver(reading: FolderReading, file: string): FrozenPath | undefined {
  return reading.frozen.find(({ path }) => path === '' || file === path || file.startsWith(`${path}/`));
}

export function problemText(frozen: FrozenPath, key: ObjectKey): string {
  const own = frozen.problems.filter((problem) => problem.key && keyText(problem.key) === keyText(key));
  const told = own.length > 0 ? own : frozen.problems.slice(0, 1);
  return `SourceInvalid: ${told.map(({ message }) => message).join('; ')}`;
}

export function uidOf(live: StoredObject | undefined): { uid?: string } {
  return live === undefined ? {} : { uid: live.metadata.uid };
}

export function problemPlace({ key, file, document, line, column }: SourceDocument): Partial<SourceProblem> {
  return { key, file, document, line, column };
}
