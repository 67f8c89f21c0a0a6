// Sparse maps: GNU's old header form, and pax 1.0's list at the start of the payload.

import type { TarBytes } from './bytes.ts';
import { number, TAR_BLOCK, TarError } from './header.ts';

/** Stored data: `length` bytes that belong at `offset` of the file; all else is a hole. */
export interface SparsePiece {
  offset: number;
  length: number;
}

/** Pieces of one file. A file fragmented worse than this is cheaper stored whole. */
const MAX_PIECES = 65_536;
const PIECES_IN_HEADER = 4;
const PIECES_IN_EXTENSION = 21;
const PIECE_BYTES = 24;

/** The map of an old GNU sparse entry (type `S`): in the header, continued in blocks after it. */
export async function oldGnuMap(
  header: Buffer,
  reader: TarBytes,
  entry: string,
): Promise<{ map: SparsePiece[]; realSize: number }> {
  const map: SparsePiece[] = [];
  const realSize = number(header, 483, 12, 'sparse real size', entry);
  addPieces(map, header, 386, PIECES_IN_HEADER, entry);
  let more = (header[482] ?? 0) !== 0;
  while (more) {
    const block = await reader.take(TAR_BLOCK);
    if (block.length < TAR_BLOCK) throw new TarError('ends within a sparse map', entry);
    addPieces(map, block, 0, PIECES_IN_EXTENSION, entry);
    more = (block[504] ?? 0) !== 0;
  }
  return { map, realSize };
}

function addPieces(map: SparsePiece[], block: Buffer, start: number, count: number, entry: string): void {
  for (let i = 0; i < count; i++) {
    const at = start + i * PIECE_BYTES;
    if (block[at] === 0) return;
    const offset = number(block, at, 12, 'sparse offset', entry);
    map.push({ offset, length: number(block, at + 12, 12, 'sparse length', entry) });
    if (map.length > MAX_PIECES) throw new TarError(`sparse map of more than ${MAX_PIECES} pieces`, entry);
  }
}

/** The map of a pax 1.0 sparse entry; `bytes` is how much of the payload it took, padding included. */
export async function payloadMap(
  reader: TarBytes,
  stored: number,
  entry: string,
): Promise<{ map: SparsePiece[]; bytes: number }> {
  let pending = '';
  let bytes = 0;
  const nextNumber = async (): Promise<number> => {
    let newline = pending.indexOf('\n');
    while (newline === -1) {
      if (bytes + TAR_BLOCK > stored) throw new TarError('sparse map is longer than its entry', entry);
      const block = await reader.take(TAR_BLOCK);
      if (block.length < TAR_BLOCK) throw new TarError('ends within a sparse map', entry);
      bytes += TAR_BLOCK;
      pending += block.toString('latin1');
      newline = pending.indexOf('\n');
    }
    const digits = pending.slice(0, newline);
    pending = pending.slice(newline + 1);
    if (!/^[0-9]{1,16}$/.test(digits)) throw new TarError('sparse map is not made of numbers', entry);
    return Number(digits);
  };
  const count = await nextNumber();
  if (count > MAX_PIECES) throw new TarError(`sparse map of more than ${MAX_PIECES} pieces`, entry);
  const map: SparsePiece[] = [];
  for (let i = 0; i < count; i++) {
    const offset = await nextNumber();
    map.push({ offset, length: await nextNumber() });
  }
  return { map, bytes };
}

/**
 * The map without empty pieces. @throws TarError unless the pieces ascend, do not overlap, lie within `realSize`, and
 * sum up to the `stored` bytes.
 */
export function checkedMap(
  map: readonly SparsePiece[],
  realSize: number,
  stored: number,
  entry: string,
): SparsePiece[] {
  if (map.length > MAX_PIECES) throw new TarError(`sparse map of more than ${MAX_PIECES} pieces`, entry);
  let end = 0;
  let sum = 0;
  for (const { offset, length } of map) {
    if (offset < end || length < 0 || offset + length > realSize) {
      throw new TarError('sparse map overlaps or leaves the file', entry);
    }
    end = offset + length;
    sum += length;
  }
  if (sum !== stored) throw new TarError('sparse map and stored size differ', entry);
  return map.filter((piece) => piece.length > 0);
}
