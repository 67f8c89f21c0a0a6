// Inline extended attributes of one inode.

import { XATTR_HEADER_BYTES } from './format.ts';

/** Name prefixes that EROFS stores as a number; the longest that fits wins. */
const PREFIXES: readonly [prefix: string, index: number][] = [
  ['user.', 1],
  ['system.posix_acl_access', 2],
  ['system.posix_acl_default', 3],
  ['trusted.', 4],
  ['security.', 6],
];

const ENTRY_HEADER_BYTES = 4;

/** The bytes after the inode; empty without attributes. In the order of the names, so that output repeats. */
export function encodeXattrs(xattrs: ReadonlyMap<string, Buffer> | undefined): Buffer {
  if (xattrs === undefined || xattrs.size === 0) return Buffer.alloc(0);
  const parts: Buffer[] = [Buffer.alloc(XATTR_HEADER_BYTES)];
  for (const name of [...xattrs.keys()].sort())
    parts.push(encodeEntry(name, xattrs.get(name) ?? Buffer.alloc(0)));
  return Buffer.concat(parts);
}

function encodeEntry(name: string, value: Buffer): Buffer {
  const prefix = PREFIXES.find(([text]) => name.startsWith(text));
  if (prefix === undefined) throw new RangeError(`EROFS has no place for the xattr ${name}`);
  const rest = Buffer.from(name.slice(prefix[0].length), 'latin1');
  const length = ENTRY_HEADER_BYTES + rest.length + value.length;
  const entry = Buffer.alloc(Math.ceil(length / 4) * 4);
  entry.writeUInt8(rest.length, 0);
  entry.writeUInt8(prefix[1], 1);
  entry.writeUInt16LE(value.length, 2);
  rest.copy(entry, ENTRY_HEADER_BYTES);
  value.copy(entry, ENTRY_HEADER_BYTES + rest.length);
  return entry;
}

/** The inverse of `encodeXattrs`. */
export function decodeXattrs(bytes: Buffer): Map<string, Buffer> {
  const xattrs = new Map<string, Buffer>();
  let at = XATTR_HEADER_BYTES;
  while (at + ENTRY_HEADER_BYTES <= bytes.length) {
    const nameLength = bytes.readUInt8(at);
    const index = bytes.readUInt8(at + 1);
    const valueAt = at + ENTRY_HEADER_BYTES + nameLength;
    const end = valueAt + bytes.readUInt16LE(at + 2);
    const prefix = PREFIXES.find(([, number]) => number === index)?.[0] ?? '';
    const name = prefix + bytes.toString('latin1', at + ENTRY_HEADER_BYTES, valueAt);
    xattrs.set(name, bytes.subarray(valueAt, end));
    at = Math.ceil(end / 4) * 4;
  }
  return xattrs;
}
