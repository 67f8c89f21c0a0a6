// What is known of one sandbox's place when a decision is made.
import type { Condition, StoredObject } from '../../api/meta.ts';
import type { DefaultedSandbox } from '../../api/sandbox.ts';

/** The parts of a Pod that matter here. */
export interface PodSpec {
  nodeName?: string;
}
export interface PodStatus {
  phase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown';
  reason?: string;
  message?: string;
  conditions?: readonly Pick<Condition, 'type' | 'status' | 'reason' | 'message'>[];
}
export type Pod = StoredObject<PodSpec, PodStatus>;

/**
 * - `Healthy`: its agent renews its lease, or is not known yet.
 * - `Lost`: it has not for too long. What runs there may still run.
 * - `Gone`: it is silent, and the cluster says that nothing runs there any more: its Node object is gone, or was declared out
 *   of service.
 */
export type NodeHealth = 'Healthy' | 'Lost' | 'Gone';

export interface Observation {
  /** The Sandbox, or none where it is gone. */
  object?: DefaultedSandbox;
  /** Its reservation. */
  pod?: Pod;
  /** For how long this controller has known a reservation that is not bound. */
  reservedMs: number;
  /** Of the node in the sandbox's status. */
  node: NodeHealth;
  /** Nodes that hold disks of the sandbox's volumes; each volume is on one. */
  volumeNodes: readonly string[];
}
