// A gateway for tests: has what it was told in force, unless it is told to be down or behind.
import { BulkheadError } from '../../api/errors.ts';
import type {
  NetworkPlane,
  NetworkState,
  PublishedPort,
  SandboxNetworks,
  WantedNetwork,
} from '../../network/network-plane.ts';
import type { EffectivePolicy } from '../../network/policy/effective.ts';

/** What guests are made to trust. */
export const FAKE_AUTHORITY = '-----BEGIN CERTIFICATE-----\nfake\n-----END CERTIFICATE-----\n';
const ADDRESS = '192.0.2.2';

export class FakeNetworkPlane implements NetworkPlane {
  /** Sandboxes with a network, by uid, with what is in force. */
  readonly networks = new Map<string, EffectivePolicy | undefined>();
  readonly programmed: { uid: string; hash: string }[] = [];
  isDown = false;
  /** Of the host. */
  readonly takenPorts = new Set<number>();
  /** What the gateway has of secrets, by uid. */
  readonly secrets = new Map<string, WantedNetwork['secrets']>();
  readonly #ports = new Map<string, NonNullable<NetworkState['ports']>>();
  readonly #listeners = new Set<(uid: string) => void>();

  async program(uid: string, { effective, ports, secrets }: WantedNetwork): Promise<string> {
    if (this.isDown || !this.networks.has(uid))
      throw new BulkheadError('NETWORK_UNAVAILABLE', 'The gateway does not answer.');
    this.programmed.push({ uid, hash: effective.hash });
    const published = ports.map(({ name, hostIP, hostPort = 40_000 }): PublishedPort => {
      const isTaken = this.takenPorts.has(hostPort);
      return isTaken ? { name, problem: `${hostPort} is taken.` } : { name, hostIP, hostPort };
    });
    this.#ports.set(uid, { wanted: ports, published });
    this.networks.set(uid, effective);
    this.secrets.set(uid, secrets);
    return effective.hash;
  }

  stateOf(uid: string): NetworkState | undefined {
    if (!this.networks.has(uid)) return undefined;
    const hash = this.networks.get(uid)?.hash;
    const ports = this.#ports.get(uid);
    if (hash === undefined) return { address: ADDRESS };
    const secrets = this.secrets.get(uid)?.digest ?? '';
    return { address: ADDRESS, acknowledged: hash, secrets, ...(ports === undefined ? {} : { ports }) };
  }

  onChange(listener: (uid: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** A network comes up, closed. */
  bringUp(uid: string): void {
    this.networks.set(uid, undefined);
    for (const listener of this.#listeners) listener(uid);
  }

  /** The gateway dies: it comes back with every network closed. */
  crash(): void {
    for (const uid of this.networks.keys()) this.bringUp(uid);
  }
}

/** Networks as a daemon's Sandbox reconciler sees them: each is open from its beginning, unless there is no gateway. */
export class FakeSandboxNetworks implements SandboxNetworks {
  readonly guest = {
    network: { mac: '02:00:00:00:00:02', addresses: [`${ADDRESS}/24`], gateways: ['192.0.2.1'], mtu: 1500 },
    nameservers: ['192.0.2.1'],
  };
  /** The gateway opens TLS of every sandbox. */
  intercepts = false;
  readonly #open = new Set<string>();
  readonly #waiting = new Map<string, PromiseWithResolvers<void>>();
  readonly #listeners = new Set<(uid: string) => void>();
  #problem: string | undefined;

  opened(uid: string): void {
    this.#open.add(uid);
    this.#waiting.set(uid, Promise.withResolvers());
    this.#tell(uid);
  }

  closed(uid: string): void {
    this.#open.delete(uid);
    this.#waiting.delete(uid);
  }

  /** No gateway serves from now on, or one does again. */
  setProblem(problem: string | undefined): void {
    this.#problem = problem;
    for (const uid of this.#open) this.#tell(uid);
  }

  stateOf(uid: string): NetworkState | undefined {
    if (!this.#open.has(uid)) return undefined;
    if (this.#problem !== undefined) return { address: ADDRESS, problem: this.#problem };
    return {
      address: ADDRESS,
      acknowledged: 'hash',
      policies: ['default/egress'],
      mode: 'Deny',
      intercepts: this.intercepts,
    };
  }

  async authority(): Promise<string> {
    return FAKE_AUTHORITY;
  }

  whenTried(uid: string): Promise<void> {
    return this.#waiting.get(uid)?.promise ?? Promise.resolve();
  }

  onChange(listener: (uid: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #tell(uid: string): void {
    if (this.#problem === undefined) this.#waiting.get(uid)?.resolve();
    for (const listener of this.#listeners) listener(uid);
  }
}
