// Extended attributes as ext4 keeps them, in an inode or in a block of their own.
import { BulkheadError } from '../../api/errors.ts';

const MAGIC = 0xea020000;
const ENTRY_BYTES = 16;
const PREFIXES: Readonly<Record<number, string>> = {
  1: 'user.',
  2: 'system.posix_acl_access',
  3: 'system.posix_acl_default',
  4: 'trusted.',
  6: 'security.',
};
const ACL_NAMES = new Set([PREFIXES[2], PREFIXES[3]]);
/** Tags of entries that name a user or a group. */
const ACL_USER = 0x02;
const ACL_GROUP = 0x08;
const ACL_UNDEFINED_ID = 0xffff_ffff;

/** Adds what the area holds. Entries begin at `first`; values are placed from `valuesAt` on. Nothing without the magic. */
export function decodeXattrEntries(
  area: Buffer,
  first: number,
  valuesAt: number,
  into: Map<string, Buffer>,
): void {
  if (area.length < first || area.readUInt32LE(0) !== MAGIC) return;
  for (let at = first; at + 4 <= area.length && area.readUInt32LE(at) !== 0; ) {
    if (at + ENTRY_BYTES > area.length) throw damaged();
    const [nameLength, index] = [area[at] ?? 0, area[at + 1] ?? 0];
    const [offset, inode, size] = [
      area.readUInt16LE(at + 2),
      area.readUInt32LE(at + 4),
      area.readUInt32LE(at + 8),
    ];
    const value = valuesAt + offset;
    if (inode !== 0 || at + ENTRY_BYTES + nameLength > area.length || value + size > area.length)
      throw damaged();
    const prefix = PREFIXES[index];
    const name = `${prefix ?? ''}${area.toString('latin1', at + ENTRY_BYTES, at + ENTRY_BYTES + nameLength)}`;
    const bytes = Buffer.from(area.subarray(value, value + size));
    if (prefix !== undefined) into.set(name, ACL_NAMES.has(name) ? aclOf(bytes) : bytes);
    at += (ENTRY_BYTES + nameLength + 3) & ~3;
  }
}

/** On the disk, entries without an id are short, and the version is another one. */
function aclOf(stored: Buffer): Buffer {
  const parts: Buffer[] = [Buffer.from([2, 0, 0, 0])];
  for (let at = 4; at + 4 <= stored.length; ) {
    const tag = stored.readUInt16LE(at);
    const hasId = tag === ACL_USER || tag === ACL_GROUP;
    if (hasId && at + 8 > stored.length) throw damaged();
    const entry = Buffer.alloc(8);
    stored.copy(entry, 0, at, at + 4);
    entry.writeUInt32LE(hasId ? stored.readUInt32LE(at + 4) : ACL_UNDEFINED_ID, 4);
    parts.push(entry);
    at += hasId ? 8 : 4;
  }
  return Buffer.concat(parts);
}

function damaged(): BulkheadError {
  return new BulkheadError(
    'DISK_DAMAGED',
    'The disk of the sandbox cannot be read: attributes make no sense.',
  );
}
