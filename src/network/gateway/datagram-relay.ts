// What a guest sends over UDP: one session for each pair of its port and a destination.
import type { Socket } from 'node:dgram';
import type { Clock } from '../../controller/clock.ts';
import type { Decider, Flow, FlowVerdict } from '../policy/flow.ts';
import { DatagramSession, type Endpoint } from './datagram-session.ts';
import type { EgressRate } from './egress-rate.ts';
import { UDP_REFUSED_MAX, UDP_REFUSED_MS, UDP_SESSIONS_MAX, UDP_SWEEP_MS } from './limits.ts';

export type DatagramResult = 'Flow/Allowed' | 'Flow/Denied' | 'Flow/Cut' | 'Flow/Failed' | 'Flow/Limited';

export interface DatagramRelayOptions {
  readonly clock: Clock;
  readonly rate: Pick<EgressRate, 'admit'>;
  /** A socket of family IPv6 in the guest's network with the address and port that the guest sent to. */
  readonly bind: (destination: Endpoint) => Socket;
  /** All that is known of a flow to there. */
  readonly flowTo: (destination: Endpoint) => Flow;
  /** Where to send what is for there. */
  readonly targetOf: (destination: Endpoint) => Endpoint;
  readonly decide: (flow: Flow) => FlowVerdict;
  /** May the sandbox open one more? */
  readonly mayOpen: () => boolean;
  readonly report: (destination: Endpoint, result: DatagramResult, by?: Decider) => void;
  readonly count: (egressBytes: number, ingressBytes: number) => void;
}

interface Held {
  readonly session: DatagramSession;
  readonly flow: Flow;
  readonly destination: Endpoint;
}

export class DatagramRelay {
  readonly #options: DatagramRelayOptions;
  readonly #sessions = new Map<string, Held>();
  /** Flows that were refused, with the time until which they are not told again. */
  readonly #refused = new Map<string, number>();
  #endSweep: (() => void) | undefined;
  #closed = false;

  constructor(options: DatagramRelayOptions) {
    this.#options = options;
  }

  /** Sessions that are open. */
  get size(): number {
    return this.#sessions.size;
  }

  /** A datagram that no session's own socket took. `flow` is `ADDRESS PORT ADDRESS PORT`. */
  take(flow: string, payload: Buffer): void {
    const known = this.#sessions.get(flow);
    if (known !== undefined) known.session.send(payload);
    else if (!this.#isRefused(flow)) this.#open(flow, payload);
  }

  /** Decides anew, as the policy changed: what it forbids is cut. */
  reconsider(): void {
    this.#refused.clear();
    for (const { session, flow, destination } of [...this.#sessions.values()]) {
      const { allowed, by } = this.#options.decide(flow);
      if (allowed) continue;
      this.#options.report(destination, 'Flow/Cut', by);
      session.end();
    }
  }

  close(): void {
    this.#closed = true;
    this.#endSweep?.();
    for (const { session } of [...this.#sessions.values()]) session.end();
  }

  #open(key: string, payload: Buffer): void {
    const { bind, flowTo, targetOf, decide, mayOpen, report, rate, count, clock } = this.#options;
    const [guest = '', guestPort, host = '', port] = key.split(' ');
    const destination = { host, port: Number(port) };
    // No socket can answer from port 0, nor send there.
    if (this.#closed || destination.port === 0 || guestPort === '0') return;
    if (this.#sessions.size >= UDP_SESSIONS_MAX || !mayOpen()) {
      this.#refuse(key, destination, 'Flow/Limited');
      return;
    }
    const flow = flowTo(destination);
    const { allowed, by } = decide(flow);
    if (!allowed) {
      this.#refuse(key, destination, 'Flow/Denied', by);
      return;
    }
    let socket: Socket;
    try {
      socket = bind(destination);
    } catch {
      this.#refuse(key, destination, 'Flow/Failed', by);
      return;
    }
    report(destination, 'Flow/Allowed', by);
    const session = new DatagramSession({
      ...{ socket, rate, count, now: () => clock.monotonic() },
      guest: { host: guest.includes(':') ? guest : `::ffff:${guest}`, port: Number(guestPort) },
      target: targetOf(destination),
      closed: (end) => {
        this.#sessions.delete(key);
        if (end === 'failed') this.#refuse(key, destination, 'Flow/Failed', by);
      },
    });
    this.#sessions.set(key, { session, flow, destination });
    session.send(payload);
    this.#endSweep ??= clock.after(UDP_SWEEP_MS, () => this.#sweep());
  }

  #sweep(): void {
    this.#endSweep = undefined;
    for (const { session } of [...this.#sessions.values()]) if (session.isIdle) session.end();
    const now = this.#options.clock.monotonic();
    for (const [key, until] of this.#refused) if (until <= now) this.#refused.delete(key);
    if (this.#closed || this.#sessions.size === 0) return;
    this.#endSweep = this.#options.clock.after(UDP_SWEEP_MS, () => this.#sweep());
  }

  #isRefused(key: string): boolean {
    const until = this.#refused.get(key);
    return until !== undefined && until > this.#options.clock.monotonic();
  }

  #refuse(key: string, destination: Endpoint, result: DatagramResult, by?: Decider): void {
    this.#options.report(destination, result, by);
    // In the order of their time: the first is the oldest.
    const [oldest] = this.#refused.size >= UDP_REFUSED_MAX ? this.#refused.keys() : [];
    if (oldest !== undefined) this.#refused.delete(oldest);
    this.#refused.delete(key);
    this.#refused.set(key, this.#options.clock.monotonic() + UDP_REFUSED_MS);
  }
}
