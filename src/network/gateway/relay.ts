// One TCP connection of a guest: decided, dialled, inspected where a name may close it, and carried both ways.
import { connect, type Socket } from 'node:net';
import { type Readable, Transform } from 'node:stream';
import { RequestWatch } from '../inspect/request-watch.ts';
import type { Decider, Flow, FlowVerdict } from '../policy/flow.ts';
import type { EgressRate } from './egress-rate.ts';
import { readFirstBytes } from './first-bytes.ts';
import { CONNECT_TIMEOUT_MS, IDLE_MS, INSPECT_MS } from './limits.ts';

/** The status line of a server that agrees to another protocol. */
const SWITCHING = /^HTTP\/1\.1 101 /;
const SWITCHING_BYTES = 13;

export interface RelayOptions {
  readonly client: Socket;
  readonly flow: Flow;
  /** Where to dial for the flow's destination. */
  readonly target: { readonly host: string; readonly port: number };
  readonly decide: (flow: Flow) => FlowVerdict;
  /** Of all that the sandbox sends. */
  readonly rate: EgressRate;
  readonly report: (result: 'Allowed' | 'Denied' | 'Cut' | 'Failed', by?: Decider) => void;
  readonly count: (egressBytes: number, ingressBytes: number) => void;
  readonly closed: () => void;
}

/** Bytes of the guest go out only when the decision stands; those of the server come in as soon as it is dialled. */
export class Relay {
  readonly #options: RelayOptions;
  #upstream: Socket | undefined;
  #flow: Flow;
  #held: Buffer[] | undefined;
  #inspecting: NodeJS.Timeout | undefined;
  #ended = false;
  /** Of the guest's bytes, once they are carried. */
  #source: Readable | undefined;
  #throttle: Transform | undefined;
  #counted = { egress: 0, ingress: 0 };

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#flow = options.flow;
  }

  start(): void {
    const { client, decide, report, target } = this.#options;
    client.on('error', () => this.#end());
    client.on('close', () => this.#end());
    const verdict = decide(this.#flow);
    if (!verdict.allowed) {
      report('Denied', verdict.by);
      this.#end();
      return;
    }
    const upstream = connect({ ...target, allowHalfOpen: true, noDelay: true });
    this.#upstream = upstream;
    upstream.setTimeout(CONNECT_TIMEOUT_MS);
    upstream.on('timeout', () => this.#end());
    upstream.on('error', () => {
      if (upstream.connecting || upstream.bytesRead + upstream.bytesWritten === 0)
        report('Failed', verdict.by);
      this.#end();
    });
    upstream.on('close', () => {
      if (!upstream.readableEnded) this.#end();
    });
    upstream.on('connect', () => upstream.setTimeout(IDLE_MS));
    upstream.pipe(client);
    if (verdict.inspect) this.#inspect();
    else this.#carry(verdict.by);
  }

  /** Decides anew, as the policy changed: what it forbids is cut. */
  reconsider(): void {
    if (this.#ended) return;
    const verdict = this.#options.decide(this.#flow);
    if (verdict.allowed) return;
    this.#options.report('Cut', verdict.by);
    this.#end();
  }

  cut(): void {
    this.#end();
  }

  /** What the guest sends is held to the rate from now on, where there is one. */
  applyRate(): void {
    const [source, upstream] = [this.#source, this.#upstream];
    const { rate } = this.#options;
    if (source === undefined || upstream === undefined || source.readableEnded) return;
    if (!rate.isLimited || this.#throttle !== undefined) return;
    this.#throttle = rate.stream();
    source.unpipe(upstream);
    source.pipe(this.#throttle).pipe(upstream);
  }

  /** Bytes that were not counted yet are. */
  count(): void {
    const upstream = this.#upstream;
    if (upstream === undefined) return;
    const [egress, ingress] = [upstream.bytesWritten, upstream.bytesRead];
    this.#options.count(egress - this.#counted.egress, ingress - this.#counted.ingress);
    this.#counted = { egress, ingress };
  }

  #carry(by: Decider): void {
    const { client, report } = this.#options;
    report('Allowed', by);
    this.#pipe(client);
  }

  #inspect(): void {
    const { client } = this.#options;
    this.#held = [];
    client.on('data', this.#onFirstBytes);
    client.on('end', this.#onFirstEnd);
  }

  /** A client that closes its side before it said where it goes. */
  readonly #onFirstEnd = (): void => {
    if ((this.#held?.length ?? 0) > 0) this.#end();
    else this.#upstream?.end();
  };

  readonly #onFirstBytes = (chunk: Buffer): void => {
    const { client, decide, report } = this.#options;
    const held = this.#held ?? [];
    held.push(chunk);
    this.#inspecting ??= setTimeout(() => this.#end(), INSPECT_MS);
    const bytes = Buffer.concat(held);
    const found = readFirstBytes(bytes);
    if (found.state === 'incomplete') {
      this.#held = [bytes];
      return;
    }
    clearTimeout(this.#inspecting);
    client.off('data', this.#onFirstBytes);
    client.off('end', this.#onFirstEnd);
    client.pause();
    if (found.state === 'tls') this.#flow = { ...this.#flow, sni: found.sni };
    if (found.state === 'http') this.#flow = { ...this.#flow, httpHost: found.httpHost };
    // A name could close it, and it hides the name.
    const verdict: FlowVerdict =
      found.state === 'unreadable'
        ? { allowed: false, by: { kind: 'Malformed' }, inspect: false }
        : decide(this.#flow);
    this.#held = undefined;
    if (!verdict.allowed) {
      report('Denied', verdict.by);
      this.#end();
      return;
    }
    if (found.state === 'http') {
      this.#carryRequests(bytes, verdict.by);
      return;
    }
    this.#upstream?.write(bytes);
    this.#carry(verdict.by);
  };

  #pipe(source: Readable): void {
    if (this.#upstream === undefined) return;
    this.#source = source;
    source.pipe(this.#upstream);
    this.applyRate();
  }

  /** Each request is decided by its own host. */
  #carryRequests(first: Buffer, by: Decider): void {
    const { client, decide, report } = this.#options;
    const upstream = this.#upstream;
    if (upstream === undefined) return;
    let denied: Decider = { kind: 'Malformed' };
    const watch = new RequestWatch((httpHost) => {
      const flow = { ...this.#flow, httpHost };
      const verdict = decide(flow);
      if (verdict.allowed) this.#flow = flow;
      else denied = verdict.by;
      return verdict.allowed;
    });
    const requests = new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        const good = watch.push(chunk);
        if (good === undefined) {
          report('Denied', denied);
          this.#end();
          return;
        }
        done(null, good);
        if (!watch.asksToSwitch) return;
        client.unpipe(requests);
        upstream.once('data', (answer: Buffer) => {
          watch.answerSwitch(SWITCHING.test(answer.toString('latin1', 0, SWITCHING_BYTES)));
          client.pipe(requests);
        });
      },
    });
    report('Allowed', by);
    this.#pipe(requests);
    requests.write(first);
    client.pipe(requests);
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    const { client, closed } = this.#options;
    clearTimeout(this.#inspecting);
    this.count();
    this.#held = undefined;
    const upstream = this.#upstream;
    const orderly = client.readableEnded && client.writableFinished;
    if (orderly) client.destroy();
    else client.resetAndDestroy();
    upstream?.destroy();
    this.#throttle?.destroy();
    closed();
  }
}
