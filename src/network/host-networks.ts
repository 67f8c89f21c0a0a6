// The networks of this host's sandboxes: keeps a gateway running, and has each VM's network opened there under its policy.
import type { Socket } from 'node:net';
import { asBulkheadError, BulkheadError } from '../api/errors.ts';
import type { FlowEntry } from '../api/wire.ts';
import { type Clock, sleep } from '../controller/clock.ts';
import { GUEST_NETWORK, GUEST_V4 } from './gateway/address-plan.ts';
import type { Attached } from './gateway/control.ts';
import type { GatewayCounters, SandboxRefusals } from './gateway/flow-log.ts';
import type { InterceptionInputs } from './gateway/interceptor.ts';
import { RECONNECT_BASE_MS, RECONNECT_MAX_MS, REFUSALS_INTERVAL_MS } from './gateway/limits.ts';
import type { Authority } from './intercept/certificates.ts';
import type {
  NamespaceHolder,
  NetworkPlane,
  NetworkState,
  SandboxNetworks,
  WantedNetwork,
} from './network-plane.ts';
import { revisionsDigest } from './policy/compile.ts';
import type { EffectivePolicy } from './policy/effective.ts';
import { intercepts } from './policy/interception.ts';

/** What a gateway is given of one network. */
export interface GatewayNetwork extends Pick<WantedNetwork, 'ports'> {
  readonly policy: EffectivePolicy;
  readonly interception: InterceptionInputs;
}

/** A connection to a gateway. */
export interface Gateway {
  /** Opens the network, or takes it as it is where the same process holds it, and brings into force what is wanted. */
  attach(uid: string, holder: NamespaceHolder, wanted: GatewayNetwork): Promise<Attached>;
  detach(uid: string): Promise<void>;
  log(uid: string): Promise<readonly FlowEntry[]>;
  counters(): Promise<GatewayCounters>;
  /** Since they were last asked for. */
  refusals(): Promise<readonly SandboxRefusals[]>;
  /** Sandboxes whose published ports were used since that was last asked. */
  uses(): Promise<readonly string[]>;
  /** Resolves when it is gone. */
  readonly closed: Promise<void>;
  /** Lets go of the connection; the gateway goes on. */
  close(): void;
}

export interface HostNetworksOptions {
  /** To a TCP port of the guest of a VM. Rejects where it does not take the connection. */
  dial: (holder: NamespaceHolder, port: number) => Promise<Socket>;
  /** To the gateway that runs, or to one that is started. */
  connect: (signal: AbortSignal) => Promise<Gateway>;
  /** Read where TLS is opened. */
  authority: () => Promise<Authority>;
  clock: Clock;
  /** Told once for each time that the gateway is lost or cannot be had. */
  onProblem: (error: BulkheadError) => void;
  /** Told now and then of what was refused meanwhile. */
  onRefusals: (sandbox: SandboxRefusals) => void;
  /** Told as often of the sandboxes whose published ports were used meanwhile, all of them; of none while there is no gateway. */
  onUses: (uids: readonly string[]) => void;
}

interface Network {
  readonly holder: NamespaceHolder;
  readonly tried: PromiseWithResolvers<void>;
  acknowledged?: EffectivePolicy;
  ports?: NonNullable<NetworkState['ports']>;
  secrets?: string;
  problem?: string;
}

export class HostNetworks implements NetworkPlane, SandboxNetworks {
  readonly guest = GUEST_NETWORK;
  readonly #options: HostNetworksOptions;
  readonly #networks = new Map<string, Network>();
  readonly #listeners = new Set<(uid: string) => void>();
  readonly #stop = new AbortController();
  #gateway: Gateway | undefined;
  #problem: string | undefined;
  #running: Promise<void> | undefined;
  #telling: Promise<void> | undefined;

  constructor(options: HostNetworksOptions) {
    this.#options = options;
  }

  /** Begins to look for a gateway; does not wait for it, as nothing but networks needs one. */
  async start(): Promise<void> {
    this.#running = this.#run();
    this.#telling = this.#tellOfGateway();
  }

  /** Lets go of the gateway, which goes on for the VMs. */
  async stop(): Promise<void> {
    this.#stop.abort();
    this.#gateway?.close();
    await this.#running;
    await this.#telling;
  }

  /** Why no gateway serves; undefined while one does, and before the first attempt has ended. */
  get problem(): string | undefined {
    return this.#problem;
  }

  opened(uid: string, holder: NamespaceHolder): void {
    const former = this.#networks.get(uid)?.holder;
    if (former?.pid === holder.pid && former.startTime === holder.startTime) return;
    this.#networks.set(uid, { holder, tried: Promise.withResolvers() });
    this.#tell(uid);
  }

  closed(uid: string): void {
    if (!this.#networks.delete(uid)) return;
    // Where it fails the gateway is gone, or sees by itself that the VM is.
    this.#gateway?.detach(uid).catch(() => {});
    this.#tell(uid);
  }

  async program(uid: string, wanted: WantedNetwork): Promise<string> {
    const network = this.#networks.get(uid);
    const gateway = this.#gateway;
    if (network === undefined) throw unavailable('the VM is gone');
    if (gateway === undefined) throw unavailable(this.#problem ?? 'it is being reached');
    try {
      const { hash, ports } = await gateway.attach(uid, network.holder, await this.#forGateway(wanted));
      if (this.#networks.get(uid) !== network) {
        // Another VM, or none, by now; what is attached for it is its own matter.
        if (!this.#networks.has(uid)) gateway.detach(uid).catch(() => {});
        return hash;
      }
      if (this.#gateway !== gateway) return hash;
      delete network.problem;
      if (hash === wanted.effective.hash) {
        network.acknowledged = wanted.effective;
        network.secrets = wanted.secrets.digest;
        network.ports = { wanted: wanted.ports, published: ports };
        network.tried.resolve();
      }
      this.#tell(uid);
      return hash;
    } catch (error) {
      const failure = asBulkheadError(error);
      if (this.#gateway === gateway) network.tried.resolve();
      if (network.problem !== failure.message) {
        network.problem = failure.message;
        this.#tell(uid);
      }
      throw failure;
    }
  }

  stateOf(uid: string): NetworkState | undefined {
    const network = this.#networks.get(uid);
    if (network === undefined) return undefined;
    const { acknowledged, ports, secrets = '', problem = this.#problem } = network;
    const address = GUEST_V4;
    if (acknowledged === undefined) return { address, ...(problem === undefined ? {} : { problem }) };
    const { hash, policies, mode } = acknowledged;
    return {
      ...{ address, acknowledged: hash, policies: policies.map(({ name }) => name), mode: mode.value },
      ...{ intercepts: intercepts(acknowledged), revisions: revisionsDigest(policies), secrets },
      ...(ports === undefined ? {} : { ports }),
    };
  }

  async authority(): Promise<string> {
    return (await this.#options.authority()).certificate;
  }

  async #forGateway({ effective, ports, secrets }: WantedNetwork): Promise<GatewayNetwork> {
    const interception = {
      ...(intercepts(effective) ? { authority: await this.#options.authority() } : {}),
      secrets: secrets.items,
    };
    return { policy: effective, ports, interception };
  }

  whenTried(uid: string): Promise<void> {
    return this.#networks.get(uid)?.tried.promise ?? Promise.resolve();
  }

  onChange(listener: (uid: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The last decisions of a sandbox, oldest first. Fails with NETWORK_UNAVAILABLE or SANDBOX_NOT_RUNNING. */
  async log(uid: string): Promise<readonly FlowEntry[]> {
    if (!this.#networks.has(uid))
      throw new BulkheadError('SANDBOX_NOT_RUNNING', 'The sandbox has no running VM.');
    if (this.#gateway === undefined) throw unavailable(this.#problem ?? 'it is being reached');
    return this.#gateway.log(uid);
  }

  /**
   * Connects to a TCP port of a guest, which its answers can leave as the gateway has opened its network. Fails with
   * SANDBOX_NOT_RUNNING, NETWORK_UNAVAILABLE or PORT_UNREACHABLE.
   */
  async dial(uid: string, port: number): Promise<Socket> {
    const network = this.#networks.get(uid);
    if (network === undefined)
      throw new BulkheadError('SANDBOX_NOT_RUNNING', 'The sandbox has no running VM.');
    const { acknowledged, problem = this.#problem } = network;
    if (acknowledged === undefined) throw unavailable(problem ?? 'it is being reached');
    if (acknowledged.mode.value === 'Airgapped')
      throw new BulkheadError(
        'PORT_UNREACHABLE',
        `Mode Airgapped of ${acknowledged.mode.policy} closes the ports of the guest too.`,
      );
    try {
      return await this.#options.dial(network.holder, port);
    } catch (error) {
      const refused = error instanceof Error && 'code' in error && error.code === 'ECONNREFUSED';
      const why = refused ? `Nothing listens on port ${port} of the guest` : `Port ${port} of the guest`;
      const text = refused ? `${why}.` : `${why}: ${error instanceof Error ? error.message : String(error)}`;
      throw new BulkheadError('PORT_UNREACHABLE', text, { cause: error });
    }
  }

  /** Undefined while there is no gateway. Fails with NETWORK_UNAVAILABLE. */
  async counters(): Promise<GatewayCounters | undefined> {
    return this.#gateway?.counters();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const stopped = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    for (let failures = 0; !signal.aborted; ) {
      try {
        const gateway = await this.#options.connect(signal);
        if (signal.aborted) return gateway.close();
        failures = 0;
        this.#gateway = gateway;
        this.#problem = undefined;
        this.#tellAll();
        await Promise.race([gateway.closed, stopped]);
        this.#gateway = undefined;
        if (!signal.aborted) this.#lost(unavailable('it is gone; another one is started'));
      } catch (error) {
        failures += 1;
        if (signal.aborted) return;
        this.#lost(asBulkheadError(error));
      }
      if (signal.aborted) return;
      const delay = Math.min(RECONNECT_MAX_MS, RECONNECT_BASE_MS * 2 ** Math.min(failures, 10));
      await sleep(this.#options.clock, delay, signal);
    }
  }

  async #tellOfGateway(): Promise<void> {
    const { clock, onRefusals, onUses } = this.#options;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await sleep(clock, REFUSALS_INTERVAL_MS, signal);
      // A gateway that is gone has nothing to tell.
      const told = await this.#gateway?.refusals().catch(() => []);
      const used = await this.#gateway?.uses().catch(() => []);
      if (signal.aborted) return;
      for (const each of told ?? []) onRefusals(each);
      onUses(used ?? []);
    }
  }

  #lost(error: BulkheadError): void {
    this.#problem = error.message;
    this.#options.onProblem(error);
    for (const [uid, network] of this.#networks) {
      delete network.acknowledged;
      delete network.problem;
      this.#tell(uid);
    }
  }

  #tellAll(): void {
    for (const uid of this.#networks.keys()) this.#tell(uid);
  }

  #tell(uid: string): void {
    for (const listener of this.#listeners) listener(uid);
  }
}

function unavailable(why: string): BulkheadError {
  return new BulkheadError('NETWORK_UNAVAILABLE', `The gateway does not serve: ${why}.`);
}
