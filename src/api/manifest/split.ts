// Splits a YAML stream into its documents before anything parses it, so that one broken document costs none of the others.
import { isUtf8 } from 'node:buffer';

/** The bytes of one document, with its place. */
export interface Chunk {
  bytes: Uint8Array;
  /** Line of its first byte, from 1. */
  line: number;
}

const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const DASH = 0x2d;
const DOT = 0x2e;

/** Is there a marker of three such characters, then white space or the end? YAML allows none of them as content. */
function isMarker(bytes: Uint8Array, start: number, character: number): boolean {
  if (bytes[start] !== character || bytes[start + 1] !== character || bytes[start + 2] !== character)
    return false;
  const next = bytes[start + 3];
  return (
    next === undefined || next === 0x20 || next === 0x09 || next === LINE_FEED || next === CARRIAGE_RETURN
  );
}

/** Nothing but white space, comments and directives: belongs to the document that follows. */
function isPreamble(bytes: Uint8Array, start: number, end: number): boolean {
  let position = start;
  while (position < end) {
    const newline = bytes.indexOf(LINE_FEED, position);
    const lineEnd = newline === -1 || newline >= end ? end : newline;
    let first = position;
    while (
      first < lineEnd &&
      (bytes[first] === 0x20 || bytes[first] === 0x09 || bytes[first] === CARRIAGE_RETURN)
    ) {
      first += 1;
    }
    const isDirective = first === position && bytes[first] === 0x25;
    if (first < lineEnd && bytes[first] !== 0x23 && !isDirective) return false;
    position = lineEnd + 1;
  }
  return true;
}

/** Yields documents in order; those without any content are left out by the reader, not here. */
export function* splitDocuments(bytes: Uint8Array): Generator<Chunk> {
  let start = 0;
  let startLine = 1;
  let line = 1;
  let position = 0;
  // A document whose `---` has been seen; text before the first one is a document only if it says something.
  let open = false;
  while (position < bytes.length) {
    if (isMarker(bytes, position, DASH)) {
      if (open || !isPreamble(bytes, start, position)) {
        yield { bytes: bytes.subarray(start, position), line: startLine };
        start = position;
        startLine = line;
      }
      open = true;
    }
    const closes = isMarker(bytes, position, DOT);
    const newline = bytes.indexOf(LINE_FEED, position);
    position = newline === -1 ? bytes.length : newline + 1;
    line += 1;
    if (closes) {
      yield { bytes: bytes.subarray(start, position), line: startLine };
      start = position;
      startLine = line;
      open = false;
    }
  }
  if (open || !isPreamble(bytes, start, bytes.length)) {
    yield { bytes: bytes.subarray(start), line: startLine };
  }
}

/** Finds lines and columns in a text; asked once or ten thousand times. */
export class LineIndex {
  readonly #text: string;
  readonly #firstLine: number;
  #starts: number[] | undefined;

  /** `firstLine` is the line, in its file, on which the text begins. */
  constructor(text: string, firstLine: number) {
    this.#text = text;
    this.#firstLine = firstLine;
  }

  /** Line and column, from 1, of an offset. Columns count UTF-16 units, as editors do. */
  position(offset: number): { line: number; column: number } {
    this.#starts ??= lineStarts(this.#text);
    let low = 0;
    let high = this.#starts.length;
    while (low + 1 < high) {
      const middle = (low + high) >>> 1;
      if ((this.#starts[middle] ?? 0) <= offset) low = middle;
      else high = middle;
    }
    return { line: this.#firstLine + low, column: offset - (this.#starts[low] ?? 0) + 1 };
  }
}

function lineStarts(text: string): number[] {
  const starts = [0];
  for (let newline = text.indexOf('\n'); newline !== -1; newline = text.indexOf('\n', newline + 1)) {
    starts.push(newline + 1);
  }
  return starts;
}

/** Line and column of the first bytes that break UTF-8; `undefined` when none do. */
export function firstInvalidUtf8(bytes: Uint8Array): { line: number; column: number } | undefined {
  if (isUtf8(bytes)) return undefined;
  // A line feed is never part of a longer character, so lines can be looked at one by one.
  let start = 0;
  for (let line = 1; ; line += 1) {
    const newline = bytes.indexOf(LINE_FEED, start);
    const end = newline === -1 ? bytes.length : newline;
    const part = bytes.subarray(start, end);
    if (!isUtf8(part)) return { line, column: new TextDecoder().decode(part).indexOf('\ufffd') + 1 };
    if (newline === -1) return { line, column: 1 };
    start = newline + 1;
  }
}
