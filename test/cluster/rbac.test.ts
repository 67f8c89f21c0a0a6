// What the chart lets each part do, as an API server resolves it: all of it, so that a right that is added is added here too.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { loadAll } from 'js-yaml';
import { ApiServer } from './api-server.ts';
import { CHART, SYSTEM } from './bulkhead-cluster.ts';
import { clusterProgram, command } from './cluster.ts';

/** By part: in every namespace, and beyond that in Bulkhead's own. As `RESOURCE[.GROUP]: VERBS`. */
const RIGHTS: Readonly<Record<string, { everywhere: string[]; own: string[] }>> = {
  'bulkhead-controller': {
    everywhere: [
      'apiservices.apiregistration.k8s.io v1alpha1.subresources.bulkhead.dev: get patch',
      'certificatesigningrequests.certificates.k8s.io: list watch',
      'certificatesigningrequests/approval.certificates.k8s.io: patch',
      'certificatesigningrequests/status.certificates.k8s.io: patch',
      'configmaps: list watch',
      'endpointslices.discovery.k8s.io: create delete list patch watch',
      'events.events.k8s.io: create get patch',
      'leases.coordination.k8s.io: list watch',
      'networkpolicies.bulkhead.dev: get list watch',
      'networkpolicies/status.bulkhead.dev: patch',
      'nodes: get list watch',
      'pods: create delete get list patch watch',
      'rolebindings.rbac.authorization.k8s.io: create delete list patch',
      'roles.rbac.authorization.k8s.io: create delete patch',
      'sandboxes.bulkhead.dev: get list patch watch',
      'sandboxes/finalizers.bulkhead.dev: update',
      'sandboxes/status.bulkhead.dev: patch',
      'secrets: list watch',
      'services: list watch',
      'signers.certificates.k8s.io bulkhead.dev/node-agent: approve sign',
      'volumes.bulkhead.dev: get list watch',
      'volumes/status.bulkhead.dev: patch',
    ],
    own: [
      'configmaps bulkhead-node-authority: create patch',
      'leases.coordination.k8s.io: create get list patch update watch',
      'secrets bulkhead-authorities: patch',
      'secrets: create list watch',
      'serviceaccounts: create patch',
    ],
  },
  'bulkhead-node': {
    everywhere: [
      'certificatesigningrequests.certificates.k8s.io: create get',
      'events.events.k8s.io: create get patch',
      'networkpolicies.bulkhead.dev: get list watch',
      'nodes: get patch',
      'sandboxes.bulkhead.dev: delete get list patch watch',
      'sandboxes/status.bulkhead.dev: patch',
      'volumes.bulkhead.dev: delete get list patch watch',
      'volumes/status.bulkhead.dev: patch',
    ],
    own: [
      'configmaps bulkhead-node-authority: list watch',
      'leases.coordination.k8s.io: create patch',
      'serviceaccounts/token: create',
    ],
  },
};

interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string };
}
interface Rules {
  resourceRules: { verbs: string[]; apiGroups?: string[]; resources?: string[]; resourceNames?: string[] }[];
  nonResourceRules: { verbs: string[]; nonResourceURLs?: string[] }[];
  incomplete: boolean;
}
type Status = { status: Rules };

let server: ApiServer;
/** Of somebody without any right of their own. */
let nobody: string[];

before(async () => {
  server = await ApiServer.start();
  await server.applyCrds();
  await send('/api/v1/namespaces', { metadata: { name: SYSTEM } });
  const settings = ['--kube-version', '1.35.0', '--namespace', SYSTEM, '--set', 'subresources.enabled=true'];
  const { code, stdout, stderr } = await command(clusterProgram('helm'), [
    'template',
    'bulkhead',
    CHART,
    ...settings,
  ]);
  assert.equal(code, 0, stderr);
  for (const manifest of loadAll(stdout) as (Manifest | null)[]) {
    const path = manifest === null ? undefined : pathOf(manifest);
    if (path !== undefined) await send(path, manifest);
  }
  await send(`/api/v1/namespaces/${SYSTEM}/serviceaccounts`, { metadata: { name: 'nobody' } });
  nobody = await rightsOf('nobody', 'default');
});

after(() => server?.[Symbol.asyncDispose]());

/** Undefined for kinds that give no rights. */
function pathOf({ kind }: Manifest): string | undefined {
  const rbac = '/apis/rbac.authorization.k8s.io/v1';
  const paths: Readonly<Record<string, string>> = {
    ServiceAccount: `/api/v1/namespaces/${SYSTEM}/serviceaccounts`,
    Role: `${rbac}/namespaces/${SYSTEM}/roles`,
    RoleBinding: `${rbac}/namespaces/${SYSTEM}/rolebindings`,
    ClusterRole: `${rbac}/clusterroles`,
    ClusterRoleBinding: `${rbac}/clusterrolebindings`,
  };
  return paths[kind];
}

async function send<T>(path: string, body: unknown, token?: string): Promise<T> {
  const asked = { method: 'POST', body, ...(token === undefined ? {} : { token }) } as const;
  const { status, body: answer } = await server.request(path, asked);
  assert.equal(status, 201, `${path}: ${JSON.stringify(answer)}`);
  return answer as T;
}

/** All rights of a service account in a namespace, sorted. */
async function rightsOf(account: string, namespace: string): Promise<string[]> {
  const path = `/api/v1/namespaces/${SYSTEM}/serviceaccounts/${account}/token`;
  const { status } = await send<{ status: { token: string } }>(path, { spec: {} });
  const review = '/apis/authorization.k8s.io/v1/selfsubjectrulesreviews';
  const rules = (await send<Status>(review, { spec: { namespace } }, status.token)).status;
  assert.equal(rules.incomplete, false);
  const verbs = new Map<string, Set<string>>();
  const allow = (what: string, allowed: readonly string[]) =>
    verbs.set(what, new Set([...(verbs.get(what) ?? []), ...allowed]));
  for (const { verbs: allowed, apiGroups = [], resources = [], resourceNames = [] } of rules.resourceRules)
    for (const group of apiGroups)
      for (const resource of resources) {
        const named = resourceNames.length === 0 ? '' : ` ${resourceNames.join(',')}`;
        allow(`${resource}${group === '' ? '' : `.${group}`}${named}`, allowed);
      }
  for (const { verbs: allowed, nonResourceURLs = [] } of rules.nonResourceRules)
    for (const url of nonResourceURLs) allow(url, allowed);
  return [...verbs].map(([what, allowed]) => `${what}: ${[...allowed].sort().join(' ')}`).sort();
}

for (const [account, { everywhere, own }] of Object.entries(RIGHTS)) {
  test(`${account} may do what it needs, and nothing more`, async () => {
    const rights = async (namespace: string) =>
      (await rightsOf(account, namespace)).filter((right) => !nobody.includes(right));
    assert.deepEqual(await rights('default'), everywhere);
    const beyond = (await rights(SYSTEM)).filter((right) => !everywhere.includes(right));
    assert.deepEqual(beyond, own);
  });
}
