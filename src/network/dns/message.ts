// DNS messages in and out. Everything that is decoded is encoded anew before it goes on, so that no byte of a guest reaches
// an upstream, nor one of an upstream a guest, that was not understood.
import { type Answer, decode, encode, type Packet, type Question as WireQuestion } from 'dns-packet';
import { normalizeName } from '../policy/names.ts';
import { QUERY_BYTES_MAX, RESPONSE_BYTES_MAX, UDP_PAYLOAD, UDP_PAYLOAD_PLAIN } from './limits.ts';

export const RCODES = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const;
export type Rcode = keyof typeof RCODES;

/** Types that the codec knows by number alone. */
export const SVCB_TYPES: readonly string[] = ['UNKNOWN_64', 'UNKNOWN_65'];

/**
 * Types that may be asked for. Others are of no use to a client, or of use to carry data (NULL, private types), to copy zones
 * (AXFR) or to flood others (ANY).
 */
const QUERY_TYPES = new Set([
  ...['A', 'AAAA', 'CNAME', 'MX', 'TXT', 'SRV', 'NS', 'SOA', 'PTR', 'CAA', 'NAPTR', 'TLSA', 'SSHFP', 'DS'],
  ...['DNSKEY', 'URI', ...SVCB_TYPES],
]);

const HEADER_BYTES = 12;
const OPCODE_MASK = 0xf;
const FLAG_RESPONSE = 0x8000;
const FLAG_TRUNCATED = 0x0200;
const FLAG_RECURSION_DESIRED = 0x0100;
const FLAG_RECURSION_AVAILABLE = 0x0080;
/** RFC 8914: the answer is withheld by a policy. */
const EXTENDED_ERROR_OPTION = 15;
const EXTENDED_ERROR_BLOCKED = Buffer.from([0, 15]);

export interface DnsQuery {
  readonly id: number;
  /** As the guest wrote it; its case is given back. */
  readonly question: WireQuestion;
  /** Normalized; undefined for a name that no rule could name. */
  readonly name: string | undefined;
  /** `A`, `AAAA`, `UNKNOWN_65`, ... */
  readonly type: string;
  readonly recursionDesired: boolean;
  /** Bytes that the guest takes over UDP. */
  readonly payload: number;
  readonly edns: boolean;
}

export interface DnsRecord {
  /** Normalized where it can be. */
  readonly name: string;
  readonly type: string;
  readonly ttl: number;
  /** As the codec decodes the type. */
  readonly data: unknown;
}

export type DecodedQuery =
  | { readonly kind: 'query'; readonly query: DnsQuery }
  /** To be answered with this code. */
  | { readonly kind: 'error'; readonly answer: Buffer }
  /** Not a question at all, or too short to be answered. */
  | { readonly kind: 'drop' };

function headerOnly(id: number, rcode: Rcode, opcode: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE(FLAG_RESPONSE | (opcode << 11) | RCODES[rcode], 2);
  return header;
}

/** Reads what a guest sent. Never throws. */
export function decodeQuery(bytes: Uint8Array): DecodedQuery {
  const message = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (message.length < HEADER_BYTES || message.length > QUERY_BYTES_MAX) return { kind: 'drop' };
  const id = message.readUInt16BE(0);
  const flags = message.readUInt16BE(2);
  if ((flags & FLAG_RESPONSE) !== 0) return { kind: 'drop' };
  const opcode = (flags >> 11) & OPCODE_MASK;
  const error = (rcode: Rcode): DecodedQuery => ({ kind: 'error', answer: headerOnly(id, rcode, opcode) });
  if (opcode !== 0) return error('NOTIMP');
  const counts = [4, 6, 8, 10].map((offset) => message.readUInt16BE(offset));
  const [questions, answers, authorities, additionals = 0] = counts;
  if (questions !== 1 || answers !== 0 || authorities !== 0 || additionals > 1) return error('FORMERR');
  const packet = tryDecode(message);
  const [question] = packet?.questions ?? [];
  if (packet === undefined || question === undefined) return error('FORMERR');
  const [extra] = packet.additionals ?? [];
  if (extra !== undefined && extra.type !== 'OPT') return error('FORMERR');
  if (question.class !== 'IN' || !QUERY_TYPES.has(question.type)) return error('REFUSED');
  const payload =
    extra === undefined
      ? UDP_PAYLOAD_PLAIN
      : Math.min(UDP_PAYLOAD, Math.max(UDP_PAYLOAD_PLAIN, extra.udpPayloadSize));
  return {
    kind: 'query',
    query: {
      id,
      question,
      name: normalizeName(question.name),
      type: question.type,
      recursionDesired: (flags & FLAG_RECURSION_DESIRED) !== 0,
      payload,
      edns: extra !== undefined,
    },
  };
}

function tryDecode(message: Buffer): Packet | undefined {
  try {
    return decode(message);
  } catch {
    return undefined; // The codec throws on whatever it cannot read.
  }
}

function encodeRecord({ name, type, ttl, data }: DnsRecord): Answer {
  return { name, type, ttl, class: 'IN', data } as unknown as Answer;
}

export interface DnsReply {
  readonly rcode: Rcode;
  readonly answers?: readonly DnsRecord[];
  readonly authorities?: readonly DnsRecord[];
  /** A policy withholds the answer. */
  readonly blocked?: true;
}

/** Writes the answer to a query. What does not fit over UDP is left out and said to be, so that the guest asks over TCP. */
export function encodeReply(query: DnsQuery, reply: DnsReply, over: 'udp' | 'tcp'): Buffer {
  const flags = FLAG_RECURSION_AVAILABLE | (query.recursionDesired ? FLAG_RECURSION_DESIRED : 0);
  const write = (more: number, answers: readonly DnsRecord[], authorities: readonly DnsRecord[]) =>
    encode({
      type: 'response',
      id: query.id,
      flags: flags | more | RCODES[reply.rcode],
      // A name that cannot be written as it was asked is not given back.
      questions: query.name === undefined ? [] : [query.question],
      answers: answers.map(encodeRecord),
      authorities: authorities.map(encodeRecord),
      additionals: query.edns ? [optRecord(reply.blocked === true)] : [],
    });
  const whole = write(0, reply.answers ?? [], reply.authorities ?? []);
  const max = over === 'tcp' ? RESPONSE_BYTES_MAX * 2 : query.payload;
  return whole.length <= max ? whole : write(FLAG_TRUNCATED, [], []);
}

function optRecord(blocked: boolean): Answer {
  const options = blocked ? [{ code: EXTENDED_ERROR_OPTION, data: EXTENDED_ERROR_BLOCKED }] : [];
  return {
    name: '.',
    type: 'OPT',
    udpPayloadSize: UDP_PAYLOAD,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    options,
  } as unknown as Answer;
}

/** A question of our own to an upstream: nothing of the guest's message but name and type. */
export function encodeQuestion(id: number, name: string, type: string): Buffer {
  return encode({
    type: 'query',
    id,
    flags: FLAG_RECURSION_DESIRED,
    questions: [{ name, type, class: 'IN' } as WireQuestion],
    additionals: [optRecord(false)],
  });
}

export interface UpstreamReply {
  /** RCODE as a number: upstreams may send any. */
  readonly rcode: number;
  readonly truncated: boolean;
  readonly answers: readonly DnsRecord[];
  readonly authorities: readonly DnsRecord[];
  /** On the wire. */
  readonly bytes: number;
}

/** Reads the answer to a question of ours; undefined for what is none: another id, another question, broken, too long. */
export function decodeReply(
  bytes: Uint8Array,
  id: number,
  name: string,
  type: string,
): UpstreamReply | undefined {
  const message = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (message.length < HEADER_BYTES || message.length > RESPONSE_BYTES_MAX) return undefined;
  const flags = message.readUInt16BE(2);
  if (message.readUInt16BE(0) !== id || (flags & FLAG_RESPONSE) === 0 || message.readUInt16BE(4) !== 1)
    return undefined;
  const packet = tryDecode(message);
  const [question] = packet?.questions ?? [];
  if (packet === undefined || question === undefined) return undefined;
  if (normalizeName(question.name) !== name || question.type !== type) return undefined;
  return {
    rcode: flags & 0xf,
    truncated: (flags & FLAG_TRUNCATED) !== 0,
    answers: recordsOf(packet.answers),
    authorities: recordsOf(packet.authorities),
    bytes: message.length,
  };
}

function recordsOf(answers: readonly Answer[] | undefined): DnsRecord[] {
  return (answers ?? []).flatMap((answer) => {
    if (!('data' in answer) || answer.class !== 'IN') return [];
    const { name, type, ttl = 0, data } = answer;
    return [{ name: normalizeName(name) ?? name, type, ttl, data }];
  });
}
