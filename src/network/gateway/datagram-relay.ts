// What a guest sends without a connection, over UDP or as echoes of ICMP: one session for each pair of its port, or
// identifier, and a destination.
import type { Clock } from '../../controller/clock.ts';
import type { Decider, Flow, FlowVerdict } from '../policy/flow.ts';
import type { Endpoint } from './datagram-session.ts';
import { UDP_REFUSED_MAX, UDP_REFUSED_MS, UDP_SWEEP_MS } from './limits.ts';

export type DatagramResult = 'Flow/Allowed' | 'Flow/Denied' | 'Flow/Cut' | 'Flow/Failed' | 'Flow/Limited';

export interface DatagramRelayOptions {
  readonly clock: Clock;
  readonly sessionsMax: number;
  /**
   * Opens one. Throws where it cannot be had; calls back once when it is over, `failed` where the destination refused it before
   * it had answered.
   */
  readonly open: (
    guest: Endpoint,
    destination: Endpoint,
    closed: (end: 'ended' | 'failed') => void,
  ) => RelaySession;
  /** All that is known of a flow to there. */
  readonly flowTo: (destination: Endpoint) => Flow;
  readonly decide: (flow: Flow) => FlowVerdict;
  /** May the sandbox open one more? */
  readonly mayOpen: () => boolean;
  readonly report: (destination: Endpoint, result: DatagramResult, by?: Decider) => void;
  /** Tells the guest that its datagram goes nowhere. */
  readonly unreachable: (guest: Endpoint, destination: Endpoint, why: 'Denied' | 'Failed') => void;
}

export interface RelaySession {
  /** Of the guest, to the destination. */
  send(payload: Buffer): void;
  /** Nothing went either way for so long that it may be forgotten. */
  readonly isIdle: boolean;
  end(): void;
}

interface Held {
  readonly session: RelaySession;
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
    const { open, flowTo, decide, sessionsMax, mayOpen, report, clock } = this.#options;
    const { guest, destination } = endpointsOf(key);
    if (this.#closed) return;
    if (this.#sessions.size >= sessionsMax || !mayOpen()) {
      this.#refuse(key, 'Flow/Limited');
      return;
    }
    const flow = flowTo(destination);
    const { allowed, by } = decide(flow);
    if (!allowed) {
      this.#refuse(key, 'Flow/Denied', by);
      return;
    }
    let session: RelaySession;
    try {
      session = open(guest, destination, (end) => {
        this.#sessions.delete(key);
        if (end === 'failed') this.#refuse(key, 'Flow/Failed', by);
      });
    } catch {
      this.#refuse(key, 'Flow/Failed', by);
      return;
    }
    report(destination, 'Flow/Allowed', by);
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

  #refuse(key: string, result: 'Flow/Limited' | 'Flow/Denied' | 'Flow/Failed', by?: Decider): void {
    const { report, unreachable } = this.#options;
    const { guest, destination } = endpointsOf(key);
    report(destination, result, by);
    // What exceeds a bound is dropped, as what exceeds one of the kernel's is.
    if (result === 'Flow/Denied') unreachable(guest, destination, 'Denied');
    if (result === 'Flow/Failed' && !this.#closed) unreachable(guest, destination, 'Failed');
    // In the order of their time: the first is the oldest.
    const [oldest] = this.#refused.size >= UDP_REFUSED_MAX ? this.#refused.keys() : [];
    if (oldest !== undefined) this.#refused.delete(oldest);
    this.#refused.delete(key);
    this.#refused.set(key, this.#options.clock.monotonic() + UDP_REFUSED_MS);
  }
}

function endpointsOf(flow: string): { guest: Endpoint; destination: Endpoint } {
  const [guest = '', guestPort, host = '', port] = flow.split(' ');
  return { guest: { host: guest, port: Number(guestPort) }, destination: { host, port: Number(port) } };
}
