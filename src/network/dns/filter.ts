// The DNS server of one sandbox: takes a message, gives back the answer. It decides each question by the policy, asks an
// upstream where it may, decides what came back, and remembers which names the sandbox was told which addresses for.
import type { Clock } from '../../controller/clock.ts';
import { decideQuery } from '../policy/decide.ts';
import type { EffectivePolicy } from '../policy/effective.ts';
import type { Decider } from '../policy/flow.ts';
import { HOST_NAME } from '../policy/names.ts';
import { AddressNames } from './address-names.ts';
import { filterAnswer } from './answers.ts';
import { QueryBudget } from './budget.ts';
import { type CachedReply, DnsCache, replyOf } from './cache.ts';
import { HOST_TTL_S, PENDING_MAX } from './limits.ts';
import { type DnsQuery, type DnsReply, decodeQuery, encodeReply } from './message.ts';
import type { Upstream } from './upstream.ts';

/** How a question ended. `Limited`: over the bounds of rate or of names; `Failed`: no upstream answered. */
/** How a question ends. */
export const DNS_RESULTS = ['Answered', 'Cached', 'Blocked', 'Limited', 'Failed', 'Malformed'] as const;
export type DnsResult = (typeof DNS_RESULTS)[number];

export interface DnsDecision {
  readonly result: DnsResult;
  /** Absent where no question could be read. */
  readonly name?: string;
  readonly type?: string;
  /** What decided; absent where nothing was decided. */
  readonly by?: Decider;
  readonly milliseconds: number;
}

export interface DnsFilterOptions {
  readonly policy: EffectivePolicy;
  readonly upstream: Upstream;
  /** The host's own name servers, asked where the policy names none. */
  readonly hostServers: () => readonly string[];
  /** Addresses by which the guest reaches the host: what `host.bulkhead.internal` resolves to. */
  readonly hostAddresses: { readonly v4?: string; readonly v6?: string };
  /** Is this one of the host's own addresses? */
  readonly isHostAddress: (address: string) => boolean;
  readonly clock: Clock;
  /** Called once for each message. */
  readonly observe: (decision: DnsDecision) => void;
}

interface Answered {
  readonly reply: DnsReply;
  readonly result: DnsResult;
  readonly by?: Decider;
}

export class DnsFilter {
  readonly #options: DnsFilterOptions;
  readonly #names: AddressNames;
  readonly #cache: DnsCache;
  readonly #budget: QueryBudget;
  readonly #closed = new AbortController();
  /** Upstream questions that are under way, so that equal ones wait for one answer. */
  readonly #pending = new Map<string, Promise<CachedReply | undefined>>();
  #policy: EffectivePolicy;

  constructor(options: DnsFilterOptions) {
    this.#options = options;
    this.#policy = options.policy;
    this.#names = new AddressNames(options.clock);
    this.#cache = new DnsCache(options.clock);
    this.#budget = new QueryBudget(options.clock);
  }

  /** Holds for every answer from now on, those that upstreams are still asked for included. */
  setPolicy(policy: EffectivePolicy): void {
    const other = policy.dns.nameservers.join() !== this.#policy.dns.nameservers.join();
    this.#policy = policy;
    // Another name server may know other answers.
    if (other) this.#cache.clear();
  }

  /** Names that the sandbox resolved to the address, for `Flow.names`. */
  namesOf(address: string): string[] {
    return this.#names.namesOf(address);
  }

  /** Ends what is under way; further questions get no answer. */
  close(): void {
    this.#closed.abort();
  }

  /** The answer to a message of the guest; undefined where it gets none. Never rejects. */
  async answer(message: Uint8Array, over: 'udp' | 'tcp'): Promise<Buffer | undefined> {
    const { clock, observe } = this.#options;
    if (this.#closed.signal.aborted) return undefined;
    const began = clock.monotonic();
    if (!this.#budget.takeQuery()) {
      observe({ result: 'Limited', milliseconds: 0 });
      return undefined;
    }
    const decoded = decodeQuery(message);
    if (decoded.kind !== 'query') {
      observe({ result: 'Malformed', milliseconds: 0 });
      return decoded.kind === 'error' ? decoded.answer : undefined;
    }
    const { query } = decoded;
    const { reply, result, by } = await this.#decide(query);
    if (this.#closed.signal.aborted) return undefined;
    observe({
      result,
      name: query.name ?? '',
      type: query.type,
      ...(by === undefined ? {} : { by }),
      milliseconds: clock.monotonic() - began,
    });
    return encodeSafely(query, reply, over);
  }

  async #decide({ name, type }: DnsQuery): Promise<Answered> {
    const question = { name: name ?? '' };
    const asked = decideQuery(this.#policy, question);
    if (name === undefined || !asked.allowed) return blocked(asked.blockedAnswer, asked.by);
    if (name === HOST_NAME) return this.#host(type, asked.by);
    const cached = this.#cache.get(name, type);
    const reply = cached ?? (await this.#resolve(name, type, asked.by));
    if (reply === 'limited') return { reply: { rcode: 'REFUSED' }, result: 'Limited', by: asked.by };
    if (reply === undefined) return { reply: { rcode: 'SERVFAIL' }, result: 'Failed', by: asked.by };
    // The policy may have changed while the upstream was asked.
    const verdict = decideQuery(this.#policy, question);
    if (!verdict.allowed) return blocked(verdict.blockedAnswer, verdict.by);
    return this.#tell(name, type, reply, cached === undefined ? 'Answered' : 'Cached', verdict);
  }

  #host(type: string, by: Decider): Answered {
    const { v4, v6 } = this.#options.hostAddresses;
    const address = type === 'A' ? v4 : type === 'AAAA' ? v6 : undefined;
    if (address === undefined) return { reply: { rcode: 'NOERROR' }, result: 'Answered', by };
    this.#names.record(address, HOST_NAME, HOST_TTL_S);
    const answers = [{ name: HOST_NAME, type, ttl: HOST_TTL_S, data: address }];
    return { reply: { rcode: 'NOERROR', answers }, result: 'Answered', by };
  }

  #tell(
    name: string,
    type: string,
    { rcode, answers, authorities, ttl }: CachedReply,
    result: DnsResult,
    { by, blockedAnswer }: ReturnType<typeof decideQuery>,
  ): Answered {
    const { isHostAddress } = this.#options;
    const filtered = filterAnswer(this.#policy, isHostAddress, { name, type }, answers);
    const isLeft = filtered.records.some((record) => record.type === type);
    if (filtered.withheld !== undefined && !isLeft) return blocked(blockedAnswer, filtered.withheld);
    for (const address of filtered.addresses) this.#names.record(address, name, ttl);
    const shortened = (records: CachedReply['answers']) =>
      records.map((record) => ({ ...record, ttl: Math.min(record.ttl, ttl) }));
    return {
      reply: { rcode, answers: shortened(filtered.records), authorities: shortened(authorities) },
      result,
      by,
    };
  }

  async #resolve(name: string, type: string, by: Decider): Promise<CachedReply | 'limited' | undefined> {
    const key = `${type} ${name}`;
    const underWay = this.#pending.get(key);
    if (underWay !== undefined) return underWay;
    const isNamed = by.kind === 'Rule' && by.destination === name;
    if (this.#pending.size >= PENDING_MAX || (!isNamed && !this.#budget.takeName(name))) return 'limited';
    const resolving = this.#ask(name, type);
    this.#pending.set(key, resolving);
    try {
      return await resolving;
    } finally {
      this.#pending.delete(key);
    }
  }

  async #ask(name: string, type: string): Promise<CachedReply | undefined> {
    const { upstream, hostServers } = this.#options;
    const { nameservers } = this.#policy.dns;
    const servers = nameservers.length > 0 ? nameservers : hostServers();
    const reply = await upstream.resolve(servers, name, type, this.#closed.signal);
    if (reply === undefined) return undefined;
    const kept = replyOf(reply);
    if (this.#policy.dns.nameservers === nameservers) this.#cache.set(name, type, kept, reply.bytes);
    return kept;
  }
}

function blocked(rcode: 'NXDOMAIN' | 'REFUSED', by: Decider): Answered {
  return { reply: { rcode, blocked: true }, result: 'Blocked', by };
}

/** What an upstream sent may decode and yet not encode: then the guest is told that it failed. */
function encodeSafely(query: DnsQuery, reply: DnsReply, over: 'udp' | 'tcp'): Buffer {
  try {
    return encodeReply(query, reply, over);
  } catch {
    return encodeReply(query, { rcode: 'SERVFAIL' }, over);
  }
}
