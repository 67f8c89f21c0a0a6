// DNS over TCP: messages with a length of two bytes before each (RFC 1035, 4.2.2).
import { QUERY_BYTES_MAX } from './limits.ts';

const PREFIX_BYTES = 2;

/** Cuts a guest's byte stream into messages. */
export class DnsFrames {
  #held: Buffer = Buffer.alloc(0);

  /** The messages that are whole now; undefined when the stream cannot be one of DNS: close it. */
  push(chunk: Uint8Array): Buffer[] | undefined {
    this.#held = Buffer.concat([this.#held, chunk]);
    const messages: Buffer[] = [];
    while (this.#held.length >= PREFIX_BYTES) {
      const length = this.#held.readUInt16BE(0);
      if (length === 0 || length > QUERY_BYTES_MAX) return undefined;
      const end = PREFIX_BYTES + length;
      if (this.#held.length < end) break;
      messages.push(this.#held.subarray(PREFIX_BYTES, end));
      this.#held = this.#held.subarray(end);
    }
    return messages;
  }
}

/** A message with its length before it. */
export function frame(message: Uint8Array): Buffer {
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt16BE(message.length);
  return Buffer.concat([prefix, message]);
}
