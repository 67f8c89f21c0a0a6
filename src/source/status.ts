// What the source tells about itself: for `describe`, for `/readyz` and for the metrics collector.
import type { ObjectReport, ObjectState, SourceProblem } from './model.ts';

/**
 * - `success`: the folder was read and everything in it is in force (deletions may still wait).
 * - `partial`: it was read, with problems in some documents.
 * - `error`: it could not be read, or the store or the inventory could not be written.
 */
export type SyncResult = 'success' | 'partial' | 'error';

export interface SourceStatus {
  /** As configured. */
  root: string;
  /** False while the folder as a whole cannot be read, or is suspiciously empty. */
  available: boolean;
  /** sha256 over the paths and contents of the last reading, hex. */
  digest?: string;
  /** RFC 3339. */
  lastAttemptTime?: string;
  lastSuccessTime?: string;
  /** `source_objects{state}`; every state is present. */
  objects: Record<ObjectState, number>;
  /** `source_sync_total{result}`; since the daemon started. */
  syncs: Record<SyncResult, number>;
  /** `source_last_success_timestamp_seconds`; absent before the first success. */
  lastSuccessTimestampSeconds?: number;
  /** `source_invalid_documents`. */
  invalidDocuments: number;
  /** At most MAX_PROBLEMS of them, and how many there are. */
  problems: SourceProblem[];
  problemCount: number;
  /** Each object and document, sorted by key. */
  reports: readonly ObjectReport[];
}

/** A folder of thousands of broken documents must not make a status that nobody can read or carry. */
export const MAX_PROBLEMS = 1000;
