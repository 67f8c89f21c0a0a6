// The contract between the policies' reconcilers and what carries them out: one gateway on this host, which serves the
// networks of its sandboxes whether a daemon runs or not.
import type { EffectivePolicy } from './policy/effective.ts';

/** The network of one sandbox, as far as is known. */
export interface NetworkState {
  /** Hash of what the gateway said that it has in force. Absent: the network is closed. */
  readonly acknowledged?: string;
}

export interface NetworkPlane {
  /**
   * Brings a policy into force for a sandbox of this host. Resolves with the hash that the gateway acknowledged, when flows
   * that it forbids are cut. Fails with NETWORK_UNAVAILABLE where the gateway does not answer; the sandbox's network is
   * closed then, or still under its former policy, never open.
   */
  program(uid: string, effective: EffectivePolicy): Promise<string>;
  /** Undefined for a sandbox without a network on this host, as one that does not run. */
  stateOf(uid: string): NetworkState | undefined;
  /** Calls back when a state changes other than by `program`: a network came or went, the gateway died or came back. */
  onChange(listener: (uid: string) => void): () => void;
}
