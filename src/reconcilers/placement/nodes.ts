// Which nodes are heard of. An agent renews its lease; how long ago is measured by our clock, so that theirs need not agree.
import type { StoredObject } from '../../api/meta.ts';
import type { Clock } from '../../controller/clock.ts';
import type { NodeHealth } from './observation.ts';

/** Prefix of the names of the agents' leases, before the node's name. */
export const NODE_LEASE_PREFIX = 'node-';
/** A lease that was not renewed for so long: four renewals are missing, as Kubernetes counts for its own nodes. */
export const NODE_LOST_AFTER_MS = 40_000;
/** By it somebody declares that nothing runs on a node any more. */
const OUT_OF_SERVICE = 'node.kubernetes.io/out-of-service';

interface Heard {
  /** Of the lease, as it stands in it. */
  renewTime: string;
  /** When we saw it first, monotonic milliseconds. */
  at: number;
}

interface NodeSpec {
  taints?: readonly { key: string }[];
}

export class NodeWatch {
  readonly #clock: Clock;
  readonly #changed: (nodeName: string) => void;
  readonly #heard = new Map<string, Heard>();
  readonly #timers = new Map<string, () => void>();
  /** Nodes of the cluster, and whether each was declared out of service. */
  readonly #outOfService = new Map<string, boolean>();

  /** `changed` is told of a node whose health may be another. */
  constructor(clock: Clock, changed: (nodeName: string) => void) {
    this.#clock = clock;
    this.#changed = changed;
  }

  /**
   * A node that is no longer there, or was declared out of service, is gone only when its agent is silent too: a Node object
   * can be deleted while its machine lives.
   */
  health(nodeName: string): NodeHealth {
    const heard = this.#heard.get(nodeName);
    const isSilent = heard === undefined || this.#clock.monotonic() - heard.at >= NODE_LOST_AFTER_MS;
    const isDeclaredGone = this.#outOfService.get(nodeName) ?? true;
    if (isDeclaredGone && isSilent) return 'Gone';
    // Without a lease: its agent has not begun yet.
    return isSilent && heard !== undefined ? 'Lost' : 'Healthy';
  }

  /** A Node object as it is now. */
  noteNode({ metadata, spec }: StoredObject): void {
    const { taints = [] } = spec as NodeSpec;
    const former = this.#outOfService.get(metadata.name);
    const outOfService = taints.some(({ key }) => key === OUT_OF_SERVICE);
    this.#outOfService.set(metadata.name, outOfService);
    if (former !== outOfService) this.#changed(metadata.name);
  }

  forgetNode({ metadata }: StoredObject): void {
    this.#outOfService.delete(metadata.name);
    this.#changed(metadata.name);
  }

  /** A Lease object as it is now; others than those of agents are passed over. */
  noteLease({ metadata, spec }: StoredObject): void {
    if (!metadata.name.startsWith(NODE_LEASE_PREFIX)) return;
    const nodeName = metadata.name.slice(NODE_LEASE_PREFIX.length);
    const { renewTime = '' } = spec as { renewTime?: string };
    if (this.#heard.get(nodeName)?.renewTime === renewTime) return;
    const wasLost = this.health(nodeName) === 'Lost';
    this.#heard.set(nodeName, { renewTime, at: this.#clock.monotonic() });
    this.#timers.get(nodeName)?.();
    this.#timers.set(
      nodeName,
      this.#clock.after(NODE_LOST_AFTER_MS, () => this.#changed(nodeName)),
    );
    if (wasLost) this.#changed(nodeName);
  }

  close(): void {
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
  }
}
