// One TCP connection of a guest: decided, dialled, inspected where a name may close it, opened where the policy has it so, and
// carried both ways.
import { type IncomingHttpHeaders, sensitiveHeaders } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { type Readable, Transform } from 'node:stream';
import { type Passage, type RequestHead, RequestWatch } from '../inspect/request-watch.ts';
import { type Http2Passage, Http2Proxy } from '../intercept/http2-proxy.ts';
import { type OpenTls, TlsRefused } from '../intercept/open-tls.ts';
import type { Decider, Flow, FlowVerdict } from '../policy/flow.ts';
import { fillRequestHead } from '../secrets/request-head.ts';
import type { EgressRate } from './egress-rate.ts';
import { type FirstBytes, readFirstBytes } from './first-bytes.ts';
import type { Interceptor } from './interceptor.ts';
import { CONNECT_TIMEOUT_MS, HTTP2_HOSTS_MAX, IDLE_MS, INSPECT_MS } from './limits.ts';

/** The status line of a server that agrees to another protocol. */
const SWITCHING = /^HTTP\/1\.1 101 /;
const SWITCHING_BYTES = 13;

export interface RelayOptions {
  readonly client: Socket;
  readonly flow: Flow;
  /** Where to dial for the flow's destination. */
  readonly target: { readonly host: string; readonly port: number };
  readonly decide: (flow: Flow) => FlowVerdict;
  readonly interceptor: Interceptor;
  /** Of all that the sandbox sends. */
  readonly rate: EgressRate;
  readonly report: (result: RelayResult, by?: Decider) => void;
  readonly count: (egressBytes: number, ingressBytes: number) => void;
  readonly closed: () => void;
}

export type RelayResult =
  | 'Flow/Allowed'
  | 'Flow/Denied'
  | 'Flow/Cut'
  | 'Flow/Failed'
  | 'TLS/Opened'
  | 'TLS/Refused'
  | 'Secret/Substituted'
  | 'Secret/Blocked';

/** Bytes of the guest go out only when the decision stands; those of the server come in as soon as it is dialled. */
export class Relay {
  readonly #options: RelayOptions;
  /** What is relayed: the sockets themselves, or what TLS makes of them once it was opened. */
  #guest: Socket;
  #server: Socket | undefined;
  #flow: Flow;
  #held: Buffer[] | undefined;
  #inspecting: NodeJS.Timeout | undefined;
  #isOpened = false;
  /** Its first bytes were read. */
  #isSeen = false;
  #isCarried = false;
  /** Hosts of its HTTP/2 requests. */
  readonly #hosts = new Set<string | null>();
  #http2: Http2Proxy | undefined;
  #ended = false;
  /** Of the guest's bytes, once they are carried. */
  #source: Readable | undefined;
  readonly #between: Transform[] = [];
  #throttle: Transform | undefined;
  #counted = { egress: 0, ingress: 0 };

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#guest = options.client;
    this.#flow = options.flow;
  }

  start(): void {
    const { client, decide, report, target, interceptor } = this.#options;
    client.on('error', () => this.#end());
    client.on('close', () => this.#end());
    const verdict = decide(this.#flow);
    if (!verdict.allowed) {
      report('Flow/Denied', verdict.by);
      this.#end();
      return;
    }
    const upstream = connect({ ...target, allowHalfOpen: true, noDelay: true });
    this.#server = upstream;
    upstream.setTimeout(CONNECT_TIMEOUT_MS);
    upstream.on('timeout', () => this.#end());
    upstream.on('error', () => {
      if (upstream.connecting || upstream.bytesRead + upstream.bytesWritten === 0)
        report('Flow/Failed', verdict.by);
      this.#end();
    });
    upstream.on('close', () => {
      if (!upstream.readableEnded) this.#end();
    });
    upstream.on('connect', () => upstream.setTimeout(IDLE_MS));
    upstream.pipe(client);
    if (verdict.inspect || interceptor.mayOpen(this.#flow.port)) this.#inspect();
    else this.#carry(verdict.by);
  }

  /** Decides anew, as the policy changed: what it forbids is cut, and what is to be opened, or no longer. */
  reconsider(): void {
    if (this.#ended) return;
    const { decide, interceptor, report } = this.#options;
    const flows = [...this.#hosts].map((httpHost) => ({ ...this.#flow, httpHost }));
    const verdicts = [this.#flow, ...flows].map(decide);
    const denied = verdicts.find(({ allowed }) => !allowed);
    const { sni, port } = this.#flow;
    const reason = sni === undefined ? undefined : interceptor.reasonFor(port, sni);
    // What began before anybody looked may be TLS that is to be opened.
    const isUnseen = this.#isCarried && !this.#isSeen && interceptor.mayOpen(port);
    const isOtherwise = sni !== undefined && (reason !== undefined) !== this.#isOpened;
    if (denied === undefined && !isUnseen && !isOtherwise) return;
    report(
      'Flow/Cut',
      denied?.by ?? (reason === undefined ? verdicts[0]?.by : { kind: 'Interception', reason }),
    );
    this.#end();
  }

  cut(): void {
    this.#end();
  }

  /** What the guest sends is held to the rate from now on, where there is one. */
  applyRate(): void {
    const [source, server] = [this.#source, this.#server];
    const { rate } = this.#options;
    if (source === undefined || server === undefined || source.readableEnded) return;
    if (!rate.isLimited || this.#throttle !== undefined) return;
    this.#throttle = rate.stream();
    source.unpipe(server);
    source.pipe(this.#throttle).pipe(server);
  }

  /** Bytes that were not counted yet are. */
  count(): void {
    const server = this.#server;
    if (server === undefined) return;
    const [egress, ingress] = [server.bytesWritten, server.bytesRead];
    this.#options.count(
      Math.max(0, egress - this.#counted.egress),
      Math.max(0, ingress - this.#counted.ingress),
    );
    this.#counted = { egress, ingress };
  }

  #carry(by: Decider): void {
    this.#options.report('Flow/Allowed', by);
    this.#pipe(this.#guest);
  }

  #inspect(): void {
    this.#held = [];
    this.#guest.on('data', this.#onFirstBytes);
    this.#guest.on('end', this.#onFirstEnd);
  }

  /** A client that closes its side before it said where it goes. */
  readonly #onFirstEnd = (): void => {
    if ((this.#held?.length ?? 0) > 0) this.#end();
    else this.#server?.end();
  };

  readonly #onFirstBytes = (chunk: Buffer): void => {
    const guest = this.#guest;
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
    this.#inspecting = undefined;
    guest.off('data', this.#onFirstBytes);
    guest.off('end', this.#onFirstEnd);
    guest.pause();
    this.#held = undefined;
    this.#decide(found, bytes);
  };

  #decide(found: FirstBytes, bytes: Buffer): void {
    this.#isSeen = true;
    const { decide, report, interceptor } = this.#options;
    // TLS within TLS has its own name, which is not that of the connection.
    if (found.state === 'tls' && !this.#isOpened) this.#flow = { ...this.#flow, sni: found.sni };
    if (found.state === 'http') this.#flow = { ...this.#flow, httpHost: found.httpHost };
    // A name could close it, and it hides the name.
    const verdict: FlowVerdict =
      found.state === 'unreadable'
        ? { allowed: false, by: { kind: 'Malformed' }, inspect: false }
        : decide(this.#flow);
    if (!verdict.allowed) {
      report('Flow/Denied', verdict.by);
      this.#end();
      return;
    }
    if (found.state === 'tls' && !this.#isOpened) {
      const reason = interceptor.reasonFor(this.#flow.port, found.sni);
      if (reason !== undefined) {
        void this.#open(found, bytes, reason, verdict.by);
        return;
      }
    }
    if (found.state === 'http') {
      this.#carryRequests(bytes, verdict.by);
      return;
    }
    this.#guest.unshift(bytes);
    this.#carry(verdict.by);
  }

  /** Puts TLS ends of our own onto both sockets, and goes on with what is within. */
  async #open(
    hello: Extract<FirstBytes, { state: 'tls' }>,
    bytes: Buffer,
    reason: Parameters<Interceptor['open']>[4],
    by: Decider,
  ): Promise<void> {
    const { client, interceptor, report } = this.#options;
    const upstream = this.#server;
    if (upstream === undefined) return;
    upstream.unpipe(client);
    upstream.setTimeout(0);
    client.unshift(bytes);
    this.#isOpened = true;
    try {
      const { guest, server, protocol } = await interceptor.open(
        client,
        upstream,
        this.#flow.address,
        hello,
        reason,
      );
      if (this.#ended) {
        guest.destroy();
        server.destroy();
        return;
      }
      report('TLS/Opened', { kind: 'Interception', reason });
      this.count();
      [this.#guest, this.#server] = [guest, server];
      this.#counted = { egress: server.bytesWritten, ingress: server.bytesRead };
      for (const end of [guest, server]) {
        end.on('error', () => this.#end());
        end.setTimeout(IDLE_MS, () => this.#end());
      }
      guest.on('close', () => this.#end());
      server.on('close', () => {
        if (!server.readableEnded) this.#end();
      });
      if (protocol === 'h2') {
        report('Flow/Allowed', by);
        this.#carryHttp2({ guest, server });
        return;
      }
      server.pipe(guest);
      this.#inspect();
    } catch (error) {
      if (this.#ended) return;
      if (error instanceof TlsRefused) report('TLS/Refused', error.by);
      else report('Flow/Failed', by);
      this.#end();
    }
  }

  #pipe(source: Readable): void {
    if (this.#server === undefined) return;
    this.#isCarried = true;
    const scan = this.#scanning();
    if (scan !== undefined) this.#between.push(scan);
    this.#source = scan === undefined ? source : source.pipe(scan);
    this.#source.pipe(this.#server);
    this.applyRate();
  }

  /** Ends the connection at a placeholder that is to leave. */
  #scanning(): Transform | undefined {
    const scan = this.#options.interceptor.secrets.scan();
    if (scan === undefined) return undefined;
    return new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        const env = scan.push(chunk);
        if (env === undefined) {
          done(null, chunk);
          return;
        }
        this.#options.report('Secret/Blocked', { kind: 'SecretPlaceholder', env });
        this.#end();
      },
    });
  }

  /** Where the request goes by its own words: decided, and remembered as where the connection goes. */
  #admit(httpHost: string | null): FlowVerdict {
    const flow = { ...this.#flow, httpHost };
    const verdict = this.#options.decide(flow);
    if (verdict.allowed) this.#flow = flow;
    return verdict;
  }

  #secretsFor(host: string | null) {
    const serverName = this.#isOpened ? (this.#flow.sni ?? null) : null;
    const secrets = this.#options.interceptor.secrets.of({ serverName, host });
    return {
      secrets,
      tell: () => {
        for (const env of secrets.takeUsed())
          this.#options.report('Secret/Substituted', { kind: 'Secret', env });
      },
    };
  }

  /** Each request is decided by its own host, and gets the secrets that may go there. */
  #carryRequests(first: Buffer, by: Decider): void {
    const { report } = this.#options;
    const [guest, server] = [this.#guest, this.#server];
    if (server === undefined) return;
    let denied: Decider = { kind: 'Malformed' };
    const watch = new RequestWatch((head, bytes) => {
      const verdict = this.#admit(head.host);
      if (verdict.allowed) return this.#passage(head, bytes);
      denied = verdict.by;
      return undefined;
    });
    const requests = new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        const good = watch.push(chunk);
        if (good === undefined) {
          report('Flow/Denied', denied);
          this.#end();
          return;
        }
        done(null, good);
        if (!watch.asksToSwitch) return;
        guest.unpipe(requests);
        server.once('data', (answer: Buffer) => {
          watch.answerSwitch(SWITCHING.test(answer.toString('latin1', 0, SWITCHING_BYTES)));
          guest.pipe(requests);
        });
      },
    });
    this.#between.push(requests);
    report('Flow/Allowed', by);
    this.#pipe(requests);
    requests.write(first);
    guest.pipe(requests);
  }

  #passage({ host }: RequestHead, bytes: Buffer): Passage {
    const { secrets, tell } = this.#secretsFor(host);
    const head = fillRequestHead(bytes, secrets);
    tell();
    if (!secrets.wantsBody) return { head };
    return {
      head,
      body: (body) => {
        const filled = secrets.body(body);
        tell();
        return filled;
      },
    };
  }

  #carryHttp2({ guest, server }: Pick<OpenTls, 'guest' | 'server'>): void {
    this.#http2 = new Http2Proxy({
      ...{ guest, server },
      judge: (host, headers) => this.#http2Passage(host, headers),
      closed: () => this.#end(),
    });
  }

  #http2Passage(host: string | null, headers: IncomingHttpHeaders): Http2Passage | undefined {
    const { report, rate, interceptor } = this.#options;
    const verdict = this.#admit(host);
    if (verdict.allowed && this.#hosts.size < HTTP2_HOSTS_MAX) this.#hosts.add(host);
    if (!verdict.allowed || !this.#hosts.has(host)) {
      report('Flow/Denied', verdict.by);
      return undefined;
    }
    const { secrets, tell } = this.#secretsFor(host);
    const filled = Object.fromEntries(
      Object.entries(headers).map(([name, value]) => {
        if (value === undefined || name === ':authority') return [name, value];
        if (name === ':path') return [name, secrets.target(String(value))];
        return [
          name,
          Array.isArray(value) ? value.map((each) => secrets.header(each)) : secrets.header(value),
        ];
      }),
    );
    const leftOver = interceptor.secrets.scan()?.push(Buffer.from(JSON.stringify(filled)));
    if (leftOver !== undefined) {
      report('Secret/Blocked', { kind: 'SecretPlaceholder', env: leftOver });
      return undefined;
    }
    const scan = this.#scanning();
    const through = [...(scan === undefined ? [] : [scan]), ...(rate.isLimited ? [rate.stream()] : [])];
    const passage = { headers: { ...filled, [sensitiveHeaders]: ['authorization', 'cookie'] }, through };
    tell();
    if (!secrets.wantsBody) return passage;
    return {
      ...passage,
      body: (body) => {
        const changed = secrets.body(body);
        tell();
        return changed;
      },
    };
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    const { client, closed } = this.#options;
    clearTimeout(this.#inspecting);
    this.count();
    this.#held = undefined;
    const [guest, server] = [this.#guest, this.#server];
    this.#http2?.end();
    const orderly = guest.readableEnded && guest.writableFinished;
    if (guest !== client) guest.destroy();
    if (orderly) client.destroy();
    else client.resetAndDestroy();
    server?.destroy();
    this.#throttle?.destroy();
    for (const each of this.#between) each.destroy();
    closed();
  }
}
