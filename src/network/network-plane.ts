// The contract with what carries policies out: one gateway on this host, which serves the networks of its sandboxes
// whether a daemon runs or not.
import type { EgressMode } from '../api/networkpolicy.ts';
import type { EffectivePolicy } from './policy/effective.ts';

/** A process that lives in the network namespace of a VM. */
export interface NamespaceHolder {
  readonly pid: number;
  /** In clock ticks since boot, decimal: /proc/PID/stat, field 22. */
  readonly startTime: string;
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
  /** Why it is not open. Absent where it is, and where this process has not tried yet. */
  readonly problem?: string;
}

/** What the policies' reconcilers ask for. */
export interface NetworkPlane {
  /**
   * Brings a policy into force for a sandbox of this host. Resolves with the hash that the gateway acknowledged, when flows
   * that it forbids are cut. Fails with NETWORK_UNAVAILABLE where the gateway does not answer; the sandbox's network is
   * closed then, or still under its former policy, never open.
   */
  program(uid: string, effective: EffectivePolicy): Promise<string>;
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
  /** A VM runs, whether started or found: its network is to be open. Safe to repeat. */
  opened(uid: string, holder: NamespaceHolder): void;
  /** The VM is gone. */
  closed(uid: string): void;
  /** Resolves when a policy is in force for the VM that runs. */
  whenProgrammed(uid: string): Promise<void>;
}
