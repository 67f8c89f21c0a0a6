// Carries a plan out. Every write may be the last one before a crash: the next pass plans from what it finds.
import { asBulkheadError, BulkheadError } from '../api/errors.ts';
import type { StoredObject } from '../api/meta.ts';
import type { Store } from '../store/store.ts';
import type { InventoryRow } from './inventory.ts';
import { keyText } from './model.ts';
import { isOwned, isPruneDisabled, toWrite } from './ownership.ts';
import { withoutRetired } from './plan-document.ts';
import type { Action } from './plan-parts.ts';

/** Someone else may write the object between our read and our write so often in a row. */
const MAX_CONFLICTS = 5;
/** Writes under way at once. The embedded store commits what arrives together with one fsync. */
const BATCH = 64;

export type ActionResult =
  /** `live` is absent when the object is gone, or was not ours to delete after all. */
  | { type: 'done'; action: Action; live?: StoredObject }
  | { type: 'failed'; action: Action; error: BulkheadError };

export interface ApplyOptions {
  store: Store;
  /** As configured, for the source-path annotation. */
  root: string;
  signal: AbortSignal;
}

/**
 * Does the actions in order of kinds; those of one kind and sort go together. A failure is that action's alone, but a
 * full store ends the work: `failed` then holds for all that follows.
 */
export async function applyActions(
  actions: readonly Action[],
  options: ApplyOptions,
): Promise<ActionResult[]> {
  const results: ActionResult[] = [];
  let full: BulkheadError | undefined;
  for (const batch of batches(actions)) {
    if (options.signal.aborted) break;
    if (full !== undefined) {
      for (const action of batch) results.push({ type: 'failed', action, error: full });
      continue;
    }
    const done = await Promise.all(batch.map((action) => attempt(action, options)));
    results.push(...done);
    full = done.flatMap((result) => (result.type === 'failed' ? [result.error] : [])).find(isFull);
  }
  return results;
}

function isFull(error: BulkheadError): boolean {
  return error.code === 'STORE_FULL';
}

/** Neighbours that do not depend on each other: same kind, and all deletions or none. */
function batches(actions: readonly Action[]): Action[][] {
  const all: Action[][] = [];
  let group = '';
  for (const action of actions) {
    const next = `${action.type === 'delete'}/${action.key.kind}`;
    const last = all.at(-1);
    if (last === undefined || next !== group || last.length === BATCH) all.push([action]);
    else last.push(action);
    group = next;
  }
  return all;
}

async function attempt(action: Action, options: ApplyOptions): Promise<ActionResult> {
  try {
    const live = await perform(action, options);
    return { type: 'done', action, ...(live === undefined ? {} : { live }) };
  } catch (error) {
    return { type: 'failed', action, error: asBulkheadError(error) };
  }
}

function perform(action: Action, options: ApplyOptions): Promise<StoredObject | undefined> {
  switch (action.type) {
    case 'create':
      return options.store.create(toWrite(options.root, action.desired, undefined, action.row));
    case 'update':
      return update(action, options);
    case 'delete':
      return remove(action, options);
  }
}

async function update(
  action: Extract<Action, { type: 'update' }>,
  { store, root }: ApplyOptions,
): Promise<StoredObject> {
  let { live } = action;
  for (let tries = 1; ; tries++) {
    try {
      return await store.update(toWrite(root, action.desired, live, action.row));
    } catch (error) {
      const conflict = error instanceof BulkheadError && error.code === 'CONFLICT';
      if (!conflict || tries === MAX_CONFLICTS) throw error;
      const now = await store.get(action.key);
      if (now === undefined || !isOwned(now, action.row)) throw error;
      live = now;
    }
  }
}

async function remove(
  action: Extract<Action, { type: 'delete' }>,
  { store }: ApplyOptions,
): Promise<StoredObject | undefined> {
  const live = await store.get(action.key);
  // Looked at again just before: someone may have asked to keep it, or put another one in its place.
  if (live === undefined || live.metadata.uid !== action.uid || isPruneDisabled(live)) return undefined;
  try {
    const left = await store.delete(action.key, { uid: action.uid });
    return left.metadata.deletionTimestamp === undefined ? undefined : left;
  } catch (error) {
    if (error instanceof BulkheadError && error.code === 'NOT_FOUND') return undefined;
    throw error;
  }
}

/** The inventory after the writes: uids of what was made, and nothing left to retire where the write went through. */
export function rowsAfter(rows: readonly InventoryRow[], results: readonly ActionResult[]): InventoryRow[] {
  const written = new Map<string, StoredObject>();
  for (const result of results) {
    if (result.type === 'done' && result.action.type !== 'delete' && result.live) {
      written.set(keyText(result.action.key), result.live);
    }
  }
  return rows.map((row) => {
    const live = written.get(keyText(row.key));
    return live === undefined ? row : { ...withoutRetired(row), uid: live.metadata.uid };
  });
}
