// The form of a log file: records one after another, each with its own check, so that a torn or rotten end is found
// and cut off, and nothing before it is lost.
//
//   u32 payload bytes · u32 CRC-32 of the rest of the header and the payload · u8 kind · u8 zero ·
//   u48 milliseconds since the epoch · u64 stream offset after this record · payload        (big endian)
import { crc32 } from 'node:zlib';

export const HEADER_BYTES = 24;
/** The longest payload of one record; longer chunks are split. Bounds what a reader takes into memory for one record. */
export const PAYLOAD_MAX_BYTES = 256 * 1024;

export type LogStream = 'stdout' | 'stderr';

/** One piece of output, a count of bytes that were dropped, or where both streams stood when the file began. */
export type LogRecord =
  | { kind: 'output'; stream: LogStream; timeMs: number; endOffset: number; data: Uint8Array }
  | { kind: 'lost'; stream: LogStream; timeMs: number; endOffset: number; bytes: number }
  | { kind: 'checkpoint'; timeMs: number; stdout: number; stderr: number };

const KIND = { checkpoint: 0, stdout: 1, stderr: 2, lostStdout: 3, lostStderr: 4 } as const;

export function encodeRecord(record: LogRecord): Buffer {
  const payload = payloadOf(record);
  const buffer = Buffer.allocUnsafe(HEADER_BYTES + payload.byteLength);
  buffer.writeUInt32BE(payload.byteLength, 0);
  buffer.writeUInt8(kindOf(record), 8);
  buffer.writeUInt8(0, 9);
  buffer.writeUIntBE(Math.max(0, Math.trunc(record.timeMs)), 10, 6);
  buffer.writeBigUInt64BE(BigInt(record.kind === 'checkpoint' ? 0 : record.endOffset), 16);
  buffer.set(payload, HEADER_BYTES);
  buffer.writeUInt32BE(crc32(buffer.subarray(8)), 4);
  return buffer;
}

/** The record at `position` and where the next begins; `undefined` for an incomplete or damaged one. */
export function decodeRecord(
  buffer: Buffer,
  position: number,
): { record: LogRecord; next: number } | undefined {
  if (buffer.length - position < HEADER_BYTES) return undefined;
  const length = buffer.readUInt32BE(position);
  if (length > PAYLOAD_MAX_BYTES || buffer.length - position - HEADER_BYTES < length) return undefined;
  const next = position + HEADER_BYTES + length;
  if (crc32(buffer.subarray(position + 8, next)) !== buffer.readUInt32BE(position + 4)) return undefined;
  const record = recordOf(
    buffer.readUInt8(position + 8),
    buffer.readUIntBE(position + 10, 6),
    Number(buffer.readBigUInt64BE(position + 16)),
    buffer.subarray(position + HEADER_BYTES, next),
  );
  return record === undefined ? undefined : { record, next };
}

function kindOf(record: LogRecord): number {
  if (record.kind === 'checkpoint') return KIND.checkpoint;
  if (record.kind === 'output') return record.stream === 'stdout' ? KIND.stdout : KIND.stderr;
  return record.stream === 'stdout' ? KIND.lostStdout : KIND.lostStderr;
}

function payloadOf(record: LogRecord): Uint8Array {
  if (record.kind === 'output') return record.data;
  const numbers = record.kind === 'lost' ? [record.bytes] : [record.stdout, record.stderr];
  const buffer = Buffer.alloc(8 * numbers.length);
  numbers.forEach((value, index) => {
    buffer.writeBigUInt64BE(BigInt(value), 8 * index);
  });
  return buffer;
}

function recordOf(kind: number, timeMs: number, endOffset: number, payload: Buffer): LogRecord | undefined {
  const stream = kind === KIND.stdout || kind === KIND.lostStdout ? 'stdout' : 'stderr';
  switch (kind) {
    case KIND.stdout:
    case KIND.stderr:
      return { kind: 'output', stream, timeMs, endOffset, data: payload };
    case KIND.lostStdout:
    case KIND.lostStderr:
      if (payload.length !== 8) return undefined;
      return { kind: 'lost', stream, timeMs, endOffset, bytes: Number(payload.readBigUInt64BE()) };
    case KIND.checkpoint:
      if (payload.length !== 16) return undefined;
      return {
        kind: 'checkpoint',
        timeMs,
        stdout: Number(payload.readBigUInt64BE()),
        stderr: Number(payload.readBigUInt64BE(8)),
      };
    default:
      return undefined;
  }
}
