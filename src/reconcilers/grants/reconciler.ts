// Lets the node of each sandbox read the Secrets and ConfigMaps that the sandbox refers to, by itself and by the policies that
// select it; and nobody where it has no node.
import type { StoredObject } from '../../api/meta.ts';
import type { DefaultedSandbox } from '../../api/sandbox.ts';
import type { Informer } from '../../controller/informer.ts';
import type { Outcome, Reconciler, Request } from '../../controller/reconciler.ts';
import type { ObjectKey } from '../../store/store.ts';
import { referencesOf } from '../networkpolicy/policies.ts';
import { policiesOf } from '../networkpolicy/reconciler.ts';
import { referencedObjects } from '../sandbox/references.ts';

/** Who may read what, as the cluster keeps it. Each call is cheap where nothing changes. */
export interface Grants {
  grant(sandbox: StoredObject, nodeName: string, keys: readonly ObjectKey[]): Promise<void>;
  revoke(sandbox: StoredObject): Promise<void>;
  forget(namespace: string, name: string): void;
}

type Caches = Readonly<Record<'sandboxes' | 'policies', Pick<Informer, 'get' | 'list'>>>;

export class GrantReconciler implements Reconciler {
  readonly name = 'grants';
  readonly kind = 'Sandbox';
  readonly #grants: Grants;
  readonly #caches: Caches;

  constructor(grants: Grants, caches: Caches) {
    this.#grants = grants;
    this.#caches = caches;
  }

  async reconcile({ namespace, name }: Request): Promise<Outcome> {
    const object = this.#caches.sandboxes.get(namespace, name) as DefaultedSandbox | undefined;
    if (object === undefined) this.#grants.forget(namespace, name);
    else await this.grant(object, object.status?.nodeName);
    return { type: 'done' };
  }

  /** To be called before a sandbox is placed, so that its node finds what it needs; undefined: it has no node. */
  async grant(object: DefaultedSandbox, nodeName: string | undefined): Promise<void> {
    const keys = this.#keysOf(object);
    if (nodeName === undefined || keys.length === 0) await this.#grants.revoke(object);
    else await this.#grants.grant(object, nodeName, keys);
  }

  #keysOf(object: DefaultedSandbox): ObjectKey[] {
    const policies = policiesOf(object, this.#caches.policies.list(object.metadata.namespace));
    const keys = [...referencedObjects(object), ...policies.flatMap(referencesOf)];
    return keys.filter(({ kind }) => kind === 'Secret' || kind === 'ConfigMap');
  }
}
