// Name servers and guests for tests of the DNS filter.
import { type Answer, type DecodedPacket, decode, encode, type Question } from 'dns-packet';
import type { DnsTransport } from '../dns/upstream.ts';

export interface Exchange {
  server: string;
  name: string;
  type: string;
  over: 'udp' | 'tcp';
}

/** What a name server does with a question: records, a whole answer of its own, or silence. */
export type Handler = (asked: Exchange, query: DecodedPacket) => Partial<DecodedPacket> | Buffer | 'silence';

export function record(name: string, type: string, data: unknown, ttl = 60): Answer {
  return { name, type, ttl, class: 'IN', data } as unknown as Answer;
}

/** Answers each question as it is told and remembers what it was asked. */
export class FakeNameServers implements DnsTransport {
  readonly asked: Exchange[] = [];
  handler: Handler;

  constructor(handler: Handler) {
    this.handler = handler;
  }

  exchange(
    server: string,
    message: Uint8Array,
    over: 'udp' | 'tcp',
    accepts: (reply: Uint8Array) => boolean,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const query = decode(Buffer.from(message));
    const [question] = query.questions ?? [];
    const asked = { server, name: question?.name ?? '', type: question?.type ?? '', over };
    this.asked.push(asked);
    const reply = this.handler(asked, query);
    if (reply !== 'silence') {
      const bytes = Buffer.isBuffer(reply) ? reply : answerTo(query, reply);
      if (accepts(bytes)) return Promise.resolve(bytes);
    }
    return new Promise((_resolve, reject) => {
      const abort = () => reject(new Error('nothing that is accepted came'));
      if (signal.aborted) abort();
      else signal.addEventListener('abort', abort, { once: true });
    });
  }
}

export function answerTo(query: DecodedPacket, reply: Partial<DecodedPacket>): Buffer {
  return encode({ id: query.id, questions: query.questions, flags: 0x0180, ...reply, type: 'response' });
}

/** A guest's question as bytes. */
export function ask(name: string, type = 'A', more: Partial<DecodedPacket> = {}): Buffer {
  const questions = [{ name, type, class: 'IN' } as Question];
  return encode({ type: 'query', id: 4242, flags: 0x0100, questions, ...more });
}
