// The contract between the policies' reconciler and what carries them out: one gateway on this host, which serves the
// networks of its sandboxes whether a daemon runs or not.
import type { EffectivePolicy } from './policy/effective.ts';

export interface NetworkPlane {
  /**
   * Brings a policy into force for a sandbox of this host. Resolves with the hash that the gateway acknowledged, when flows
   * that it forbids are cut. Fails with NETWORK_UNAVAILABLE where the gateway does not answer; the sandbox's network is
   * closed then, or still under its former policy, never open.
   */
  program(uid: string, effective: EffectivePolicy): Promise<string>;
  /** Hash of what the gateway has in force for a sandbox, as far as is known. Undefined: its network is closed. */
  acknowledged(uid: string): string | undefined;
  /** Calls back when that changes other than by `program`: a network came or went, the gateway died or came back. */
  onChange(listener: (uid: string) => void): () => void;
}
