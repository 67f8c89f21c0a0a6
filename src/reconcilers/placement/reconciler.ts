// Places sandboxes on the nodes of a cluster: one step of one sandbox.
import { asBulkheadError } from '../../api/errors.ts';
import type { StoredObject } from '../../api/meta.ts';
import type { DefaultedSandbox } from '../../api/sandbox.ts';
import type { Volume } from '../../api/volume.ts';
import type { Informer } from '../../controller/informer.ts';
import type { Outcome, Reconciler, Request } from '../../controller/reconciler.ts';
import { EFFECTS, type PlacementDeps } from './effects.ts';
import { REPLACE_AFTER_MS, REPORT_WAIT_AFTER_MS } from './limits.ts';
import { decide } from './machine.ts';
import type { NodeWatch } from './nodes.ts';
import type { Observation, Pod } from './observation.ts';
import { reservationName } from './reservation.ts';

type Caches = Readonly<Record<'sandboxes' | 'pods' | 'volumes', Pick<Informer, 'get' | 'list'>>>;

export class PlacementReconciler implements Reconciler {
  readonly name = 'placement';
  readonly kind = 'Sandbox';
  readonly #deps: PlacementDeps;
  readonly #caches: Caches;
  readonly #nodes: Pick<NodeWatch, 'health'>;
  /** By `NAMESPACE/NAME` of sandboxes that have no place yet: their reservation, and since when it has been known here. */
  readonly #reserved = new Map<string, { uid: string; at: number }>();

  constructor(deps: Omit<PlacementDeps, 'volumesOf'>, caches: Caches, nodes: Pick<NodeWatch, 'health'>) {
    this.#caches = caches;
    this.#nodes = nodes;
    this.#deps = { ...deps, volumesOf: ({ object }) => (object === undefined ? [] : this.#volumes(object)) };
  }

  async reconcile(request: Request): Promise<Outcome> {
    const observation = this.#observe(request);
    const { state, commands } = decide(observation);
    try {
      for (const command of commands) await EFFECTS[command](this.#deps, observation);
    } catch (error) {
      const { code } = asBulkheadError(error);
      // The caches were behind: what they do not show yet wakes the key when they do. Until then with back-off, as a cache whose
      // watch is broken stays behind for long.
      if (code === 'CONFLICT' || code === 'NOT_FOUND') return { type: 'transient', error: error as Error };
      throw error;
    }
    if (state === 'Unplaced.Clearing') return { type: 'requeue', afterMs: REPLACE_AFTER_MS };
    if (state !== 'Unplaced.Reserved') return { type: 'done' };
    return { type: 'requeue', afterMs: REPORT_WAIT_AFTER_MS - observation.reservedMs };
  }

  /** Keys of the sandboxes that a Pod, a Volume or a change of a node concerns. */
  sandboxesOfPod({ metadata }: StoredObject): Request[] {
    const owner = metadata.ownerReferences?.find(({ kind }) => kind === 'Sandbox');
    return owner === undefined ? [] : [{ kind: 'Sandbox', namespace: metadata.namespace, name: owner.name }];
  }

  sandboxesOfVolume({ metadata }: StoredObject): Request[] {
    return this.#caches.sandboxes
      .list(metadata.namespace)
      .filter((object) => volumeNames(object as DefaultedSandbox).includes(metadata.name))
      .map(keyOf);
  }

  sandboxesOfNode(nodeName: string): Request[] {
    return this.#caches.sandboxes
      .list()
      .filter((object) => (object as DefaultedSandbox).status?.nodeName === nodeName)
      .map(keyOf);
  }

  #observe({ namespace, name }: Request): Observation {
    const object = this.#caches.sandboxes.get(namespace, name) as DefaultedSandbox | undefined;
    const pod = object === undefined ? this.#leftOf(namespace, name) : this.#reservationOf(object);
    const nodeName = object?.status?.nodeName;
    const volumeNodes =
      object === undefined ? [] : this.#volumes(object).map(({ status }) => status?.nodeName);
    return {
      ...(object === undefined ? {} : { object }),
      ...(pod === undefined ? {} : { pod }),
      reservedMs: this.#reservedMs(`${namespace}/${name}`, pod),
      node: nodeName === undefined ? 'Healthy' : this.#nodes.health(nodeName),
      volumeNodes: [...new Set(volumeNodes)].filter((node) => node !== undefined),
    };
  }

  #reservationOf(object: DefaultedSandbox): Pod | undefined {
    const pod = this.#caches.pods.get(object.metadata.namespace, reservationName(object)) as Pod | undefined;
    return pod !== undefined && isOwnedBy(pod, object.metadata) ? pod : undefined;
  }

  /** The reservation of a sandbox that is gone. */
  #leftOf(namespace: string, name: string): Pod | undefined {
    return this.#caches.pods.list(namespace).find((pod) => isOwnedBy(pod, { name })) as Pod | undefined;
  }

  #reservedMs(id: string, pod: Pod | undefined): number {
    if (pod === undefined || pod.spec.nodeName !== undefined) {
      this.#reserved.delete(id);
      return 0;
    }
    const now = this.#deps.clock.monotonic();
    const known = this.#reserved.get(id);
    if (known?.uid === pod.metadata.uid) return now - known.at;
    this.#reserved.set(id, { uid: pod.metadata.uid, at: now });
    return 0;
  }

  #volumes(object: DefaultedSandbox): Volume[] {
    return volumeNames(object)
      .map((name) => this.#caches.volumes.get(object.metadata.namespace, name) as Volume | undefined)
      .filter((volume) => volume !== undefined);
  }
}

function keyOf({ kind, metadata: { namespace, name } }: StoredObject): Request {
  return { kind, namespace, name };
}

function isOwnedBy({ metadata }: StoredObject, { name, uid }: { name: string; uid?: string }): boolean {
  const owner = metadata.ownerReferences?.find(({ kind }) => kind === 'Sandbox');
  return owner?.name === name && (uid === undefined || owner.uid === uid);
}

function volumeNames({ spec }: DefaultedSandbox): string[] {
  return (spec.volumes ?? []).map(({ volume }) => volume?.name).filter((name) => name !== undefined);
}
