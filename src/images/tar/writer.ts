// Writes tar entries: plain ustar where that holds them, a pax header in front where it does not. Same entry, same bytes.

import { TAR_BLOCK } from './header.ts';
import type { TarEntryType } from './reader.ts';

/** What to write; strings are latin1, one char per byte. */
export interface TarWriteEntry {
  type: TarEntryType;
  name: string;
  linkName?: string;
  mode: number;
  uid?: number;
  gid?: number;
  size?: number;
  mtime?: { seconds: number; nanoseconds: number };
  devMajor?: number;
  devMinor?: number;
  xattrs?: ReadonlyMap<string, Buffer> | undefined;
}

const FLAGS: Record<TarEntryType, string> = {
  file: '0',
  link: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
};

/** Two blocks of zeros. */
export const TAR_END = Buffer.alloc(2 * TAR_BLOCK);
/** Largest numbers of 7 and of 11 octal digits. */
const MAX_OCTAL_7 = 0o7777777;
const MAX_OCTAL_11 = 0o77777777777;
const MAX_NAME = 100;

/** The header blocks of an entry. */
export function encodeTarHeader(entry: TarWriteEntry): Buffer {
  const { seconds, nanoseconds } = entry.mtime ?? { seconds: 0, nanoseconds: 0 };
  const { uid = 0, gid = 0, size = 0, linkName = '' } = entry;
  const records: [key: string, value: Buffer | string][] = [];
  if (entry.name.length > MAX_NAME) records.push(['path', entry.name]);
  if (linkName.length > MAX_NAME) records.push(['linkpath', linkName]);
  if (uid > MAX_OCTAL_7) records.push(['uid', String(uid)]);
  if (gid > MAX_OCTAL_7) records.push(['gid', String(gid)]);
  if (size > MAX_OCTAL_11) records.push(['size', String(size)]);
  if (nanoseconds !== 0 || seconds < 0 || seconds > MAX_OCTAL_11) {
    records.push(['mtime', decimalTime(seconds, nanoseconds)]);
  }
  for (const [name, value] of entry.xattrs ?? []) records.push([`SCHILY.xattr.${name}`, value]);
  const block = header({ ...entry, linkName, uid, gid, size }, Math.min(Math.max(seconds, 0), MAX_OCTAL_11));
  if (records.length === 0) return block;
  const pax = Buffer.concat(records.map(([key, value]) => paxRecord(key, value)));
  const paxHeader = header(
    { type: 'file', name: 'PaxHeaders/entry', linkName: '', mode: 0o644, uid: 0, gid: 0, size: pax.length },
    0,
    'x',
  );
  return Buffer.concat([paxHeader, pax, tarPadding(pax.length), block]);
}

/** Zeros after `size` bytes of data, up to the next block. */
export function tarPadding(size: number): Buffer {
  return Buffer.alloc((TAR_BLOCK - (size % TAR_BLOCK)) % TAR_BLOCK);
}

/** A whole entry with its data in memory. */
export function encodeTarEntry(entry: TarWriteEntry, data: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([encodeTarHeader({ ...entry, size: data.length }), data, tarPadding(data.length)]);
}

function header(
  entry: TarWriteEntry & { linkName: string; uid: number; gid: number; size: number },
  mtime: number,
  flag = FLAGS[entry.type],
): Buffer {
  const block = Buffer.alloc(TAR_BLOCK);
  block.write(entry.name.slice(0, MAX_NAME), 0, 'latin1');
  octal(block, 100, 7, entry.mode);
  octal(block, 108, 7, Math.min(entry.uid, MAX_OCTAL_7));
  octal(block, 116, 7, Math.min(entry.gid, MAX_OCTAL_7));
  octal(block, 124, 11, Math.min(entry.size, MAX_OCTAL_11));
  octal(block, 136, 11, mtime);
  block.write(flag, 156, 'latin1');
  block.write(entry.linkName.slice(0, MAX_NAME), 157, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  octal(block, 329, 7, entry.devMajor ?? 0);
  octal(block, 337, 7, entry.devMinor ?? 0);
  writeTarChecksum(block);
  return block;
}

/** Sets the checksum of a header block. */
export function writeTarChecksum(block: Buffer): void {
  block.fill(0x20, 148, 156);
  const sum = block.subarray(0, TAR_BLOCK).reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}

function octal(block: Buffer, at: number, digits: number, value: number): void {
  block.write(value.toString(8).padStart(digits, '0'), at, 'latin1');
}

/** The length counts itself. */
function paxRecord(key: string, value: Buffer | string): Buffer {
  const rest = Buffer.concat([
    Buffer.from(` ${key}=`, 'latin1'),
    typeof value === 'string' ? Buffer.from(value, 'latin1') : value,
    Buffer.from('\n'),
  ]);
  let length = rest.length + 1;
  while (length !== rest.length + String(length).length) length = rest.length + String(length).length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function decimalTime(seconds: number, nanoseconds: number): string {
  if (nanoseconds === 0) return String(seconds);
  const isNegative = seconds < 0;
  const whole = isNegative ? -(seconds + 1) : seconds;
  const fraction = isNegative ? 1_000_000_000 - nanoseconds : nanoseconds;
  return `${isNegative ? '-' : ''}${whole}.${String(fraction).padStart(9, '0')}`;
}
