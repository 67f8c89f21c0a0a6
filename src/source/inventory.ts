// What the folder is known to have declared: the difference between "deleted from the folder" and "never there".
// It outlives restarts, so a file removed while the daemon was down is still pruned, and one broken meanwhile is kept.
import { createHash } from 'node:crypto';
import { open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { asBulkheadError, BulkheadError } from '../api/errors.ts';
import type { ObjectManifest } from '../api/meta.ts';
import type { ObjectKey } from '../store/store.ts';
import type { DocumentPosition } from './model.ts';
import { errorCode } from './snapshot-fs.ts';

/** One object that the folder declared. */
export interface InventoryRow extends DocumentPosition {
  key: ObjectKey;
  /** Last good version, defaults filled in. */
  manifest: ObjectManifest;
  /** sha256 of the manifest's canonical JSON. */
  digest: string;
  /** Absent from the moment the object is about to be created until it is known to be. */
  uid?: string;
  /** Labels and annotations of older versions that the live object may still carry. */
  retired?: { labels: string[]; annotations: string[] };
}

export interface Inventory {
  /** Sorted by key. */
  rows: InventoryRow[];
  /** `st_dev` of the root when it was last read. */
  device?: string;
}

/** `lost`: there was one, but what it holds cannot be trusted. It has been moved to `movedTo`. */
export type LoadedInventory =
  | { type: 'read'; inventory: Inventory }
  | { type: 'absent' }
  | { type: 'lost'; movedTo: string; message: string };

/** Where the inventory is kept. */
export interface InventoryFile {
  load(): Promise<LoadedInventory>;
  /** Durable when it resolves. Throws DISK_FULL or INTERNAL. */
  save(inventory: Inventory): Promise<void>;
}

const FORMAT = 1;
/** Holds Secrets' payloads, as the store does. */
const FILE_MODE = 0o600;

function checksum(body: string): string {
  return createHash('sha256').update(body).digest('hex');
}

function isRow(value: unknown): value is InventoryRow {
  if (typeof value !== 'object' || value === null) return false;
  const row = value as Partial<Record<keyof InventoryRow, unknown>>;
  return (
    typeof row.file === 'string' &&
    typeof row.document === 'number' &&
    typeof row.digest === 'string' &&
    typeof row.key === 'object' &&
    row.key !== null &&
    typeof row.manifest === 'object' &&
    row.manifest !== null
  );
}

/** First line: format and checksum. Second line: the inventory. Throws for anything else. */
function decode(text: string): Inventory {
  const end = text.indexOf('\n');
  const [format, sum] = text.slice(0, Math.max(end, 0)).split(' ');
  const body = text.slice(end + 1);
  if (format !== String(FORMAT)) throw new Error(`format ${JSON.stringify(format)} instead of ${FORMAT}`);
  if (sum !== checksum(body)) throw new Error('its checksum is wrong');
  const value: unknown = JSON.parse(body);
  if (typeof value !== 'object' || value === null || !('rows' in value) || !Array.isArray(value.rows)) {
    throw new Error('it has no rows');
  }
  if (!value.rows.every(isRow)) throw new Error('a row is incomplete');
  const device = 'device' in value && typeof value.device === 'string' ? { device: value.device } : {};
  return { rows: value.rows, ...device };
}

async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, 'r');
  await directory.sync();
}

async function writeDurably(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`;
  {
    await using file = await open(temporary, 'w', FILE_MODE);
    await file.writeFile(text);
    await file.sync();
  }
  await rename(temporary, path);
  await syncDirectory(dirname(path));
}

/**
 * The inventory in a file of the state directory. It must never lie in the watched folder.
 * @param stamp names what is moved aside, e.g. the time.
 */
export function inventoryFile(path: string, stamp: () => string): InventoryFile {
  return {
    async load() {
      let text: string;
      try {
        text = await readFile(path, 'utf8');
      } catch (error) {
        if (errorCode(error) === 'ENOENT') return { type: 'absent' };
        throw error;
      }
      try {
        return { type: 'read', inventory: decode(text) };
      } catch (error) {
        const movedTo = `${path}.corrupt-${stamp()}`;
        await rename(path, movedTo);
        return { type: 'lost', movedTo, message: error instanceof Error ? error.message : String(error) };
      }
    },
    async save(inventory) {
      const body = JSON.stringify(inventory);
      try {
        await writeDurably(path, `${FORMAT} ${checksum(body)}\n${body}`);
      } catch (error) {
        const full = errorCode(error) === 'ENOSPC' || errorCode(error) === 'EDQUOT';
        const reason = error instanceof Error ? error.message : String(error);
        throw new BulkheadError(
          full ? 'DISK_FULL' : asBulkheadError(error).code,
          `The folder's inventory cannot be written: ${reason}`,
          {
            cause: error,
          },
        );
      }
    },
  };
}
