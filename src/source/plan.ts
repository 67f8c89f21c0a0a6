// Folder + inventory + store -> what to do. A pure function: everything that decides about deletion can be tested here.
import { MANAGED_BY_FOLDER, MANAGED_BY_LABEL } from '../api/annotations.ts';
import { KINDS } from '../api/kinds.ts';
import type { ObjectManifest, StoredObject } from '../api/meta.ts';
import type { ObjectKey } from '../store/store.ts';
import { digestOf } from './canonical.ts';
import type { InventoryRow } from './inventory.ts';
import {
  compareText,
  keyText,
  type ObjectReport,
  type ProblemReason,
  placeText,
  type SourceDocument,
  type SourceProblem,
} from './model.ts';
import {
  type Desired,
  differs,
  isOwned,
  isPruneDisabled,
  isReconcileDisabled,
  manifestFromLive,
  sourceFileOf,
  toWrite,
} from './ownership.ts';
import { decidePrune, type PruneMemory, type PruneOptions } from './prune.ts';

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

/** Kinds that the folder may declare. What others refer to comes first; its deletion comes last. */
export const SOURCE_KINDS: readonly string[] = KINDS.map(({ kind }) => kind);

/** Collects the parts of a plan. */
class Draft {
  readonly actions: Action[] = [];
  readonly rows = new Map<string, InventoryRow>();
  readonly reports: ObjectReport[] = [];
  readonly problems: SourceProblem[] = [];
  /** Rows whose object is to go, by keyText. */
  readonly candidates = new Map<string, { row: InventoryRow; uid: string }>();
}

export function makePlan(input: PlanInput): Plan {
  const draft = new Draft();
  for (const frozen of input.reading.frozen) draft.problems.push(...frozen.problems);
  const rows = new Map(input.rows.map((row) => [keyText(row.key), row]));
  for (const row of recoveredRows(input, rows)) rows.set(keyText(row.key), row);

  const winners = chooseWinners(input, rows, draft);
  for (const [text, document] of winners) planDocument(input, draft, document, rows.get(text));
  for (const [text, row] of rows) if (!winners.has(text)) planMissing(input, draft, row);
  reportOrphans(input, draft, rows, winners);
  const decision = planPrune(input, draft, rows);

  const standStill = input.strict && draft.problems.some((problem) => STRICT_BLOCKERS.has(problem.reason));
  return {
    ...(standStill ? inAbeyance(input, draft) : inForce(draft)),
    problems: draft.problems,
    pruneMemory: decision.memory,
    ...(decision.checkAfterMs === undefined ? {} : { checkAfterMs: decision.checkAfterMs }),
  };
}

/** In strict mode, one of these anywhere stops every change. */
const STRICT_BLOCKERS: ReadonlySet<ProblemReason> = new Set([
  'SourceInvalid',
  'SourceDuplicate',
  'SourceConflict',
] as const);

function inForce(draft: Draft): Pick<Plan, 'actions' | 'rows' | 'reports'> {
  return {
    actions: sortActions(draft.actions),
    rows: [...draft.rows.values()].sort((a, b) => compareText(keyText(a.key), keyText(b.key))),
    reports: sortReports(draft.reports),
  };
}

/** Nothing moves; what would have moved says why it does not. */
function inAbeyance(input: PlanInput, draft: Draft): Pick<Plan, 'actions' | 'rows' | 'reports'> {
  const waiting = new Set(draft.actions.map((action) => keyText(action.key)));
  const message = 'Strict mode: waits until every problem in the folder is mended.';
  const reports = draft.reports.map(
    (report): ObjectReport =>
      waiting.has(keyText(report.key)) && report.state === 'synced'
        ? { ...report, state: 'held', message }
        : report,
  );
  return { actions: [], rows: [...input.rows], reports: sortReports(reports) };
}

function sortReports(reports: ObjectReport[]): ObjectReport[] {
  return reports.sort((a, b) => compareText(keyText(a.key), keyText(b.key)));
}

function sortActions(actions: Action[]): Action[] {
  const rank = (action: Action): number => {
    const order = SOURCE_KINDS.indexOf(action.key.kind);
    // Deletions follow all else, in reverse order.
    return action.type === 'delete' ? 2 * SOURCE_KINDS.length - order : order;
  };
  return actions.sort((a, b) => rank(a) - rank(b) || compareText(keyText(a.key), keyText(b.key)));
}

function frozenOver(reading: FolderReading, file: string): FrozenPath | undefined {
  return reading.frozen.find(({ path }) => path === '' || file === path || file.startsWith(`${path}/`));
}

function problemText(frozen: FrozenPath, key: ObjectKey): string {
  const own = frozen.problems.filter((problem) => problem.key && keyText(problem.key) === keyText(key));
  const told = own.length > 0 ? own : frozen.problems.slice(0, 1);
  return `SourceInvalid: ${told.map(({ message }) => message).join('; ')}`;
}

/** Objects of ours that a lost inventory forgot, and whose file cannot tell us either: their own state is the record. */
function* recoveredRows(input: PlanInput, rows: ReadonlyMap<string, InventoryRow>): Generator<InventoryRow> {
  for (const [text, live] of input.live) {
    if (rows.has(text) || live.metadata.labels?.[MANAGED_BY_LABEL] !== MANAGED_BY_FOLDER) continue;
    const file = sourceFileOf(live, input.root);
    if (file === undefined) continue;
    const frozen = frozenOver(input.reading, file);
    if (!frozen?.mentions(live.metadata.name)) continue;
    const manifest = manifestFromLive(live);
    yield {
      key: { kind: live.kind, namespace: live.metadata.namespace, name: live.metadata.name },
      file,
      document: 1,
      manifest,
      digest: digestOf(manifest),
      uid: live.metadata.uid,
    };
  }
}

/** One document per object; the others become duplicates. */
function chooseWinners(
  input: PlanInput,
  rows: ReadonlyMap<string, InventoryRow>,
  draft: Draft,
): Map<string, SourceDocument> {
  const claims = Map.groupBy(input.reading.documents, (document) => keyText(document.key));
  const winners = new Map<string, SourceDocument>();
  for (const [text, documents] of claims) {
    const row = rows.get(text);
    const applied =
      documents.find((document) => document.file === row?.file && document.document === row.document) ??
      documents.find((document) => document.file === row?.file);
    // The applied document may still be in a file that is broken now; a second claim does not take over then.
    const frozen = row && !applied ? frozenOver(input.reading, row.file) : undefined;
    const keepsRow = row !== undefined && frozen?.mentions(row.key.name) === true;
    const winner = keepsRow ? undefined : (applied ?? documents[0]);
    if (winner) winners.set(text, winner);
    const holder = winner ?? row;
    for (const document of documents) {
      if (document !== winner && holder) reportDuplicate(draft, document, holder);
    }
  }
  return winners;
}

function problemPlace({ key, file, document, line, column }: SourceDocument): Partial<SourceProblem> {
  return { key, file, document, line, column };
}

function reportDuplicate(
  draft: Draft,
  document: SourceDocument,
  holder: { file: string; document: number },
): void {
  const { key, file } = document;
  const message =
    `${placeText(document)}${keyText(key)} is already declared in ${holder.file}, ` +
    `document ${holder.document}, which stays in force; remove one of the two.`;
  draft.problems.push({ reason: 'SourceDuplicate', message, ...problemPlace(document) });
  draft.reports.push({ key, state: 'duplicate', file, document: document.document, message });
}

function planDocument(
  input: PlanInput,
  draft: Draft,
  document: SourceDocument,
  row: InventoryRow | undefined,
): void {
  const { key, file, manifest } = document;
  const live = input.live.get(keyText(key));
  if (live && !isOwned(live, row)) {
    reportConflict(draft, document);
    return;
  }
  const next: InventoryRow = {
    key,
    file,
    document: document.document,
    manifest,
    digest: digestOf(manifest),
    ...uidOf(live),
    ...retiredOf(row, manifest),
  };
  const refusal =
    live && differs(toWrite(input.root, { manifest, file }, live, next), live)
      ? input.refuseUpdate(live, manifest)
      : undefined;
  if (live && refusal !== undefined) {
    const message = `${placeText(document)}${refusal}`;
    draft.problems.push({ reason: 'SourceInvalid', message, ...problemPlace(document) });
    const good = row?.manifest ?? manifestFromLive(live);
    planWrite(
      input,
      draft,
      { ...next, manifest: good, digest: digestOf(good) },
      row,
      `SourceInvalid: ${message}`,
    );
    return;
  }
  planWrite(input, draft, next, row, undefined);
}

function uidOf(live: StoredObject | undefined): { uid?: string } {
  return live === undefined ? {} : { uid: live.metadata.uid };
}

/** Labels and annotations that the folder once set and no longer does. */
function retiredOf(row: InventoryRow | undefined, manifest: ObjectManifest): Pick<InventoryRow, 'retired'> {
  if (row === undefined) return {};
  const gone = (part: 'labels' | 'annotations'): string[] => {
    const once = [...(row.retired?.[part] ?? []), ...Object.keys(row.manifest.metadata[part] ?? {})];
    return [...new Set(once)].filter((name) => !Object.hasOwn(manifest.metadata[part] ?? {}, name)).sort();
  };
  const retired = { labels: gone('labels'), annotations: gone('annotations') };
  return retired.labels.length + retired.annotations.length === 0 ? {} : { retired };
}

/** The row once the live object carries nothing that the folder no longer sets. */
export function withoutRetired(row: InventoryRow): InventoryRow {
  const { retired: _retired, ...rest } = row;
  return rest;
}

function reportConflict(draft: Draft, document: SourceDocument): void {
  const { key, file } = document;
  const message =
    `${placeText(document)}${keyText(key)} exists and was not made from this folder, so it is left ` +
    `alone; delete it, rename one of the two, or label it ${MANAGED_BY_LABEL}=${MANAGED_BY_FOLDER} to hand it over.`;
  draft.problems.push({ reason: 'SourceConflict', message, ...problemPlace(document) });
  draft.reports.push({ key, state: 'conflict', file, document: document.document, message });
}

/** Makes the object what `row` says; `problem` is why that is not what the folder says now. */
function planWrite(
  input: PlanInput,
  draft: Draft,
  row: InventoryRow,
  before: InventoryRow | undefined,
  problem: string | undefined,
): void {
  const { key, file, document } = row;
  const live = input.live.get(keyText(key));
  const report = { key, file, document, ...(problem === undefined ? {} : { message: problem }) };
  draft.rows.set(keyText(key), row);
  if (isReconcileDisabled(row.manifest) || isReconcileDisabled(live)) {
    draft.reports.push({ ...report, state: 'disabled' });
    return;
  }
  if (live?.metadata.deletionTimestamp !== undefined) {
    // Made anew once it is gone.
    draft.reports.push({ ...report, state: 'terminating' });
    return;
  }
  const desired: Desired = { manifest: row.manifest, file, ...(problem === undefined ? {} : { problem }) };
  draft.reports.push({ ...report, state: problem === undefined ? 'synced' : 'invalid' });
  if (live === undefined) draft.actions.push({ type: 'create', key, desired, row });
  else if (differs(toWrite(input.root, desired, live, row), live)) {
    const drift = before?.digest === row.digest && before.file === row.file && before.uid === row.uid;
    draft.actions.push({ type: 'update', key, desired, row, live, drift: drift && problem === undefined });
  } else draft.rows.set(keyText(key), withoutRetired(row));
}

/** An object that was declared and no longer is. */
function planMissing(input: PlanInput, draft: Draft, row: InventoryRow): void {
  const text = keyText(row.key);
  const live = input.live.get(text);
  const frozen = frozenOver(input.reading, row.file);
  if (frozen) {
    // Made by someone else meanwhile: not ours to keep any more.
    if (live && !isOwned(live, row)) return;
    planWrite(input, draft, { ...row, ...uidOf(live) }, row, problemText(frozen, row.key));
    return;
  }
  if (live === undefined) return;
  // Only what the record names is deleted: a later object of the same name is someone's own, unless it bears our mark
  // and the record stems from a create whose outcome we did not live to see.
  const same = row.uid === undefined ? isOwned(live, row) : row.uid === live.metadata.uid;
  if (!same) return;
  const where = { key: row.key, file: row.file, document: row.document };
  if (live.metadata.deletionTimestamp !== undefined) {
    draft.rows.set(text, row);
    draft.reports.push({ ...where, state: 'terminating' });
    return;
  }
  if (isPruneDisabled(row.manifest) || isPruneDisabled(live)) {
    draft.reports.push({
      ...where,
      state: 'orphaned',
      message: 'Gone from the folder; kept as its annotation asks.',
    });
    return;
  }
  draft.rows.set(text, row);
  draft.candidates.set(text, { row, uid: live.metadata.uid });
}

/** Objects with our mark that neither a document nor the inventory knows: never deleted on the mark's word alone. */
function reportOrphans(
  input: PlanInput,
  draft: Draft,
  rows: ReadonlyMap<string, InventoryRow>,
  winners: ReadonlyMap<string, SourceDocument>,
): void {
  for (const [text, live] of input.live) {
    if (rows.has(text) || winners.has(text)) continue;
    if (live.metadata.labels?.[MANAGED_BY_LABEL] !== MANAGED_BY_FOLDER) continue;
    const key = { kind: live.kind, namespace: live.metadata.namespace, name: live.metadata.name };
    const message =
      `${text} bears the folder's mark, but no document declares it and the inventory does not know it; ` +
      'it is kept. Delete it by hand if it is not wanted.';
    draft.reports.push({ key, state: 'orphaned', message });
    if (!isPruneDisabled(live)) draft.problems.push({ reason: 'SourceOrphaned', message, key });
  }
}

function planPrune(input: PlanInput, draft: Draft, rows: ReadonlyMap<string, InventoryRow>) {
  const { reading, prune, pruneMemory, deviceChanged, nowMs } = input;
  const free: string[] = [];
  for (const [text, { row }] of draft.candidates) {
    const mention = reading.frozen.find((frozen) => frozen.mentions(row.key.name));
    const reason =
      reading.pruneBlocked ?? (mention && `${mention.path} cannot be read as manifests, and may declare it`);
    if (reason === undefined) free.push(text);
    else reportHeld(draft, row, reason);
  }
  const decision = decidePrune(
    {
      candidates: free.sort(),
      total: [...rows.keys()].filter((text) => input.live.get(text)?.metadata.deletionTimestamp === undefined)
        .length,
      emptied: reading.documents.length === 0 && reading.frozen.length === 0,
      deviceChanged,
      nowMs,
    },
    pruneMemory,
    prune,
  );
  for (const text of free) {
    const candidate = draft.candidates.get(text);
    if (candidate === undefined) continue;
    const { row, uid } = candidate;
    const where = { key: row.key, file: row.file, document: row.document };
    if (decision.due.has(text)) {
      draft.actions.push({ type: 'delete', key: row.key, uid });
      draft.reports.push({ ...where, state: 'terminating' });
    } else {
      draft.reports.push({
        ...where,
        state: 'held',
        message: decision.held ?? 'Gone from the folder; making sure.',
      });
    }
  }
  if (decision.held !== undefined) {
    draft.problems.push({
      reason: decision.unavailable ? 'SourceUnavailable' : 'SourcePruneHeld',
      message: `${input.root}: ${decision.held}`,
    });
  }
  return decision;
}

function reportHeld(draft: Draft, row: InventoryRow, reason: string): void {
  const message = `Deletion of ${keyText(row.key)}, which is gone from ${row.file}, waits: ${reason}.`;
  draft.reports.push({ key: row.key, state: 'held', file: row.file, document: row.document, message });
  draft.problems.push({ reason: 'SourcePruneHeld', message, key: row.key, file: row.file });
}
