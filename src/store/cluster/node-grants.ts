// The right of a node to read what one sandbox refers to: a Role with the names of those Secrets and ConfigMaps, bound to the node's
// own account. Both belong to the sandbox and go with it.
import type { StoredObject } from '../../api/meta.ts';
import type { ObjectKey } from '../store.ts';
import type { ApiClient, ApiRequest } from './api-client.ts';
import { absentAsUndefined } from './failures.ts';
import { nodeAccountName } from './node-identity.ts';

const RBAC = 'rbac.authorization.k8s.io';
const FIELD_MANAGER = 'bulkhead';
/** On what belongs to one sandbox. */
const SANDBOX_UID_LABEL = 'bulkhead.dev/sandbox-uid';
const PAGE_SIZE = 500;
const RESOURCES: Readonly<Record<string, string>> = { Secret: 'secrets', ConfigMap: 'configmaps' };

export interface NodeGrantsOptions {
  client: ApiClient;
  /** Where the accounts of nodes are. */
  namespace: string;
  /** Of the Node object; undefined where there is none. */
  nodeUid(nodeName: string): string | undefined;
}

export class NodeGrants {
  readonly #options: NodeGrantsOptions;
  /** By `NAMESPACE/NAME` of the sandbox: what was written last. */
  readonly #written = new Map<string, { uid: string; text: string }>();
  /** Uids of Nodes that have an account. */
  readonly #accounts = new Set<string>();

  constructor(options: NodeGrantsOptions) {
    this.#options = options;
  }

  /** Finds what a former leader granted. To be called before anything is granted. */
  async load(): Promise<void> {
    let more: string | undefined;
    do {
      const answer = await this.#options.client.send({
        method: 'GET',
        path: `/apis/${RBAC}/v1/rolebindings`,
        query: { labelSelector: SANDBOX_UID_LABEL, limit: String(PAGE_SIZE), continue: more },
      });
      const { items = [], metadata = {} } = answer as {
        items?: Pick<StoredObject, 'metadata'>[];
        metadata?: { continue?: string };
      };
      for (const { metadata: binding } of items) {
        const [owner] = binding.ownerReferences ?? [];
        if (owner !== undefined)
          this.#written.set(`${binding.namespace}/${owner.name}`, { uid: owner.uid, text: '' });
      }
      more = metadata.continue;
    } while (more !== undefined && more !== '');
  }

  /** Lets a node read `keys`, which are all that the sandbox refers to, and no other node. No change costs no request. */
  async grant(sandbox: StoredObject, nodeName: string, keys: readonly ObjectKey[]): Promise<void> {
    const rules = rulesFor(keys);
    const nodeUid = this.#options.nodeUid(nodeName);
    const id = idOf(sandbox.metadata);
    const { uid } = sandbox.metadata;
    const text = JSON.stringify({ nodeName, nodeUid, rules });
    const written = this.#written.get(id);
    if (written?.uid === uid && written.text === text) return;
    await this.#makeAccount(nodeName, nodeUid);
    await this.#apply(bodyOf('Role', sandbox, { rules }));
    await this.#apply(
      bodyOf('RoleBinding', sandbox, {
        roleRef: { apiGroup: RBAC, kind: 'Role', name: grantName(uid) },
        subjects: [
          {
            ...{ kind: 'ServiceAccount', name: nodeAccountName(nodeName) },
            namespace: this.#options.namespace,
          },
        ],
      }),
    );
    this.#written.set(id, { uid, text });
  }

  /** No node may read anything for the sandbox. Costs no request where none may. */
  async revoke({ metadata }: StoredObject): Promise<void> {
    if (this.#written.get(idOf(metadata))?.uid !== metadata.uid) return;
    for (const kind of ['RoleBinding', 'Role']) {
      const path = rbacPath(kind, metadata.namespace, grantName(metadata.uid));
      await absentAsUndefined(this.#options.client.send({ method: 'DELETE', path }));
    }
    this.#written.delete(idOf(metadata));
  }

  /** The sandbox is gone, and what was granted for it with it. */
  forget(namespace: string, name: string): void {
    this.#written.delete(`${namespace}/${name}`);
  }

  async #makeAccount(nodeName: string, uid: string | undefined): Promise<void> {
    if (uid === undefined || this.#accounts.has(uid)) return;
    const { namespace } = this.#options;
    await this.#apply({
      path: `/api/v1/namespaces/${encodeURIComponent(namespace)}/serviceaccounts/${encodeURIComponent(nodeAccountName(nodeName))}`,
      body: {
        ...{ apiVersion: 'v1', kind: 'ServiceAccount', automountServiceAccountToken: false },
        metadata: {
          ...{ name: nodeAccountName(nodeName), namespace },
          labels: { 'app.kubernetes.io/managed-by': 'bulkhead' },
          ownerReferences: [{ apiVersion: 'v1', kind: 'Node', name: nodeName, uid }],
        },
      },
    });
    this.#accounts.add(uid);
  }

  async #apply(what: Pick<ApiRequest, 'path' | 'body'>): Promise<void> {
    await this.#options.client.send({
      ...{ ...what, method: 'PATCH', contentType: 'application/apply-patch+yaml' },
      query: { fieldManager: FIELD_MANAGER, force: 'true' },
    });
  }
}

function rulesFor(keys: readonly ObjectKey[]): Record<string, unknown>[] {
  return Object.entries(RESOURCES).flatMap(([kind, resource]) => {
    const names = new Set(keys.filter((key) => key.kind === kind).map(({ name }) => name));
    if (names.size === 0) return [];
    // Of single objects, by their name: that is how an agent reads and watches.
    return [
      { apiGroups: [''], resources: [resource], resourceNames: [...names].sort(), verbs: ['list', 'watch'] },
    ];
  });
}

/** Of Role and RoleBinding: a sandbox's name may be longer than there is room for. */
function grantName(uid: string): string {
  return `bulkhead-${uid}`;
}

function bodyOf(
  kind: 'Role' | 'RoleBinding',
  { apiVersion, kind: ownerKind, metadata }: StoredObject,
  content: Record<string, unknown>,
): Pick<ApiRequest, 'path' | 'body'> {
  const { namespace, name, uid } = metadata;
  return {
    path: rbacPath(kind, namespace, grantName(uid)),
    body: {
      ...{ apiVersion: `${RBAC}/v1`, kind },
      metadata: {
        ...{ name: grantName(uid), namespace },
        labels: { 'app.kubernetes.io/managed-by': 'bulkhead', [SANDBOX_UID_LABEL]: uid },
        ownerReferences: [{ apiVersion, kind: ownerKind, name, uid, controller: true }],
      },
      ...content,
    },
  };
}

function rbacPath(kind: string, namespace: string, name: string): string {
  return `/apis/${RBAC}/v1/namespaces/${encodeURIComponent(namespace)}/${kind.toLowerCase()}s/${name}`;
}

function idOf({ namespace, name }: StoredObject['metadata']): string {
  return `${namespace}/${name}`;
}
