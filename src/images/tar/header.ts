// One 512-byte tar header: v7, ustar, GNU and star variants, as POSIX.1-2017 pax and GNU tar's manual lay them out.

/** Tar's unit: headers are one, payloads are padded to a multiple. */
export const TAR_BLOCK = 512;

/** What the stream breaks of the tar format; the layer reader adds which layer and entry. */
export class TarError extends Error {
  /** Name of the entry as far as it is known, latin1. */
  readonly entry: string;
  constructor(message: string, entry = '') {
    super(message);
    this.name = 'TarError';
    this.entry = entry;
  }
}

/** Fields of a header block, before pax and GNU extensions are applied. Strings are latin1: one char per byte. */
export interface RawHeader {
  name: string;
  mode: number;
  uid: number;
  gid: number;
  size: number;
  mtime: number;
  /** Type flag as a character; NUL is given as '0'. */
  type: string;
  linkName: string;
  devMajor: number;
  devMinor: number;
  format: 'v7' | 'ustar' | 'gnu';
}

const CHECKSUM_AT = 148;
const CHECKSUM_LENGTH = 8;
const SPACE = 0x20;

/**
 * The header in `block`, or `undefined` for a block of zeros (end of archive).
 * @throws TarError for a wrong checksum or a number that cannot be.
 */
export function parseHeader(block: Buffer): RawHeader | undefined {
  let unsigned = 0;
  let signed = 0;
  for (let i = 0; i < TAR_BLOCK; i++) {
    const inChecksum = i >= CHECKSUM_AT && i < CHECKSUM_AT + CHECKSUM_LENGTH;
    const byte = inChecksum ? SPACE : (block[i] ?? 0);
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  }
  if (unsigned === SPACE * CHECKSUM_LENGTH && isZero(block)) return undefined;
  const name = text(block, 0, 100);
  const checksum = number(block, CHECKSUM_AT, CHECKSUM_LENGTH, 'checksum', name);
  // Some old writers summed signed bytes.
  if (checksum !== unsigned && checksum !== signed) throw new TarError('wrong header checksum', name);

  const format = formatOf(block);
  const header: RawHeader = {
    name,
    mode: number(block, 100, 8, 'mode', name),
    uid: number(block, 108, 8, 'uid', name),
    gid: number(block, 116, 8, 'gid', name),
    size: number(block, 124, 12, 'size', name),
    mtime: number(block, 136, 12, 'mtime', name),
    type: block[156] === 0 ? '0' : String.fromCharCode(block[156] ?? 0),
    linkName: text(block, 157, 100),
    devMajor: 0,
    devMinor: 0,
    format,
  };
  if (format !== 'v7' && (header.type === '3' || header.type === '4')) {
    header.devMajor = number(block, 329, 8, 'device major', name);
    header.devMinor = number(block, 337, 8, 'device minor', name);
  }
  if (format === 'ustar') {
    const star = block.toString('latin1', 508, 512) === 'tar\0';
    const prefix = text(block, 345, star ? 131 : 155);
    if (prefix !== '') header.name = `${prefix}/${name}`;
  }
  return header;
}

function formatOf(block: Buffer): RawHeader['format'] {
  const magic = block.toString('latin1', 257, 265);
  if (magic.startsWith('ustar\0')) return 'ustar';
  return magic === 'ustar  \0' ? 'gnu' : 'v7';
}

export function isZero(bytes: Buffer): boolean {
  for (const byte of bytes) if (byte !== 0) return false;
  return true;
}

/** Bytes up to the first NUL, as latin1. */
export function text(block: Buffer, start: number, length: number): string {
  const field = block.subarray(start, start + length);
  const end = field.indexOf(0);
  return field.toString('latin1', 0, end === -1 ? length : end);
}

/**
 * A number field: octal digits, or GNU base-256 when the top bit of the first byte is set (two's complement).
 * An empty field is 0. @throws TarError for anything else and for what a double cannot hold exactly.
 */
export function number(block: Buffer, start: number, length: number, what: string, entry: string): number {
  const first = block[start] ?? 0;
  if (first & 0x80) return base256(block.subarray(start, start + length), what, entry);
  const digits = text(block, start, length).trim();
  if (digits === '') return 0;
  if (!/^[0-7]+$/.test(digits)) throw new TarError(`${what} is not a number`, entry);
  return Number.parseInt(digits, 8);
}

function base256(field: Buffer, what: string, entry: string): number {
  const negative = ((field[0] ?? 0) & 0x40) !== 0;
  let value = BigInt((field[0] ?? 0) & 0x3f) - (negative ? 0x40n : 0n);
  for (const byte of field.subarray(1)) value = value * 256n + BigInt(byte);
  const result = Number(value);
  if (!Number.isSafeInteger(result)) throw new TarError(`${what} is out of range`, entry);
  return result;
}
