// What becomes of objects that nothing declares any more: deleted now, later, or never.
import { MANAGED_BY_FOLDER, MANAGED_BY_LABEL } from '../api/annotations.ts';
import type { InventoryRow } from './inventory.ts';
import { keyText, type SourceDocument } from './model.ts';
import { isPruneDisabled } from './ownership.ts';
import type { Draft, PlanInput } from './plan-parts.ts';
import { decidePrune } from './prune.ts';

/** Objects with our mark that neither a document nor the inventory knows: never deleted on the mark's word alone. */
export function reportOrphans(
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

export function planPrune(input: PlanInput, draft: Draft, rows: ReadonlyMap<string, InventoryRow>) {
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
