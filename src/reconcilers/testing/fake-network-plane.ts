// A gateway for tests: has what it was told in force, unless it is told to be down or behind.
import { BulkheadError } from '../../api/errors.ts';
import type { NetworkPlane, NetworkState } from '../../network/network-plane.ts';
import type { EffectivePolicy } from '../../network/policy/effective.ts';

export class FakeNetworkPlane implements NetworkPlane {
  /** Sandboxes with a network, by uid, with what is in force. */
  readonly networks = new Map<string, EffectivePolicy | undefined>();
  readonly programmed: { uid: string; hash: string }[] = [];
  isDown = false;
  readonly #listeners = new Set<(uid: string) => void>();

  async program(uid: string, effective: EffectivePolicy): Promise<string> {
    if (this.isDown || !this.networks.has(uid))
      throw new BulkheadError('NETWORK_UNAVAILABLE', 'The gateway does not answer.');
    this.programmed.push({ uid, hash: effective.hash });
    this.networks.set(uid, effective);
    return effective.hash;
  }

  stateOf(uid: string): NetworkState | undefined {
    if (!this.networks.has(uid)) return undefined;
    const hash = this.networks.get(uid)?.hash;
    return hash === undefined ? {} : { acknowledged: hash };
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
