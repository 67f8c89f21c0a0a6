// Ends sandboxes whose client is gone: those that ask, by annotation, to live only while somebody holds them.
import { UNHELD_ACTIONS, UNHELD_ANNOTATION, type UnheldAction } from '../../api/annotations.ts';
import { asBulkheadError } from '../../api/errors.ts';
import type { StoredObject } from '../../api/meta.ts';
import type { Clock } from '../../controller/clock.ts';
import type { Enqueuer, Outcome, Reconciler, Request } from '../../controller/reconciler.ts';
import type { Store } from '../../store/store.ts';

/** A client that connects again, after a restart of the daemon or a hiccup of its own, is back well before this. */
export const UNHELD_GRACE_MS = 15_000;

interface Dependencies {
  store: Store;
  clock: Clock;
  enqueuer: Enqueuer;
}

interface Held {
  namespace: string;
  name: string;
  uid: string;
}

function unheldAction({ metadata }: StoredObject): UnheldAction | undefined {
  return UNHELD_ACTIONS.find((action) => action === metadata.annotations?.[UNHELD_ANNOTATION]);
}

/**
 * Who holds is known to this process alone. So a daemon that has just started gives every client the grace to come back,
 * and nothing has to be written while a client is there.
 */
export class LeaseReconciler implements Reconciler {
  readonly name = 'lease';
  readonly kind = 'Sandbox';
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #enqueuer: Enqueuer;
  /** Holders by uid of the sandbox. */
  readonly #holders = new Map<string, number>();
  /** Since when nobody holds, by uid; of annotated sandboxes that were looked at. */
  readonly #unheldSince = new Map<string, number>();
  /** Names of these, for when the object is gone. */
  readonly #uids = new Map<string, string>();

  constructor({ store, clock, enqueuer }: Dependencies) {
    this.#store = store;
    this.#clock = clock;
    this.#enqueuer = enqueuer;
  }

  /** Holds the sandbox until the returned function is called. */
  hold({ namespace, name, uid }: Held): () => void {
    this.#holders.set(uid, (this.#holders.get(uid) ?? 0) + 1);
    this.#unheldSince.delete(uid);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const left = (this.#holders.get(uid) ?? 1) - 1;
      if (left > 0) this.#holders.set(uid, left);
      else {
        this.#holders.delete(uid);
        this.#enqueuer.enqueue({ kind: this.kind, namespace, name });
      }
    };
  }

  async reconcile(request: Request): Promise<Outcome> {
    const object = await this.#store.get(request);
    const action = object === undefined ? undefined : unheldAction(object);
    if (object === undefined || action === undefined || object.metadata.deletionTimestamp !== undefined) {
      this.#forget(request);
      return { type: 'done' };
    }
    const { uid } = object.metadata;
    if (this.#holders.has(uid)) return { type: 'done' };
    this.#remember(request, uid);
    const now = this.#clock.now();
    // A clock that was set back begins the grace anew.
    const since = Math.min(this.#unheldSince.get(uid) ?? now, now);
    this.#unheldSince.set(uid, since);
    const left = since + UNHELD_GRACE_MS - now;
    if (left > 0) return { type: 'requeue', afterMs: left };
    await this.#end(request, uid, action);
    this.#forget(request);
    return { type: 'done' };
  }

  async #end(request: Request, uid: string, action: UnheldAction): Promise<void> {
    try {
      if (action === 'Delete') await this.#store.delete(request, { uid });
      else
        await this.#store.patch(request, {
          metadata: { uid, annotations: { [UNHELD_ANNOTATION]: null } },
          spec: { operatingMode: 'Suspended' },
        });
    } catch (error) {
      // Another sandbox has the name by now, or none.
      if (!['NOT_FOUND', 'CONFLICT'].includes(asBulkheadError(error).code)) throw error;
    }
  }

  #remember(request: Request, uid: string): void {
    this.#forget(request, uid);
    this.#uids.set(keyOf(request), uid);
  }

  #forget(request: Request, except?: string): void {
    const key = keyOf(request);
    const uid = this.#uids.get(key);
    if (uid === undefined || uid === except) return;
    this.#uids.delete(key);
    this.#unheldSince.delete(uid);
  }
}

function keyOf({ namespace, name }: Request): string {
  return `${namespace}/${name}`;
}
