// Asking name servers: which, how often and how long. The sockets are the transport's.
import type { Clock } from '../../controller/clock.ts';
import { RESOLVE_TIMEOUT_MS, ROUNDS, TRY_TIMEOUT_MS, UPSTREAM_PENALTY_MS } from './limits.ts';
import { decodeReply, encodeQuestion, RCODES, type UpstreamReply } from './message.ts';

export interface DnsTransport {
  /**
   * Sends a message to a name server and resolves with the first one that comes back and that `accepts` takes; others are
   * passed over, as they may be forged. Over TCP the length prefix is the transport's. Rejects when `signal` aborts.
   */
  exchange(
    server: string,
    message: Uint8Array,
    over: 'udp' | 'tcp',
    accepts: (reply: Uint8Array) => boolean,
    signal: AbortSignal,
  ): Promise<Uint8Array>;
}

export interface UpstreamOptions {
  readonly transport: DnsTransport;
  readonly clock: Clock;
  /** 0 to 65535, unguessable. */
  readonly randomId: () => number;
}

/** Name servers, shared by all sandboxes: what is learnt of one that does not answer serves them all. */
export class Upstream {
  readonly #options: UpstreamOptions;
  /** By server: the monotonic time until which it is asked last. */
  readonly #penalties = new Map<string, number>();

  constructor(options: UpstreamOptions) {
    this.#options = options;
  }

  /** The answer of the first server that has one (NOERROR or NXDOMAIN); undefined when none has in time. */
  async resolve(
    servers: readonly string[],
    name: string,
    type: string,
    signal: AbortSignal,
  ): Promise<UpstreamReply | undefined> {
    const { clock } = this.#options;
    const ends = clock.monotonic() + RESOLVE_TIMEOUT_MS;
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const server of this.#inOrder(servers)) {
        const left = ends - clock.monotonic();
        if (left <= 0 || signal.aborted) return undefined;
        const reply = await this.#ask(server, name, type, Math.min(TRY_TIMEOUT_MS, left), signal);
        if (reply?.rcode === RCODES.NOERROR || reply?.rcode === RCODES.NXDOMAIN) {
          this.#penalties.delete(server);
          return reply;
        }
        if (!signal.aborted) this.#penalties.set(server, clock.monotonic() + UPSTREAM_PENALTY_MS);
      }
    }
    return undefined;
  }

  /** As given, those that lately failed last. */
  #inOrder(servers: readonly string[]): string[] {
    const now = this.#options.clock.monotonic();
    for (const [server, until] of this.#penalties) if (until <= now) this.#penalties.delete(server);
    const failed = (server: string) => (this.#penalties.has(server) ? 1 : 0);
    return servers.toSorted((a, b) => failed(a) - failed(b));
  }

  async #ask(
    server: string,
    name: string,
    type: string,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<UpstreamReply | undefined> {
    const late = new AbortController();
    const cancel = this.#options.clock.after(timeoutMs, () => late.abort());
    const either = AbortSignal.any([late.signal, signal]);
    try {
      const reply = await this.#exchange(server, name, type, 'udp', either);
      return reply?.truncated ? await this.#exchange(server, name, type, 'tcp', either) : reply;
    } catch {
      return undefined; // No answer is no answer, whatever the socket says; the next server is asked.
    } finally {
      cancel();
    }
  }

  async #exchange(
    server: string,
    name: string,
    type: string,
    over: 'udp' | 'tcp',
    signal: AbortSignal,
  ): Promise<UpstreamReply | undefined> {
    const id = this.#options.randomId();
    let reply: UpstreamReply | undefined;
    const accepts = (bytes: Uint8Array) => {
      reply = decodeReply(bytes, id, name, type);
      return reply !== undefined;
    };
    await this.#options.transport.exchange(server, encodeQuestion(id, name, type), over, accepts, signal);
    return reply;
  }
}
