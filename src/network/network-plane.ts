// The contract with what carries policies out: one gateway on this host, which serves the networks of its sandboxes
// whether a daemon runs or not.
import type { EgressMode } from '../api/networkpolicy.ts';
import type { EffectivePolicy } from './policy/effective.ts';
import type { GatewaySecret } from './secrets/secret.ts';

/** A process that lives in the network namespace of a VM. */
export interface NamespaceHolder {
  readonly pid: number;
  /** In clock ticks since boot, decimal: /proc/PID/stat, field 22. */
  readonly startTime: string;
}

/** A port of the guest that the host is to publish. */
export interface WantedPort {
  readonly name: string;
  readonly protocol: 'TCP' | 'UDP';
  /** In the guest. */
  readonly port: number;
  readonly hostIP: string;
  /** Absent: a free one. */
  readonly hostPort?: number;
}

/** What became of it. */
export type PublishedPort =
  | { readonly name: string; readonly hostIP: string; readonly hostPort: number }
  | { readonly name: string; readonly problem: string };

/** The secrets of a sandbox as they are now. */
export interface SecretSet {
  readonly items: readonly GatewaySecret[];
  /** Another one for every other set, values included. Kept in memory alone, as the values are. */
  readonly digest: string;
}

/** What is to be in force for one sandbox. */
export interface WantedNetwork {
  readonly effective: EffectivePolicy;
  readonly ports: readonly WantedPort[];
  readonly secrets: SecretSet;
}

/** The network of one sandbox, as far as is known. */
export interface NetworkState {
  /** Of the guest. */
  readonly address: string;
  /** Hash of what the gateway said that it has in force. Absent: the network is closed, as far as this process knows. */
  readonly acknowledged?: string;
  /** Of what is in force: names as `namespace/name`, and the mode. There exactly where `acknowledged` is. */
  readonly policies?: readonly string[];
  readonly mode?: EgressMode;
  /** Which states of which policies those are: `revisionsDigest`. There exactly where `acknowledged` is. */
  readonly revisions?: string;
  /** The gateway opens TLS: the guest has to trust its authority. There exactly where `acknowledged` is. */
  readonly intercepts?: boolean;
  /** Digest of the secrets that it has. There exactly where `acknowledged` is. */
  readonly secrets?: string;
  /** The ports that were asked for when it was last programmed, and what became of them. */
  readonly ports?: { readonly wanted: readonly WantedPort[]; readonly published: readonly PublishedPort[] };
  /** Why it is not open. Absent where it is, and where this process has not tried yet. */
  readonly problem?: string;
}

/** The first port that could not be published, and why. */
export function portProblem(state: NetworkState | undefined): string | undefined {
  for (const port of state?.ports?.published ?? [])
    if ('problem' in port) return `Port ${port.name} is not published: ${port.problem}`;
  return undefined;
}

/** What the policies' reconcilers ask for. */
export interface NetworkPlane {
  /**
   * Brings a policy into force for a sandbox of this host, and publishes its ports. Resolves with the hash that the gateway
   * acknowledged, when flows that it forbids are cut; what became of the ports is part of the state. Fails with NETWORK_UNAVAILABLE where the gateway does not answer; the sandbox's network is
   * closed then, or still under its former policy, never open.
   */
  program(uid: string, wanted: WantedNetwork): Promise<string>;
  /** Undefined for a sandbox without a network on this host, as one that does not run. */
  stateOf(uid: string): NetworkState | undefined;
  /** Calls back when a state changes: a network came or went, a policy came into force, the gateway died or came back. */
  onChange(listener: (uid: string) => void): () => void;
}

/** What the guest is told of its network when it becomes somebody. */
export interface GuestNetwork {
  readonly network: {
    readonly mac: string;
    /** With their prefix lengths. */
    readonly addresses: readonly string[];
    readonly gateways: readonly string[];
    readonly mtu: number;
  };
  readonly nameservers: readonly string[];
}

/** What the reconciler of Sandboxes tells of its VMs, and asks. */
export interface SandboxNetworks extends Pick<NetworkPlane, 'stateOf' | 'onChange'> {
  /** The same for every sandbox. */
  readonly guest: GuestNetwork;
  /** PEM: the certificate that guests are to trust where the gateway opens TLS. */
  authority(): Promise<string>;
  /** A VM runs, whether started or found: its network is to be open. Safe to repeat. */
  opened(uid: string, holder: NamespaceHolder): void;
  /** The VM is gone. */
  closed(uid: string): void;
  /** Resolves when a policy is in force for the VM that runs, or could not be brought into force at the first try. */
  whenTried(uid: string): Promise<void>;
}
