// Frames on the byte channel; guest/protocol/agent.proto has the format.
import { crc32 } from 'node:zlib';
import { BulkheadError } from '../api/errors.ts';
import { MAX_REPLY_BYTES, MAX_REQUEST_BYTES, MAX_STALE_BYTES } from './limits.ts';

const MAGIC = 0x31464842; // 'BHF1', little endian
const HEADER_BYTES = 12;

/** The guest broke the protocol. */
export function protocolError(message: string): BulkheadError {
  return new BulkheadError('AGENT_PROTOCOL', `the guest broke the agent protocol: ${message}`);
}

function checksum(length: Uint8Array, payload: Uint8Array): number {
  return crc32(payload, crc32(length));
}

/** Header and payload as one buffer. Throws TOO_LARGE above MAX_REQUEST_BYTES. */
export function encodeFrame(payload: Uint8Array): Buffer {
  if (payload.length > MAX_REQUEST_BYTES) {
    throw new BulkheadError(
      'TOO_LARGE',
      `a request to the guest may have ${MAX_REQUEST_BYTES} bytes, this has ${payload.length}`,
    );
  }
  const frame = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
  frame.writeUInt32LE(MAGIC, 0);
  frame.writeUInt32LE(payload.length, 4);
  frame.set(payload, HEADER_BYTES);
  frame.writeUInt32LE(checksum(frame.subarray(4, 8), payload), 8);
  return frame;
}

/**
 * Takes the byte stream apart. Before the nonce of this connection everything is thrown away; after it, everything has
 * to be a frame. Memory: at most one frame, whatever the sizes of the pieces that come.
 */
export class FrameDecoder {
  #nonce: Buffer | undefined;
  #stale = 0;
  /** While looking for the nonce: the last bytes, that may be its beginning. */
  #tail: Buffer = Buffer.alloc(0);
  #frame: Buffer = Buffer.alloc(HEADER_BYTES);
  #filled = 0;

  constructor(nonce: Uint8Array) {
    this.#nonce = Buffer.from(nonce);
  }

  /** Whole payloads, in order. They may share memory with the chunk. Throws AGENT_PROTOCOL. */
  *push(chunk: Buffer): Generator<Buffer, void, undefined> {
    let rest = this.#nonce ? this.#findNonce(chunk, this.#nonce) : chunk;
    while (rest.length > 0) {
      const wanted = Math.min(this.#frame.length - this.#filled, rest.length);
      rest.copy(this.#frame, this.#filled, 0, wanted);
      this.#filled += wanted;
      rest = rest.subarray(wanted);
      if (this.#filled === HEADER_BYTES && this.#frame.length === HEADER_BYTES) this.#begin();
      if (this.#filled < this.#frame.length) continue;
      const payload = this.#frame.subarray(HEADER_BYTES);
      if (this.#frame.readUInt32LE(8) !== checksum(this.#frame.subarray(4, 8), payload)) {
        throw protocolError('a frame with a wrong checksum');
      }
      this.#frame = Buffer.alloc(HEADER_BYTES);
      this.#filled = 0;
      yield payload;
    }
  }

  #findNonce(chunk: Buffer, nonce: Buffer): Buffer {
    const bytes = Buffer.concat([this.#tail, chunk]);
    const at = bytes.indexOf(nonce);
    if (at < 0) {
      this.#stale += chunk.length;
      if (this.#stale > MAX_STALE_BYTES)
        throw protocolError(`no answer to the hello in ${MAX_STALE_BYTES} bytes`);
      this.#tail = bytes.subarray(Math.max(0, bytes.length - nonce.length + 1));
      return Buffer.alloc(0);
    }
    this.#nonce = undefined;
    this.#tail = Buffer.alloc(0);
    return bytes.subarray(at + nonce.length);
  }

  #begin(): void {
    const header = this.#frame;
    if (header.readUInt32LE(0) !== MAGIC) throw protocolError('bytes that are no frame');
    const length = header.readUInt32LE(4);
    if (length > MAX_REPLY_BYTES)
      throw protocolError(`a frame of ${length} bytes; ${MAX_REPLY_BYTES} are allowed`);
    this.#frame = Buffer.allocUnsafe(HEADER_BYTES + length);
    header.copy(this.#frame);
  }
}
