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
import type { Decider, Flow, FlowProtocol } from '../policy/flow.ts';
import { GATEWAY_V4, GATEWAY_V6 } from './address-plan.ts';
import { DatagramListener } from './datagram-listener.ts';
import { DatagramRelay, type DatagramResult } from './datagram-relay.ts';
import { DatagramSession, type Endpoint } from './datagram-session.ts';
import { serveDatagrams, serveStream } from './dns-sockets.ts';
import { EchoSession } from './echo-session.ts';
import { EgressRate } from './egress-rate.ts';
import { FlowLog, type NetworkCounters } from './flow-log.ts';
import { icmpUnreachable } from './icmp-unreachable.ts';
import { type InterceptionInputs, Interceptor } from './interceptor.ts';
import { DNS_CONNECTIONS_MAX, ECHO_SESSIONS_MAX, UDP_SESSIONS_MAX } from './limits.ts';
import type { PublishedPorts } from './published-ports.ts';
import { Relay, type RelayResult } from './relay.ts';

/** Types of ICMP and of ICMPv6. */
const ECHO_REPLY_V4 = 0;
const ECHO_REPLY_V6 = 129;

export interface SandboxNetworkOptions {
  readonly library: Pick<HostLibrary, 'receiveDatagram' | 'receiveEcho' | 'sendIcmp' | 'poll'>;
  /** A socket of this host for echoes of ICMP; throws where there can be none. */
  readonly ping: (family: 4 | 6) => Datagrams;
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
  readonly #listeners: readonly DatagramListener[];
  readonly #datagrams: DatagramRelay;
  readonly #echoes: DatagramRelay;
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
    this.#echoes = this.#relayEchoes();
    const { library } = options;
    this.#listeners = [
      new DatagramListener(library, sockets.udp, library.receiveDatagram, (flow, payload) =>
        this.#datagrams.take(flow, payload),
      ),
      ...[sockets.echo4, sockets.echo6].map(
        (fd) =>
          new DatagramListener(library, fd, library.receiveEcho, (flow, message) =>
            this.#echoes.take(flow, message),
          ),
      ),
    ];
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
    this.#echoes.reconsider();
  }

  counters(): NetworkCounters {
    for (const relay of this.#relays) relay.count();
    const counted = this.log.counters(this.#open);
    const { egressBytes, ingressBytes } = this.ports.carried;
    return {
      ...counted,
      egressBytes: counted.egressBytes + egressBytes,
      ingressBytes: counted.ingressBytes + ingressBytes,
    };
  }

  /** Connections, those to the name server included, and sessions of UDP and ICMP. */
  get #open(): number {
    return this.#relays.size + this.#dnsStreams.size + this.#datagrams.size + this.#echoes.size;
  }

  close(): void {
    this.ports.close();
    this.#filter.close();
    this.#server.close();
    for (const socket of this.#nameServers.splice(0)) socket.close();
    this.#datagrams.close();
    // Its sessions answer by the listeners' descriptors.
    this.#echoes.close();
    for (const listener of this.#listeners) listener.close();
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
    const now = () => clock.monotonic();
    return new DatagramRelay({
      ...this.#relayOptions('UDP'),
      sessionsMax: UDP_SESSIONS_MAX,
      unreachable: (guest, destination, why) => {
        const gateway = isV6(guest) ? GATEWAY_V6 : GATEWAY_V4;
        this.#sendIcmp(gateway, guest, icmpUnreachable(guest, destination, why));
      },
      open: (guest, destination, closed) => {
        if (guest.port === 0 || destination.port === 0) throw new Error('No socket can have port 0.');
        const [socket, target] = [bind(destination), targetOf(destination)];
        const { rate, count } = { rate: this.#rate, count: this.#count };
        return new DatagramSession({ socket, guest, target, rate, now, count, closed });
      },
    });
  }

  #relayEchoes(): DatagramRelay {
    const { clock, ping } = this.#options;
    const now = () => clock.monotonic();
    return new DatagramRelay({
      ...this.#relayOptions('ICMP'),
      sessionsMax: ECHO_SESSIONS_MAX,
      // An echo that does not come back says so by itself.
      unreachable: () => {},
      open: (guest, destination, closed) => {
        const { host: target } = targetOf(destination);
        return new EchoSession({
          ...{ target, identifier: guest.port, rate: this.#rate, now, count: this.#count, closed },
          socket: ping(target.includes(':') ? 6 : 4),
          answer: (message) => {
            message[0] = isV6(guest) ? ECHO_REPLY_V6 : ECHO_REPLY_V4;
            this.#sendIcmp(destination.host, guest, message);
          },
        });
      },
    });
  }

  #sendIcmp(from: string, guest: Endpoint, message: Buffer): void {
    const { library, sockets } = this.#options;
    try {
      library.sendIcmp(isV6(guest) ? sockets.echo6 : sockets.echo4, from, guest.host, message);
    } catch {
      // There is no way to the guest, as when its VM is just gone.
    }
  }

  #relayOptions(protocol: 'UDP' | 'ICMP') {
    return {
      clock: this.#options.clock,
      flowTo: (destination: Endpoint) => this.#flowTo(protocol, destination),
      decide: (flow: Flow) => decideFlow(this.#policy, flow),
      mayOpen: () => this.#open < this.#policy.limits.maxConnections,
      report: (destination: Endpoint, told: DatagramResult, by?: Decider) => {
        const [layer, result = ''] = told.split('/') as [FlowEntry['layer'], string?];
        const to = protocol === 'ICMP' ? destination.host : textOf(destination);
        this.log.add({ layer, protocol, destination: to, result }, by);
      },
    };
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

function isV6({ host }: Endpoint): boolean {
  return host.includes(':');
}

function textOf({ host, port }: Endpoint): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** As it is decided and as it is dialled: IPv4 in IPv6 form is IPv4. */
function plainAddress(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address;
}
