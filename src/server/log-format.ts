// A log as people read it: the bytes as they came, with a note where some are missing and times where asked.
import type { LogEntry } from './contracts.ts';

const NEWLINE = 0x0a;

/** Turns entries into the bytes to send. Both streams share one text, so a line that one has begun may be cut by the other. */
export function logFormat(timestamps: boolean): (entry: LogEntry) => Iterable<Uint8Array> {
  let atLineStart = true;

  function* lines(time: Date, data: Uint8Array): Iterable<Uint8Array> {
    const prefix = Buffer.from(`${time.toISOString()} `);
    for (let start = 0; start < data.length; ) {
      const newline = data.indexOf(NEWLINE, start);
      const end = newline === -1 ? data.length : newline + 1;
      if (atLineStart) yield prefix;
      yield data.subarray(start, end);
      atLineStart = newline !== -1;
      start = end;
    }
  }

  return function* format({ time, stream, data, lostBytes }) {
    if (lostBytes > 0) {
      const note = `${atLineStart ? '' : '\n'}bulkhead: ${lostBytes} bytes of ${stream} were lost here\n`;
      yield Buffer.from(note);
      atLineStart = true;
    }
    if (timestamps) {
      yield* lines(time, data);
    } else if (data.length > 0) {
      yield data;
      atLineStart = data.at(-1) === NEWLINE;
    }
  };
}
