// All networks of this host's sandboxes, and what the daemon may ask of them.
import { randomInt } from 'node:crypto';
import type { Clock } from '../../controller/clock.ts';
import type { HostLibrary } from '../../vmm/ffi.ts';
import { Upstream } from '../dns/upstream.ts';
import { LeafCache } from '../intercept/leaf-cache.ts';
import type { NamespaceHolder } from '../network-plane.ts';
import { EFFECTIVE_FORMAT, type EffectivePolicy } from '../policy/effective.ts';
import { GATEWAY_V4, GUEST_V4, PLANE_SETUP } from './address-plan.ts';
import { type Attached, CONTROL_VERSION, type ControlRequest } from './control.ts';
import type { Endpoint } from './datagram-session.ts';
import { socketTransport } from './dns-transport.ts';
import {
  addCounters,
  type GatewayCounters,
  type NetworkCounters,
  NO_DECISIONS,
  NO_TRAFFIC,
} from './flow-log.ts';
import { bindTowardsGuest, dialGuest, openPing } from './guest-dial.ts';
import { hostAddresses } from './host-addresses.ts';
import { hostNameServers } from './host-name-servers.ts';
import { PublishedPorts } from './published-ports.ts';
import { SandboxNetwork } from './sandbox-network.ts';

type AttachRequest = Extract<ControlRequest, { method: 'attach' }>;

const QUERY_ID_END = 65_536;

interface Held {
  readonly holder: NamespaceHolder;
  readonly network: SandboxNetwork;
}

export class Gateway {
  readonly #library: HostLibrary;
  readonly #clock: Clock;
  readonly #hostServers: () => readonly string[];
  readonly #isHostAddress: (address: string) => boolean;
  readonly #upstream: Upstream;
  readonly #leaves: LeafCache;
  readonly #attached = new Map<string, Held>();
  /** Of sandboxes that are gone. */
  #gone: NetworkCounters = { ...NO_TRAFFIC, decisions: NO_DECISIONS };

  constructor(library: HostLibrary, clock: Clock) {
    this.#library = library;
    this.#clock = clock;
    this.#leaves = new LeafCache(() => clock.now());
    this.#hostServers = hostNameServers(clock);
    this.#isHostAddress = hostAddresses(clock);
    this.#upstream = new Upstream({
      transport: socketTransport,
      clock,
      randomId: () => randomInt(QUERY_ID_END),
    });
  }

  /** Throws what the daemon is to be told. */
  async handle(request: ControlRequest): Promise<unknown> {
    switch (request.method) {
      case 'hello':
        return { version: CONTROL_VERSION, pid: process.pid };
      case 'attach':
        return this.#attach(request);
      case 'detach':
        this.#detach(request.uid);
        return null;
      case 'log':
        return this.#find(request.uid).network.log.entries;
      case 'counters':
        return this.#counters();
      case 'refusals':
        return [...this.#attached].flatMap(([uid, { network }]) => {
          const refusals = network.log.takeRefusals();
          return refusals.length === 0 ? [] : [{ uid, refusals }];
        });
      case 'uses':
        return [...this.#attached].flatMap(([uid, { network }]) => (network.ports.takeUsed() ? [uid] : []));
      default:
        throw new Error('This gateway does not know the method.');
    }
  }

  /** No VM needs it. */
  get isIdle(): boolean {
    return this.#attached.size === 0;
  }

  /** Lets go of the networks whose VM is gone. */
  sweep(): void {
    for (const [uid, { holder }] of this.#attached) if (!this.#lives(holder)) this.#detach(uid);
  }

  async #attach(request: AttachRequest): Promise<Attached> {
    const { policy, ports } = request;
    checkPolicy(policy);
    const network = this.#open(request);
    const closed = policy.mode.value === 'Airgapped';
    const published = await network.ports.set(closed ? [] : ports);
    if (!closed) return { hash: network.hash, ports: published };
    const problem = 'Mode Airgapped closes published ports too.';
    return { hash: network.hash, ports: ports.map(({ name }) => ({ name, problem })) };
  }

  #open({ uid, holder, policy, interception }: AttachRequest): SandboxNetwork {
    const former = this.#attached.get(uid);
    if (former?.holder.pid === holder.pid && former.holder.startTime === holder.startTime) {
      former.network.setPolicy(policy, interception);
      return former.network;
    }
    this.#detach(uid);
    const process = { pid: holder.pid, startTime: BigInt(holder.startTime) };
    const sockets = this.#library.planeOpen(process, PLANE_SETUP);
    const bind = (local: Endpoint) => bindTowardsGuest(this.#library, process, local);
    const network = new SandboxNetwork({
      ping: (family) => openPing(this.#library, family),
      ...{ library: this.#library, bind, sockets, policy, interception, leaves: this.#leaves },
      ...{ upstream: this.#upstream, clock: this.#clock },
      ...{ hostServers: this.#hostServers, isHostAddress: this.#isHostAddress },
      ports: new PublishedPorts({
        dial: (port) => dialGuest(this.#library, process, port),
        address: GUEST_V4,
        bind: () => bind({ host: GATEWAY_V4, port: 0 }),
        clock: this.#clock,
      }),
    });
    this.#attached.set(uid, { holder, network });
    return network;
  }

  #counters(): GatewayCounters {
    const sandboxes: Record<string, NetworkCounters> = {};
    let total = this.#gone;
    for (const [uid, { network }] of this.#attached) {
      const counters = network.counters();
      sandboxes[uid] = counters;
      total = addCounters(total, counters);
    }
    return { total, sandboxes };
  }

  #detach(uid: string): void {
    const network = this.#attached.get(uid)?.network;
    if (network !== undefined) {
      network.close();
      this.#gone = addCounters(this.#gone, { ...network.counters(), connections: 0 });
    }
    this.#attached.delete(uid);
  }

  #find(uid: string): Held {
    const found = this.#attached.get(uid);
    if (found === undefined) throw new Error(`No network of ${uid} is attached.`);
    return found;
  }

  #lives({ pid, startTime }: NamespaceHolder): boolean {
    try {
      return this.#library.processStartTime(pid) === BigInt(startTime);
    } catch {
      return false;
    }
  }
}

function checkPolicy(policy: EffectivePolicy): void {
  if (policy.format !== EFFECTIVE_FORMAT)
    throw new Error('This gateway does not know the format of the policy.');
}
