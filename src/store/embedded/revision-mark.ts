// The highest revision that the store has acknowledged, in a small file of its own. SQLite cannot tell a write-ahead log
// that lost its end in a power cut from one that was damaged, cut off or removed: it drops what does not verify and goes
// on with an older state, in which deleted sandboxes are back. Against this mark the older state shows.
//
// A commit is on disk before its mark is written, so the mark is never ahead of a healthy store, and a log whose torn end
// was acknowledged to nobody is never refused. The mark is not synced with each commit: kill -9 cannot undo a write, and
// after a power cut it may be behind by what was committed in the last `SYNC_INTERVAL_MS`. So a write waits for one sync,
// as before, and 17 more bytes in the page cache. Events alone move no revision; one that is lost shows in nothing.
import {
  closeSync,
  existsSync,
  fdatasync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { corrupt } from './failures.ts';

/** How far the mark on disk may be behind in a power cut. */
const SYNC_INTERVAL_MS = 1_000;
/** Holds every safe integer; a text of one length is written over in place, within one sector. */
const DIGITS = 16;
const TEXT = new RegExp(`^\\d{${DIGITS}}\\n$`);

export function markPath(store: string): string {
  return `${store}-revision`;
}

/** The revision that the store once had at least; 0 when there is no mark. Fails with STORE_CORRUPT. */
export function readMark(store: string): number {
  let text: string;
  try {
    text = readFileSync(markPath(store), 'latin1');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0;
    throw error;
  }
  if (TEXT.test(text)) return Number(text);
  const path = markPath(store);
  throw corrupt(store, `${path} is no revision; if the store itself is known to be good, remove that file`);
}

/** To be called before a store is made anew: what a former one reached says nothing about it. */
export function removeMark(store: string): void {
  rmSync(markPath(store), { force: true });
}

/** The mark of an open store. */
export class RevisionMark {
  readonly #file: number;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** Makes the file when there is none, else goes on with it: opening a store needs no room on the disk. */
  constructor(store: string, revision: number) {
    const path = markPath(store);
    if (!existsSync(path)) createMark(path, revision);
    this.#file = openSync(path, 'r+');
    this.advance(revision);
  }

  /** `revision` is on disk. Never fails: a mark that could not be written is behind, which is safe. */
  advance(revision: number): void {
    try {
      writeSync(this.#file, textOf(revision), 0, 'latin1');
    } catch {
      return;
    }
    this.#timer ??= setTimeout(() => this.#sync(), SYNC_INTERVAL_MS).unref();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    try {
      fsyncSync(this.#file);
    } catch {
      // As with `advance`.
    }
    closeSync(this.#file);
  }

  #sync(): void {
    this.#timer = undefined;
    if (!this.#closed) fdatasync(this.#file, () => {});
  }
}

function textOf(revision: number): string {
  return `${String(revision).padStart(DIGITS, '0')}\n`;
}

/** Never empty or half written under its name, also after a power cut. */
function createMark(path: string, revision: number): void {
  const temporary = `${path}.new`;
  writeFileSync(temporary, textOf(revision), { mode: 0o600, flush: true });
  renameSync(temporary, path);
  const directory = openSync(dirname(path), 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}
