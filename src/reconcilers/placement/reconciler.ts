// Places sandboxes on the nodes of a cluster: one step of one sandbox.
import { asBulkheadError } from '../../api/errors.ts';
import type { StoredObject } from '../../api/meta.ts';
import type { DefaultedSandbox } from '../../api/sandbox.ts';
import type { Volume } from '../../api/volume.ts';
import type { Informer } from '../../controller/informer.ts';
import type { Outcome, Reconciler, Request } from '../../controller/reconciler.ts';
import { EFFECTS, type PlacementDeps } from './effects.ts';
import { REPLACE_AFTER_MS } from './limits.ts';
import { decide } from './machine.ts';
import type { NodeWatch } from './nodes.ts';
import type { Observation, Pod } from './observation.ts';

type Caches = Readonly<Record<'sandboxes' | 'pods' | 'volumes', Pick<Informer, 'get' | 'list'>>>;

export class PlacementReconciler implements Reconciler {
  readonly name = 'placement';
  readonly kind = 'Sandbox';
  readonly #deps: PlacementDeps;
  readonly #caches: Caches;
  readonly #nodes: Pick<NodeWatch, 'health'>;

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
      // The caches were behind: what they do not show yet wakes the key when they do.
      if (code === 'CONFLICT' || code === 'NOT_FOUND') return { type: 'requeue', afterMs: 100 };
      throw error;
    }
    return state === 'Unplaced.Clearing' ? { type: 'requeue', afterMs: REPLACE_AFTER_MS } : { type: 'done' };
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
    const pod = this.#podOf(namespace, name, object?.metadata.uid);
    const nodeName = object?.status?.nodeName;
    const volumeNodes =
      object === undefined ? [] : this.#volumes(object).map(({ status }) => status?.nodeName);
    return {
      ...(object === undefined ? {} : { object }),
      ...(pod === undefined ? {} : { pod }),
      node: nodeName === undefined ? 'Healthy' : this.#nodes.health(nodeName),
      volumeNodes: [...new Set(volumeNodes)].filter((node) => node !== undefined),
    };
  }

  /** The reservation of this very sandbox; or, where that is gone, of one that had its name. */
  #podOf(namespace: string, name: string, uid: string | undefined): Pod | undefined {
    const owned = (pod: StoredObject): boolean =>
      pod.metadata.ownerReferences?.some(
        (owner) =>
          owner.kind === 'Sandbox' && owner.name === name && (uid === undefined || owner.uid === uid),
      ) === true;
    return this.#caches.pods.list(namespace).find(owned) as Pod | undefined;
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

function volumeNames({ spec }: DefaultedSandbox): string[] {
  return (spec.volumes ?? []).map(({ volume }) => volume?.name).filter((name) => name !== undefined);
}
