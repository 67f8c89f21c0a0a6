// Says of each volume without a node that it waits for its first sandbox. What is on a node, its agent speaks of.
import { isDeepStrictEqual } from 'node:util';
import { REASONS, setCondition } from '../../api/conditions.ts';
import { asBulkheadError } from '../../api/errors.ts';
import type { Condition } from '../../api/meta.ts';
import type { Volume, VolumeStatus } from '../../api/volume.ts';
import type { Clock } from '../../controller/clock.ts';
import type { Informer } from '../../controller/informer.ts';
import type { Outcome, Reconciler, Request } from '../../controller/reconciler.ts';
import type { Store } from '../../store/store.ts';

const MESSAGE = 'It belongs to no node yet: it is made on the node of the first sandbox that mounts it.';

export class UnplacedVolumeReconciler implements Reconciler {
  readonly name = 'volume-placement';
  readonly kind = 'Volume';
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #volumes: Pick<Informer, 'get'>;

  constructor(store: Store, clock: Clock, volumes: Pick<Informer, 'get'>) {
    this.#store = store;
    this.#clock = clock;
    this.#volumes = volumes;
  }

  async reconcile(request: Request): Promise<Outcome> {
    const volume = this.#volumes.get(request.namespace, request.name) as Volume | undefined;
    if (volume === undefined || volume.status?.nodeName !== undefined) return { type: 'done' };
    const status = unplacedStatus(volume, new Date(this.#clock.now()));
    if (isDeepStrictEqual(status, volume.status)) return { type: 'done' };
    try {
      await this.#store.updateStatus(request, status, volume.metadata.resourceVersion);
    } catch (error) {
      // What came between, its placement above all, wakes the key.
      if (!['CONFLICT', 'NOT_FOUND'].includes(asBulkheadError(error).code)) throw error;
    }
    return { type: 'done' };
  }
}

function unplacedStatus({ metadata, status }: Volume, now: Date): VolumeStatus {
  const context = { observedGeneration: metadata.generation, now };
  let conditions: readonly Condition[] = status?.conditions ?? [];
  for (const type of ['Ready', 'Bound'] as const) {
    const update = { type, status: 'False', reason: REASONS.WaitForFirstConsumer, message: MESSAGE } as const;
    conditions = setCondition(conditions, update, context);
  }
  return { observedGeneration: metadata.generation, phase: 'Pending', conditions: [...conditions] };
}
