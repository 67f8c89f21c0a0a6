// The network of one sandbox: its sockets in the sandbox's namespace, its policy, and every connection it has.
import type { Socket as Datagrams } from 'node:dgram';
import { createServer, type Server, type Socket } from 'node:net';
import type { FlowEntry } from '../../api/wire.ts';
import type { Clock } from '../../controller/clock.ts';
import type { HostLibrary, PlaneSockets } from '../../vmm/ffi.ts';
import { DnsFilter } from '../dns/filter.ts';
import type { Upstream } from '../dns/upstream.ts';
import type { LeafCache } from '../intercept/leaf-cache.ts';
import { DNS_PORT, decideFlow } from '../policy/decide.ts';
import type { EffectivePolicy } from '../policy/effective.ts';
import type { Flow, FlowProtocol } from '../policy/flow.ts';
import { GATEWAY_V4, GATEWAY_V6 } from './address-plan.ts';
import { DatagramListener } from './datagram-listener.ts';
import { DatagramRelay } from './datagram-relay.ts';
import type { Endpoint } from './datagram-session.ts';
import { serveDatagrams, serveStream } from './dns-sockets.ts';
import { EgressRate } from './egress-rate.ts';
import { FlowLog, type NetworkCounters } from './flow-log.ts';
import { type InterceptionInputs, Interceptor } from './interceptor.ts';
import { DNS_CONNECTIONS_MAX } from './limits.ts';
import type { PublishedPorts } from './published-ports.ts';
import { Relay, type RelayResult } from './relay.ts';

export interface SandboxNetworkOptions {
  readonly library: Pick<HostLibrary, 'receiveDatagram' | 'poll'>;
  readonly sockets: PlaneSockets;
  /** A UDP socket in the sandbox's namespace with any address. */
  readonly bind: (local: Endpoint) => Datagrams;
  readonly policy: EffectivePolicy;
  readonly interception: InterceptionInputs;
  readonly leaves: LeafCache;
  readonly upstream: Upstream;
  readonly clock: Clock;
  readonly hostServers: () => readonly string[];
  readonly isHostAddress: (address: string) => boolean;
  readonly ports: PublishedPorts;
}

export class SandboxNetwork {
  readonly #options: SandboxNetworkOptions;
  readonly #filter: DnsFilter;
  readonly #server: Server;
  readonly #nameServers: Datagrams[];
  readonly #listener: DatagramListener;
  readonly #datagrams: DatagramRelay;
  readonly #relays = new Set<Relay>();
  readonly #dnsStreams = new Set<Socket>();
  readonly log: FlowLog;
  readonly ports: PublishedPorts;
  readonly #rate: EgressRate;
  readonly #interceptor: Interceptor;
  #policy: EffectivePolicy;

  constructor(options: SandboxNetworkOptions) {
    const { sockets, policy, upstream, clock, hostServers, isHostAddress } = options;
    this.#options = options;
    this.ports = options.ports;
    this.#policy = policy;
    this.#interceptor = new Interceptor(options.leaves, policy);
    this.#interceptor.set(policy, options.interception);
    this.#rate = new EgressRate(clock);
    this.#rate.set(policy.limits.egressBytesPerSecond);
    this.log = new FlowLog(() => clock.now());
    this.#filter = new DnsFilter({
      ...{ policy, upstream, hostServers, clock },
      hostAddresses: { v4: GATEWAY_V4, v6: GATEWAY_V6 },
      isHostAddress: (address) => isGateway(address) || isHostAddress(address),
      observe: ({ result, name, by }) =>
        this.log.add({ layer: 'DNS', protocol: 'UDP', destination: name ?? '', result }, by),
    });
    this.#nameServers = [sockets.dns4, sockets.dns6].map((fd) => serveDatagrams(fd, this.#filter));
    this.#datagrams = this.#relayDatagrams();
    this.#listener = new DatagramListener(options.library, sockets.udp, (flow, payload) =>
      this.#datagrams.take(flow, payload),
    );
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket));
    this.#server.on('error', () => this.close());
    this.#server.listen({ fd: sockets.tcp });
  }

  get hash(): string {
    return this.#policy.hash;
  }

  /** Holds when it returns: what it forbids is cut. */
  setPolicy(policy: EffectivePolicy, interception: InterceptionInputs): void {
    this.#policy = policy;
    this.#interceptor.set(policy, interception);
    this.#filter.setPolicy(policy);
    this.#rate.set(policy.limits.egressBytesPerSecond);
    for (const relay of [...this.#relays]) {
      relay.reconsider();
      relay.applyRate();
    }
    this.#datagrams.reconsider();
  }

  counters(): NetworkCounters {
    for (const relay of this.#relays) relay.count();
    return this.log.counters(this.#open);
  }

  /** Connections and UDP sessions, those to the name server included. */
  get #open(): number {
    return this.#relays.size + this.#dnsStreams.size + this.#datagrams.size;
  }

  close(): void {
    this.ports.close();
    this.#filter.close();
    this.#server.close();
    for (const socket of this.#nameServers.splice(0)) socket.close();
    this.#listener.close();
    this.#datagrams.close();
    for (const socket of this.#dnsStreams) socket.destroy();
    for (const relay of [...this.#relays]) relay.cut();
  }

  #accept(client: Socket): void {
    const address = plainAddress(client.localAddress ?? '');
    const port = client.localPort ?? 0;
    const destination = textOf({ host: address, port });
    const report = (told: RelayResult | 'Flow/Limited', by?: Parameters<FlowLog['add']>[1]) => {
      const [layer, result = ''] = told.split('/') as [FlowEntry['layer'], string?];
      this.log.add({ layer, protocol: 'TCP', destination, result }, by);
    };
    const isDns = port === DNS_PORT && isGateway(address);
    if (
      this.#open >= this.#policy.limits.maxConnections ||
      (isDns && this.#dnsStreams.size >= DNS_CONNECTIONS_MAX)
    ) {
      report('Flow/Limited');
      client.on('error', () => {});
      client.resetAndDestroy();
      return;
    }
    if (isDns) {
      this.#dnsStreams.add(client);
      client.on('close', () => this.#dnsStreams.delete(client));
      void serveStream(client, this.#filter);
      return;
    }
    const relay = new Relay({
      client,
      flow: this.#flowTo('TCP', { host: address, port }),
      target: targetOf({ host: address, port }),
      decide: (flow) => decideFlow(this.#policy, flow),
      report,
      interceptor: this.#interceptor,
      rate: this.#rate,
      count: this.#count,
      closed: () => this.#relays.delete(relay),
    });
    this.#relays.add(relay);
    relay.start();
  }

  #relayDatagrams(): DatagramRelay {
    const { clock, bind } = this.#options;
    return new DatagramRelay({
      ...{ clock, bind, targetOf, rate: this.#rate, count: this.#count },
      flowTo: (destination) => this.#flowTo('UDP', destination),
      decide: (flow) => decideFlow(this.#policy, flow),
      mayOpen: () => this.#open < this.#policy.limits.maxConnections,
      report: (destination, told, by) => {
        const [layer, result = ''] = told.split('/') as [FlowEntry['layer'], string?];
        this.log.add({ layer, protocol: 'UDP', destination: textOf(destination), result }, by);
      },
    });
  }

  #flowTo(protocol: FlowProtocol, { host, port }: Endpoint): Flow {
    const toHost = isGateway(host) || this.#options.isHostAddress(host);
    return { protocol, address: host, port, toHost, names: this.#filter.namesOf(host) };
  }

  readonly #count = (egress: number, ingress: number): void => {
    this.log.egressBytes += egress;
    this.log.ingressBytes += ingress;
  };
}

function isGateway(address: string): boolean {
  return address === GATEWAY_V4 || address === GATEWAY_V6;
}

/** What the guest reaches as its gateway is this host itself. */
function targetOf({ host, port }: Endpoint): Endpoint {
  return { host: isGateway(host) ? '127.0.0.1' : host, port };
}

function textOf({ host, port }: Endpoint): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** As it is decided and as it is dialled: IPv4 in IPv6 form is IPv4. */
function plainAddress(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address;
}
