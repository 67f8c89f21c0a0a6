// Streaming tar reader: entries one after another, with pax, GNU long names and all sparse forms applied.

import type { TarBytes } from './bytes.ts';
import { parseHeader, type RawHeader, TAR_BLOCK, TarError } from './header.ts';
import { type PaxFields, parsePax } from './pax.ts';
import { checkedMap, oldGnuMap, payloadMap, type SparsePiece } from './sparse.ts';

export type TarEntryType = 'file' | 'link' | 'symlink' | 'character' | 'block' | 'directory' | 'fifo';

/** One entry. Strings are latin1: one char per byte of the original. */
export interface TarEntry {
  type: TarEntryType;
  name: string;
  linkName: string;
  /** Permission bits, 07777 at most. */
  mode: number;
  uid: number;
  gid: number;
  /** Size of the file, holes included. */
  size: number;
  mtime: { seconds: number; nanoseconds: number };
  devMajor: number;
  devMinor: number;
  /** Without entry when there are none. Names with their namespace, `security.capability`. */
  xattrs: ReadonlyMap<string, Buffer> | undefined;
  /** Stored pieces; one piece of `size` bytes for a plain file. */
  pieces: readonly SparsePiece[];
}

/** One pax header or GNU long name; the Go library that most writers and unpackers share stops at the same. */
const MAX_EXTENSION_BYTES = 1024 * 1024;
/** Extension headers before one entry: real writers use at most one of each of the four types. */
const MAX_EXTENSIONS = 8;
/** Global pax headers in one layer; git archive writes one. */
const MAX_GLOBAL_HEADERS = 1024;
const MAX_UID = 0xffff_ffff;

const TYPES: Record<string, TarEntryType> = {
  '0': 'file',
  '7': 'file',
  S: 'file',
  '1': 'link',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
};

interface Extensions {
  pax: PaxFields;
  longName: string | undefined;
  longLink: string | undefined;
  count: number;
}

/** Reads entries in order. What of an entry's data was not taken is skipped by the next `next()`. */
export class TarReader {
  readonly #reader: TarBytes;
  /** Payload bytes of the current entry that are still in the stream, and the padding behind them. */
  #left = 0;
  #padding = 0;
  #globals = 0;

  constructor(reader: TarBytes) {
    this.#reader = reader;
  }

  /** The next entry; `undefined` at the end of the archive. @throws TarError */
  async next(): Promise<TarEntry | undefined> {
    await this.#finishEntry();
    const extensions: Extensions = { pax: {}, longName: undefined, longLink: undefined, count: 0 };
    for (;;) {
      const block = await this.#reader.take(TAR_BLOCK);
      if (block.length === 0) return this.#end(extensions);
      if (block.length < TAR_BLOCK) throw new TarError('ends within a header');
      const header = parseHeader(block);
      if (header === undefined) return this.#end(extensions);
      if (header.size < 0) throw new TarError('negative size', header.name);
      if (await this.#extension(header, extensions)) continue;
      return this.#entry(header, block, extensions);
    }
  }

  /** The next bytes of the current entry's stored data; `undefined` when all were taken. @throws TarError */
  async data(): Promise<Buffer | undefined> {
    if (this.#left === 0) return undefined;
    const chunk = await this.#reader.some(this.#left);
    if (chunk === undefined) throw new TarError('ends within the data of an entry');
    this.#left -= chunk.length;
    return chunk;
  }

  async #finishEntry(): Promise<void> {
    const rest = this.#left + this.#padding;
    this.#left = 0;
    this.#padding = 0;
    if (!(await this.#reader.skip(rest))) throw new TarError('ends within the data of an entry');
  }

  #end(extensions: Extensions): undefined {
    if (extensions.count > 0) throw new TarError('ends after an extended header, without its entry');
    return undefined;
  }

  /** True if the header was an extension, which is then in `into`. */
  async #extension(header: RawHeader, into: Extensions): Promise<boolean> {
    if (!'xgLK'.includes(header.type)) return false;
    if (header.size > MAX_EXTENSION_BYTES) {
      throw new TarError(`extended header of more than ${MAX_EXTENSION_BYTES} bytes`, header.name);
    }
    if (header.type === 'g') {
      // Global headers change nothing that matters to a root file system; Go's reader leaves them alone as well.
      this.#globals++;
      if (this.#globals > MAX_GLOBAL_HEADERS) throw new TarError('too many global pax headers', header.name);
    } else {
      into.count++;
      if (into.count > MAX_EXTENSIONS) throw new TarError('too many extended headers in a row', header.name);
    }
    const bytes = await this.#reader.take(header.size);
    if (bytes.length < header.size || !(await this.#reader.skip(padding(header.size)))) {
      throw new TarError('ends within an extended header', header.name);
    }
    if (header.type === 'x') into.pax = { ...into.pax, ...parsePax(bytes, header.name) };
    if (header.type === 'L') into.longName = untilNul(bytes);
    if (header.type === 'K') into.longLink = untilNul(bytes);
    return true;
  }

  async #entry(header: RawHeader, block: Buffer, extensions: Extensions): Promise<TarEntry> {
    const { pax } = extensions;
    const name = pax.sparse?.name ?? pax.path ?? extensions.longName ?? header.name;
    // A folder in v7 archives is a file whose name ends with a slash.
    const type = header.type === '0' && name.endsWith('/') ? 'directory' : TYPES[header.type];
    if (type === undefined) {
      throw new TarError(`entry type ${JSON.stringify(header.type)} is not supported`, name);
    }
    const stored = type === 'file' ? (pax.size ?? header.size) : 0;
    const entry: TarEntry = {
      type,
      name,
      linkName: pax.linkPath ?? extensions.longLink ?? header.linkName,
      mode: header.mode & 0o7777,
      uid: ownerId(pax.uid ?? header.uid, 'uid', name),
      gid: ownerId(pax.gid ?? header.gid, 'gid', name),
      size: stored,
      mtime: pax.mtime ?? { seconds: header.mtime, nanoseconds: 0 },
      devMajor: header.devMajor,
      devMinor: header.devMinor,
      xattrs: pax.xattrs,
      pieces: stored > 0 ? [{ offset: 0, length: stored }] : [],
    };
    this.#left = stored;
    this.#padding = padding(stored);
    if (type === 'file') await this.#sparse(entry, header, block, pax);
    return entry;
  }

  async #sparse(entry: TarEntry, header: RawHeader, block: Buffer, pax: PaxFields): Promise<void> {
    const stored = this.#left;
    if (header.type === 'S') {
      const { map, realSize } = await oldGnuMap(block, this.#reader, entry.name);
      entry.pieces = checkedMap(map, realSize, stored, entry.name);
      entry.size = realSize;
      return;
    }
    if (pax.sparse === undefined) return;
    const realSize = pax.sparse.realSize;
    if (realSize === undefined) throw new TarError('sparse entry without a real size', entry.name);
    let map = pax.sparse.map;
    if (pax.sparse.mapInPayload) {
      const found = await payloadMap(this.#reader, stored, entry.name);
      map = found.map;
      this.#left = stored - found.bytes;
    }
    entry.pieces = checkedMap(map, realSize, this.#left, entry.name);
    entry.size = realSize;
  }
}

function padding(size: number): number {
  return (TAR_BLOCK - (size % TAR_BLOCK)) % TAR_BLOCK;
}

function untilNul(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end === -1 ? bytes.length : end);
}

function ownerId(id: number, what: string, entry: string): number {
  if (id < 0 || id > MAX_UID) throw new TarError(`${what} is out of range`, entry);
  return id;
}
