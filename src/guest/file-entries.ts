// FileEntry messages out of the bytes of a session: each behind its length, from a guest that may lie about both.
import { fromBinary } from '@bufbuild/protobuf';
import type { GuestFile } from './agent.ts';
import { protocolError } from './frames.ts';
import { type FileEntry, FileEntrySchema, FileKind } from './generated/agent_pb.js';
import { MAX_FILE_ENTRY_BYTES } from './limits.ts';
import { safeCount } from './messages.ts';

const KINDS: Record<FileKind, GuestFile['kind']> = {
  [FileKind.REGULAR]: 'file',
  [FileKind.DIRECTORY]: 'directory',
  [FileKind.SYMLINK]: 'symlink',
  [FileKind.OTHER]: 'other',
};
/** A length within the bound takes two bytes of seven bits. */
const LENGTH_BYTES_MAX = 2;
const NANOSECONDS = 1_000_000n;
/** What a JavaScript Date can hold. */
const DATE_MAX_MS = 8_640_000_000_000_000n;

function milliseconds(nanoseconds: bigint): number {
  const ms = nanoseconds / NANOSECONDS;
  if (ms > DATE_MAX_MS || ms < -DATE_MAX_MS) throw protocolError('an impossible time');
  return Number(ms);
}

function toGuestFile(entry: FileEntry): GuestFile {
  const name = Buffer.from(entry.name).toString();
  if (name.includes('/') || name.includes('\0') || name === '.' || name === '..')
    throw protocolError('an impossible file name');
  return {
    name,
    kind: KINDS[entry.kind] ?? 'other',
    sizeBytes: safeCount(entry.size),
    mode: entry.mode & 0o7777,
    uid: entry.uid,
    gid: entry.gid,
    modifiedMs: milliseconds(entry.modifiedNs),
    ...(entry.birthNs === 0n ? {} : { createdMs: milliseconds(entry.birthNs) }),
    ...(entry.kind === FileKind.SYMLINK ? { target: Buffer.from(entry.target).toString() } : {}),
  };
}

/** Memory: at most one entry, whatever the pieces that come. */
export class FileEntryDecoder {
  #rest: Buffer = Buffer.alloc(0);

  /** The entries that are complete with this piece. Throws AGENT_PROTOCOL. */
  *push(piece: Uint8Array): Generator<GuestFile> {
    this.add(piece);
    for (let entry = this.entry(); entry !== undefined; entry = this.entry()) yield entry;
  }

  /** Adds a piece, for `entry` and `content` to take from. */
  add(piece: Uint8Array): void {
    this.#rest = this.#rest.length === 0 ? Buffer.from(piece) : Buffer.concat([this.#rest, piece]);
  }

  /** The next entry, where all of it is there. Throws AGENT_PROTOCOL. */
  entry(): GuestFile | undefined {
    const length = this.#lengthAt(0);
    if (length === undefined || length.bytes + length.value > this.#rest.length) return undefined;
    const bytes = this.#take(length.bytes + length.value);
    return this.#decode(bytes.subarray(length.bytes));
  }

  /** At most so many bytes behind an entry. */
  content(bytes: number): Buffer {
    return this.#take(Math.min(bytes, this.#rest.length));
  }

  #take(bytes: number): Buffer {
    const taken = this.#rest.subarray(0, bytes);
    this.#rest = this.#rest.subarray(bytes);
    return taken;
  }

  /** Nothing follows. Throws AGENT_PROTOCOL in the middle of an entry. */
  end(): void {
    if (this.#rest.length > 0) throw protocolError('half a file entry');
  }

  #lengthAt(at: number): { value: number; bytes: number } | undefined {
    let value = 0;
    for (let bytes = 1; bytes <= LENGTH_BYTES_MAX; bytes++) {
      const byte = this.#rest[at + bytes - 1];
      if (byte === undefined) return undefined;
      value |= (byte & 0x7f) << (7 * (bytes - 1));
      if (byte >= 0x80) continue;
      if (value > MAX_FILE_ENTRY_BYTES) break;
      return { value, bytes };
    }
    throw protocolError('a file entry that is too long');
  }

  #decode(bytes: Uint8Array): GuestFile {
    let entry: FileEntry;
    try {
      entry = fromBinary(FileEntrySchema, bytes);
    } catch (error) {
      throw protocolError(`a file entry that cannot be read: ${String(error)}`);
    }
    return toGuestFile(entry);
  }
}
