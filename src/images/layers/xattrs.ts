// Which extended attributes of a layer go onto the disk.

import { TarError } from '../tar/header.ts';
import type { TarEntry } from '../tar/reader.ts';

/** Namespaces that a disk file system stores; other `system.` names belong to network and foreign file systems. */
const STORED_NAMESPACES = ['user.', 'trusted.', 'security.'];
const STORED_NAMES = new Set(['system.posix_acl_access', 'system.posix_acl_default']);
/** The image is overlayfs's lower layer in the guest: there these would be orders to overlayfs, not attributes. */
const OVERLAY_ORDERS = 'trusted.overlay.';
/** Linux XATTR_NAME_MAX, XATTR_SIZE_MAX; the latter is also what EROFS's 16-bit size field holds. */
const MAX_XATTR_NAME = 255;
const MAX_XATTR_VALUE = 65_535;
/** All of one inode: EROFS counts them in 16 bits of 4 bytes. Ext4 and others stop lower. */
const MAX_XATTRS_BYTES = 128 * 1024;

/**
 * The attributes to store, `undefined` for none. Those of namespaces that Linux file systems do not store are left out, as
 * other unpackers do. @throws TarError for names and sizes that Linux could not set.
 */
export function keptXattrs(entry: TarEntry): ReadonlyMap<string, Buffer> | undefined {
  if (entry.xattrs === undefined) return undefined;
  const kept = new Map<string, Buffer>();
  let sum = 0;
  for (const [name, value] of entry.xattrs) {
    if (!isStored(name)) continue;
    if (name.length > MAX_XATTR_NAME) {
      throw new TarError(`xattr name of more than ${MAX_XATTR_NAME} bytes`, entry.name);
    }
    if (value.length > MAX_XATTR_VALUE) {
      throw new TarError(`xattr of more than ${MAX_XATTR_VALUE} bytes`, entry.name);
    }
    sum += name.length + value.length + 8;
    if (sum > MAX_XATTRS_BYTES) {
      throw new TarError(`xattrs of more than ${MAX_XATTRS_BYTES} bytes`, entry.name);
    }
    kept.set(name, value);
  }
  return kept.size > 0 ? kept : undefined;
}

function isStored(name: string): boolean {
  if (name.startsWith(OVERLAY_ORDERS)) return false;
  return (
    STORED_NAMES.has(name) || STORED_NAMESPACES.some((space) => name.startsWith(space) && name !== space)
  );
}
