// What becomes of one object: of one that a document declares, and of one that none declares any more.
import { MANAGED_BY_FOLDER, MANAGED_BY_LABEL } from '../api/annotations.ts';
import type { ObjectManifest } from '../api/meta.ts';
import { digestOf } from './canonical.ts';
import type { InventoryRow } from './inventory.ts';
import { keyText, placeText, type SourceDocument } from './model.ts';
import {
  type Desired,
  differs,
  isOwned,
  isPruneDisabled,
  isReconcileDisabled,
  manifestFromLive,
  toWrite,
} from './ownership.ts';
import { type Draft, frozenOver, type PlanInput, problemPlace, problemText, uidOf } from './plan-parts.ts';

export function planDocument(
  input: PlanInput,
  draft: Draft,
  document: SourceDocument,
  row: InventoryRow | undefined,
): void {
  const { key, file, manifest } = document;
  if (!input.kinds.includes(key.kind)) {
    reportNotFollowed(input, draft, document);
    return;
  }
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

function reportNotFollowed({ kinds }: PlanInput, draft: Draft, document: SourceDocument): void {
  const { key, file } = document;
  const message = `${placeText(document)}objects of kind ${key.kind} are not applied from this folder, only ${kinds.join(', ')}.`;
  draft.problems.push({ reason: 'SourceInvalid', message, ...problemPlace(document) });
  draft.reports.push({ key, state: 'invalid', file, document: document.document, message });
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
export function planMissing(input: PlanInput, draft: Draft, row: InventoryRow): void {
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
