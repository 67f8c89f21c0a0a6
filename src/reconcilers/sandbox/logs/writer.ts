// Appends the main process's output to its log. A log that cannot be written never stops the process: what could not
// be kept is counted, and the count is written as soon as writing works again.
import { type FileHandle, mkdir, open } from 'node:fs/promises';

import type { OutputChunk } from '../../../guest/agent.ts';
import { decodeRecord, encodeRecord, type LogRecord, type LogStream, PAYLOAD_MAX_BYTES } from './record.ts';
import { listSegments, pruneSegments, SEGMENT_MAX_BYTES, segmentPath } from './segments.ts';

/** How far each stream is in the log: where to take it up again. */
export interface LogOffsets {
  stdout: number;
  stderr: number;
}

export interface LogWriterOptions {
  dir: string;
  run: number;
  now: () => number;
  /** Called after each append. */
  onAppend: () => void;
  /** Called once per row of failures. */
  onError: (error: Error) => void;
  segmentMaxBytes?: number;
}

/** One run's log, open at its end. Calls must not overlap: there is one writer per sandbox, its output pump. */
export class LogWriter {
  readonly #options: LogWriterOptions;
  readonly #offsets: LogOffsets = { stdout: 0, stderr: 0 };
  readonly #unwritten = { stdout: 0, stderr: 0 };
  #file: FileHandle | undefined;
  #segment = 1;
  #size = 0;
  #failing = false;

  private constructor(options: LogWriterOptions) {
    this.#options = options;
  }

  /** Opens the log of a run; what a crash left torn at its end is cut off. Never fails: see `onError`. */
  static async open(options: LogWriterOptions): Promise<LogWriter> {
    const writer = new LogWriter(options);
    await writer.#guard(() => writer.#resume());
    return writer;
  }

  get offsets(): LogOffsets {
    return { ...this.#offsets };
  }

  async append(chunk: OutputChunk): Promise<void> {
    const { stream } = chunk;
    const timeMs = this.#options.now();
    // What overlaps the log already was replayed from the guest's ring.
    const skip = Math.max(0, this.#offsets[stream] - chunk.offset);
    if (skip > 0 && skip >= chunk.data.byteLength) return;
    const gap = Math.max(0, chunk.offset - this.#offsets[stream]);
    await this.#write(
      stream,
      gap,
      () => {
        const records: LogRecord[] = [];
        const lost = gap + this.#unwritten[stream];
        if (lost > 0) {
          const endOffset = chunk.offset + skip;
          records.push({ kind: 'lost', stream, timeMs, endOffset, bytes: lost });
        }
        for (let at = skip; at < chunk.data.byteLength; at += PAYLOAD_MAX_BYTES) {
          const data = chunk.data.subarray(at, at + PAYLOAD_MAX_BYTES);
          const endOffset = chunk.offset + at + data.byteLength;
          records.push({ kind: 'output', stream, timeMs, endOffset, data });
        }
        return records;
      },
      chunk.data.byteLength - skip,
    );
    this.#offsets[stream] = Math.max(this.#offsets[stream], chunk.offset + chunk.data.byteLength);
    this.#options.onAppend();
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await this.#guard(async () => file?.close());
  }

  async #write(stream: LogStream, gap: number, records: () => LogRecord[], bytes: number): Promise<void> {
    const written = await this.#guard(async () => {
      if (this.#file === undefined || this.#size >= this.#segmentMax) await this.#nextSegment();
      await this.#appendAll(records());
    });
    this.#unwritten[stream] = written ? 0 : this.#unwritten[stream] + gap + bytes;
  }

  get #segmentMax(): number {
    return this.#options.segmentMaxBytes ?? SEGMENT_MAX_BYTES;
  }

  async #appendAll(records: LogRecord[]): Promise<void> {
    const file = this.#file;
    if (file === undefined) throw new Error('the log is closed');
    const buffer = Buffer.concat(records.map(encodeRecord));
    try {
      let done = 0;
      while (done < buffer.length) {
        const { bytesWritten } = await file.write(buffer, done, buffer.length - done, this.#size + done);
        done += bytesWritten;
      }
    } catch (error) {
      // A part that was written would hide what follows it.
      await file.truncate(this.#size).catch(() => {});
      throw error;
    }
    this.#size += buffer.length;
  }

  async #resume(): Promise<void> {
    const { dir, run } = this.#options;
    await mkdir(dir, { recursive: true, mode: 0o700 });
    await pruneSegments(dir, run);
    const last = (await listSegments(dir)).findLast((each) => each.run === run);
    if (last === undefined) return;
    this.#segment = last.segment;
    const file = await open(last.path, 'r+');
    this.#file = file;
    const content = await file.readFile();
    let position = 0;
    for (;;) {
      const decoded = decodeRecord(content, position);
      if (decoded === undefined) break;
      this.#take(decoded.record);
      position = decoded.next;
    }
    if (position < content.length) await file.truncate(position);
    this.#size = position;
    if (position === 0) await this.#appendAll([this.#checkpoint()]);
  }

  #take(record: LogRecord): void {
    if (record.kind === 'checkpoint') {
      this.#offsets.stdout = record.stdout;
      this.#offsets.stderr = record.stderr;
    } else {
      this.#offsets[record.stream] = record.endOffset;
    }
  }

  #checkpoint(): LogRecord {
    return { kind: 'checkpoint', timeMs: this.#options.now(), ...this.#offsets };
  }

  async #nextSegment(): Promise<void> {
    const { dir, run } = this.#options;
    const number = this.#file === undefined && this.#size === 0 ? this.#segment : this.#segment + 1;
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const file = await open(segmentPath(dir, run, number), 'w+', 0o600);
    await this.#file?.close();
    this.#file = file;
    this.#segment = number;
    this.#size = 0;
    await this.#appendAll([this.#checkpoint()]);
    await pruneSegments(dir, run);
  }

  /** Runs it; a failure is told once per row of failures. */
  async #guard(work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work();
      this.#failing = false;
      return true;
    } catch (error) {
      if (!this.#failing) this.#options.onError(error instanceof Error ? error : new Error(String(error)));
      this.#failing = true;
      return false;
    }
  }
}
