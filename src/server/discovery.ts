// Discovery in Kubernetes' shapes, so that a generic client finds the kinds by itself.
import type { FastifyInstance } from 'fastify';
import { API_GROUP, API_VERSION, GROUP_VERSION } from '../api/meta.ts';
import type { VersionInfo } from '../api/wire.ts';
import type { ServedKind } from './contracts.ts';

const VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];

function resources(kinds: readonly ServedKind[]) {
  return kinds.flatMap((kind) => [
    {
      name: kind.plural,
      singularName: kind.singular,
      namespaced: true,
      kind: kind.kind,
      shortNames: kind.shortNames,
      categories: kind.categories,
      verbs: VERBS,
    },
    ...subresources(kind).map(([name, verbs]) => ({
      name: `${kind.plural}/${name}`,
      singularName: '',
      namespaced: true,
      kind: kind.kind,
      verbs,
    })),
  ]);
}

function subresources(kind: ServedKind): [string, string[]][] {
  const status: [string, string[]][] = kind.hasStatus ? [['status', ['get', 'patch', 'update']]] : [];
  if (kind.kind === 'Volume')
    return [...status, ['export', ['create']], ['import', ['create']], ['clone', ['create']]];
  if (kind.kind !== 'Sandbox') return status;
  const readable = ['exec', 'attach', 'portforward', 'log', 'stats'];
  return [...status, ...readable.map((name): [string, string[]] => [name, ['get']])];
}

const EVENTS = {
  name: 'events',
  singularName: 'event',
  namespaced: true,
  kind: 'Event',
  shortNames: ['ev'],
  verbs: ['get', 'list'],
};

/** Registers /api, /apis, their versions, /version and /openapi/v3. */
export function registerDiscovery(app: FastifyInstance, kinds: readonly ServedKind[], version: string): void {
  const core = kinds.filter((kind) => kind.group === '');
  const own = kinds.filter((kind) => kind.group === API_GROUP);
  const groupVersion = { groupVersion: GROUP_VERSION, version: API_VERSION };
  const group = { name: API_GROUP, versions: [groupVersion], preferredVersion: groupVersion };

  app.get('/api', () => ({ kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] }));
  app.get('/api/v1', () => ({
    kind: 'APIResourceList',
    groupVersion: 'v1',
    resources: [...resources(core), EVENTS],
  }));
  app.get('/apis', () => ({ kind: 'APIGroupList', apiVersion: 'v1', groups: [group] }));
  app.get(`/apis/${API_GROUP}`, () => ({ kind: 'APIGroup', apiVersion: 'v1', ...group }));
  app.get(`/apis/${GROUP_VERSION}`, () => ({
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: GROUP_VERSION,
    resources: resources(own),
  }));
  app.get('/version', (): VersionInfo => {
    const [major = '0', minor = '0'] = version.split('.');
    return {
      major,
      minor,
      gitVersion: `v${version}`,
      platform: `${process.platform}/${process.arch}`,
      nodeVersion: process.version,
    };
  });
  app.get('/openapi/v3', () => ({
    paths: {
      'api/v1': { serverRelativeURL: '/openapi/v3/api/v1' },
      [`apis/${GROUP_VERSION}`]: { serverRelativeURL: `/openapi/v3/apis/${GROUP_VERSION}` },
    },
  }));
  app.get('/openapi/v3/api/v1', () => openapi(core, version));
  app.get(`/openapi/v3/apis/${GROUP_VERSION}`, () => openapi(own, version));
}

/** The schemas alone: enough for `explain` and for validation in clients. */
function openapi(kinds: readonly ServedKind[], version: string) {
  const schemas = kinds.map((kind) => [
    `${kind.group === '' ? 'io.k8s.api.core' : 'dev.bulkhead'}.${kind.version}.${kind.kind}`,
    {
      ...(kind.schema() as object),
      'x-kubernetes-group-version-kind': [{ group: kind.group, version: kind.version, kind: kind.kind }],
    },
  ]);
  return {
    openapi: '3.0.0',
    info: { title: 'Bulkhead', version: `v${version}` },
    paths: {},
    components: { schemas: Object.fromEntries(schemas) },
  };
}
