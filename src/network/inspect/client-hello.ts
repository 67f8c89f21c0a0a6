// Reads the server name out of the first bytes of a TLS connection (RFC 8446, RFC 6066), split over records as it may be.

/** Post-quantum key shares make a ClientHello some 2 KiB; nothing honest comes near this. */
export const CLIENT_HELLO_MAX = 65_536;
/** RFC 8446, 5.1: the payload of a plaintext record. */
const RECORD_MAX = 16_384;
/** A fragment of one byte each is legal and of no use; more records than this are an attempt to be slow. */
const RECORDS_MAX = 64;
const RECORD_HEADER_BYTES = 5;
const HANDSHAKE_HEADER_BYTES = 4;
const CONTENT_HANDSHAKE = 22;
const HANDSHAKE_CLIENT_HELLO = 1;
const EXTENSION_SERVER_NAME = 0;
const EXTENSION_ALPN = 16;
const EXTENSION_ENCRYPTED_HELLO = 0xfe0d;
const NAME_TYPE_HOST = 0;
const NAME_MAX = 255;

export type ClientHello =
  /** So far it may become one. */
  | { readonly state: 'incomplete' }
  /** It is not TLS. */
  | { readonly state: 'other' }
  /** It begins like TLS and breaks its rules: what a lenient server makes of it cannot be told. */
  | { readonly state: 'invalid' }
  | {
      readonly state: 'hello';
      /** As the client wrote it; null where it names none. */
      readonly serverName: string | null;
      readonly alpn: readonly string[];
      /** It carries an encrypted ClientHello, or the grease that looks like one. */
      readonly encryptedHello: boolean;
    };

const INCOMPLETE: ClientHello = { state: 'incomplete' };
const INVALID: ClientHello = { state: 'invalid' };

/** A bounded cursor: reads beyond the end are remembered, and give nothing. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;
  failed = false;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  number(size: 1 | 2 | 3): number {
    const bytes = this.take(size);
    return bytes.length === size ? bytes.readUIntBE(0, size) : 0;
  }

  take(count: number): Buffer {
    if (this.#at + count > this.#bytes.length) {
      this.failed = true;
      return Buffer.alloc(0);
    }
    this.#at += count;
    return this.#bytes.subarray(this.#at - count, this.#at);
  }

  /** What follows behind a length of so many bytes. */
  vector(size: 1 | 2): Buffer {
    return this.take(this.number(size));
  }
}

/** Looks at all bytes that came so far; called again with more of them while it says `incomplete`. */
export function readClientHello(bytes: Uint8Array): ClientHello {
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (data.length === 0) return INCOMPLETE;
  const old = readOldHello(data);
  if (old !== undefined) return old;
  if (data[0] !== CONTENT_HANDSHAKE || (data.length > 1 && data[1] !== 3)) return { state: 'other' };
  const handshake = joinRecords(data);
  if (handshake === undefined) return INVALID;
  if (handshake.length > 0 && handshake[0] !== HANDSHAKE_CLIENT_HELLO) return INVALID;
  if (handshake.length < HANDSHAKE_HEADER_BYTES) return INCOMPLETE;
  const length = handshake.readUIntBE(1, 3);
  if (length > CLIENT_HELLO_MAX) return INVALID;
  const end = HANDSHAKE_HEADER_BYTES + length;
  return handshake.length < end ? INCOMPLETE : readBody(handshake.subarray(HANDSHAKE_HEADER_BYTES, end));
}

/**
 * The ClientHello in the form of SSL 2.0, which libraries of servers still take (RFC 5246, E.2), and which has no room for a
 * server name. Undefined where these bytes are none.
 */
function readOldHello(data: Buffer): ClientHello | undefined {
  const [first = 0, , type = HANDSHAKE_CLIENT_HELLO, major = 3] = data;
  if ((first & 0x80) === 0 || type !== HANDSHAKE_CLIENT_HELLO || major !== 3) return undefined;
  return data.length < 4 ? INCOMPLETE : INVALID;
}

/** The handshake bytes of the records so far, up to a whole ClientHello; undefined where they break the rules of records. */
function joinRecords(data: Buffer): Buffer | undefined {
  const parts: Buffer[] = [];
  let total = 0;
  let wanted = Number.POSITIVE_INFINITY;
  for (let at = 0; at < data.length && total < wanted; ) {
    if (data[at] !== CONTENT_HANDSHAKE || (data.length > at + 1 && data[at + 1] !== 3)) return undefined;
    if (at + RECORD_HEADER_BYTES > data.length) break;
    const length = data.readUInt16BE(at + 3);
    if (length === 0 || length > RECORD_MAX || parts.length === RECORDS_MAX) return undefined;
    const part = data.subarray(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + length);
    parts.push(part);
    total += part.length;
    at += RECORD_HEADER_BYTES + length;
    if (wanted === Number.POSITIVE_INFINITY && total >= HANDSHAKE_HEADER_BYTES) {
      wanted = HANDSHAKE_HEADER_BYTES + Buffer.concat(parts).readUIntBE(1, 3);
    }
  }
  return Buffer.concat(parts);
}

function readBody(body: Buffer): ClientHello {
  const reader = new Reader(body);
  reader.take(2 + 32); // version and random
  reader.vector(1); // session id
  reader.vector(2); // cipher suites
  reader.vector(1); // compression methods
  if (reader.failed) return INVALID;
  // Extensions are optional before TLS 1.3.
  const extensions = reader.isAtEnd ? Buffer.alloc(0) : reader.vector(2);
  if (reader.failed || !reader.isAtEnd) return INVALID;
  return readExtensions(extensions);
}

function readExtensions(bytes: Buffer): ClientHello {
  const reader = new Reader(bytes);
  const seen = new Set<number>();
  let serverName: string | null | undefined = null;
  let alpn: string[] | undefined = [];
  while (!reader.isAtEnd) {
    const type = reader.number(2);
    const value = reader.vector(2);
    if (reader.failed || seen.has(type)) return INVALID;
    seen.add(type);
    if (type === EXTENSION_SERVER_NAME) serverName = readServerName(value);
    if (type === EXTENSION_ALPN) alpn = readProtocols(value);
  }
  if (serverName === undefined || alpn === undefined) return INVALID;
  return { state: 'hello', serverName, alpn, encryptedHello: seen.has(EXTENSION_ENCRYPTED_HELLO) };
}

/** The host name of the extension; undefined where it has not exactly one. */
function readServerName(value: Buffer): string | undefined {
  const outer = new Reader(value);
  const list = new Reader(outer.vector(2));
  const type = list.number(1);
  const name = list.vector(2);
  if (outer.failed || list.failed || !outer.isAtEnd || !list.isAtEnd) return undefined;
  if (type !== NAME_TYPE_HOST || name.length === 0 || name.length > NAME_MAX) return undefined;
  return name.toString('latin1');
}

function readProtocols(value: Buffer): string[] | undefined {
  const outer = new Reader(value);
  const list = new Reader(outer.vector(2));
  if (outer.failed || !outer.isAtEnd) return undefined;
  const protocols: string[] = [];
  while (!list.isAtEnd) {
    const name = list.vector(1);
    if (list.failed || name.length === 0) return undefined;
    protocols.push(name.toString('latin1'));
  }
  return protocols;
}
