// Reads the log of one run: from the beginning or the last lines, since a time, and on as it grows.
import { open, readFile } from 'node:fs/promises';

import { decodeRecord, HEADER_BYTES, type LogRecord, type LogStream, PAYLOAD_MAX_BYTES } from './record.ts';
import { listSegments, type Segment } from './segments.ts';

/** Output in the order in which it arrived. `lostBytes` were dropped before `data`, which then may be empty. */
export interface LogEntry {
  time: Date;
  stream: LogStream;
  data: Uint8Array;
  lostBytes: number;
}

export interface LogReadOptions {
  /** The run before the last one. */
  previous?: boolean;
  /** Go on as the log grows, until the run is over. */
  follow?: boolean;
  /** Only the last so many lines. */
  tailLines?: number;
  since?: Date;
  signal: AbortSignal;
}

/** What tells a follower that there may be more, or that there will not. */
export interface Growth {
  /** Is a writer at work on this run? */
  isOpen(run: number): boolean;
  /** Resolves at the next append or close, or when the signal aborts. */
  changed(signal: AbortSignal): Promise<void>;
}

/** How much of a segment is read at once. */
const READ_BYTES = 1024 * 1024;

/** Entries of one run of a log directory; none when there is no such run. */
export async function* readLog(
  dir: string,
  currentRun: number,
  growth: Growth,
  options: LogReadOptions,
): AsyncGenerator<LogEntry> {
  const { signal } = options;
  const segments = await listSegments(dir);
  const run = options.previous ? segments.findLast((each) => each.run < currentRun)?.run : currentRun;
  if (run === undefined) return;

  let place = { segment: 0, position: 0 };
  if (options.tailLines !== undefined) {
    const tail = await lastLines(
      segments.filter((each) => each.run === run),
      options.tailLines,
    );
    place = tail.end;
    for (const entry of tail.entries) if (isSince(entry, options.since)) yield entry;
  }
  for (;;) {
    // Asked before reading: what a writer adds before it closes is then in what is read.
    const open = options.follow === true && growth.isOpen(run);
    const change = new AbortController();
    const grown = open ? growth.changed(AbortSignal.any([signal, change.signal])) : undefined;
    try {
      for await (const { record, end } of readFrom(dir, run, place, signal)) {
        place = end;
        const entry = entryOf(record);
        if (entry !== undefined && isSince(entry, options.since)) yield entry;
      }
      if (!open) return;
      await grown;
    } finally {
      change.abort();
    }
    if (signal.aborted) return;
  }
}

async function* readFrom(
  dir: string,
  run: number,
  from: { segment: number; position: number },
  signal: AbortSignal,
): AsyncGenerator<{ record: LogRecord; end: { segment: number; position: number } }> {
  for (const segment of await listSegments(dir)) {
    if (segment.run !== run || segment.segment < from.segment || signal.aborted) continue;
    const start = segment.segment === from.segment ? from.position : 0;
    for await (const { record, next } of readSegment(segment, start)) {
      if (signal.aborted) return;
      yield { record, end: { segment: segment.segment, position: next } };
    }
  }
}

async function* readSegment(
  segment: Segment,
  start: number,
): AsyncGenerator<{ record: LogRecord; next: number }> {
  let file: Awaited<ReturnType<typeof open>>;
  try {
    file = await open(segment.path, 'r');
  } catch (error) {
    // Rotated away between listing and opening.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  try {
    let position = start;
    const buffer = Buffer.allocUnsafe(READ_BYTES + HEADER_BYTES + PAYLOAD_MAX_BYTES);
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
      // Records leave here as copies: the buffer is used again.
      const content = Buffer.from(buffer.subarray(0, bytesRead));
      let at = 0;
      for (;;) {
        const decoded = decodeRecord(content, at);
        if (decoded === undefined) break;
        at = decoded.next;
        yield { record: decoded.record, next: position + at };
      }
      if (at === 0) return;
      position += at;
    }
  } finally {
    await file.close();
  }
}

/** The last lines over all segments, newest segment first, so that no more is read than is needed. */
async function lastLines(
  segments: Segment[],
  lines: number,
): Promise<{ entries: LogEntry[]; end: { segment: number; position: number } }> {
  let end = { segment: 0, position: 0 };
  let entries: LogEntry[] = [];
  for (const segment of segments.toReversed()) {
    const content = await readFile(segment.path).catch(() => Buffer.alloc(0));
    const own: LogEntry[] = [];
    let position = 0;
    for (;;) {
      const decoded = decodeRecord(content, position);
      if (decoded === undefined) break;
      position = decoded.next;
      const entry = entryOf(decoded.record);
      if (entry !== undefined) own.push(entry);
    }
    if (end.segment === 0) end = { segment: segment.segment, position };
    entries = [...own, ...entries];
    const cut = cutToLines(entries, lines);
    if (cut !== undefined) return { entries: cut, end };
  }
  return { entries: lines === 0 ? [] : entries, end };
}

/** The entries from the beginning of the last `lines` lines; `undefined` when there are not that many. */
function cutToLines(entries: LogEntry[], lines: number): LogEntry[] | undefined {
  if (lines === 0) return [];
  let left = lines;
  let seenLast = false;
  for (let index = entries.length - 1; index >= 0; index -= 1) {
    const entry = entries[index];
    if (entry === undefined) continue;
    for (let at = entry.data.length - 1; at >= 0; at -= 1) {
      const isNewline = entry.data[at] === 0x0a;
      // The newline at the very end closes the last line; it does not begin another.
      if (isNewline && seenLast) {
        left -= 1;
        if (left === 0) {
          const rest = { ...entry, data: entry.data.subarray(at + 1), lostBytes: 0 };
          return [...(rest.data.length > 0 ? [rest] : []), ...entries.slice(index + 1)];
        }
      }
      seenLast = true;
    }
  }
  return undefined;
}

function entryOf(record: LogRecord): LogEntry | undefined {
  if (record.kind === 'checkpoint') return undefined;
  const base = { time: new Date(record.timeMs), stream: record.stream };
  return record.kind === 'output'
    ? { ...base, data: record.data, lostBytes: 0 }
    : { ...base, data: new Uint8Array(0), lostBytes: record.bytes };
}

function isSince(entry: LogEntry, since: Date | undefined): boolean {
  return since === undefined || entry.time >= since;
}
