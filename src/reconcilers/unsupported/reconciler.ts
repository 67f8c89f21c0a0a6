// For kinds that are accepted and stored but not acted on in this release: says so on every object, and does nothing.
import { type ConditionType, REASONS, setCondition } from '../../api/conditions.ts';
import { asBulkheadError, BulkheadError, ERRORS } from '../../api/errors.ts';
import type { Condition } from '../../api/meta.ts';
import type { Clock } from '../../controller/clock.ts';
import type { Outcome, Reconciler, Request } from '../../controller/reconciler.ts';
import type { Store } from '../../store/store.ts';

/** The part of a status that every kind of ours has. */
interface CommonStatus {
  observedGeneration?: number;
  conditions?: readonly Condition[];
}

/** A reconciler that sets Stalled=True and Ready=False with reason NotSupported, once per generation. */
export function createUnsupportedReconciler(kind: string, store: Store, clock: Clock): Reconciler {
  const message = `This release does not act on objects of kind ${kind} yet. Nothing is created for this one.`;
  return {
    name: kind.toLowerCase(),
    kind,
    async reconcile(request: Request): Promise<Outcome> {
      const object = await store.get(request);
      if (object === undefined || object.metadata.deletionTimestamp !== undefined) return { type: 'done' };
      const former = (object.status ?? {}) as CommonStatus;
      const { generation, resourceVersion } = object.metadata;
      const context = { observedGeneration: generation, now: new Date(clock.now()) };
      let conditions = former.conditions ?? [];
      for (const [type, status] of [
        ['Ready', 'False'],
        ['Stalled', 'True'],
      ] as const satisfies [ConditionType, Condition['status']][]) {
        conditions = setCondition(
          conditions,
          { type, status, reason: REASONS.NotSupported, message },
          context,
        );
      }
      if (conditions === former.conditions && former.observedGeneration === generation)
        return { type: 'done' };
      try {
        await store.updateStatus(
          request,
          { ...former, observedGeneration: generation, conditions },
          resourceVersion,
        );
      } catch (error) {
        const { code } = asBulkheadError(error);
        // The change that came between wakes the key.
        if (code === 'CONFLICT' || code === 'NOT_FOUND') return { type: 'done' };
        throw error;
      }
      return {
        type: 'terminal',
        error: new BulkheadError('NOT_SUPPORTED', `${message} ${ERRORS.NOT_SUPPORTED.hint}`),
      };
    },
  };
}
