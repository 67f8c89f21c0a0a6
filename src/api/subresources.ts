// What is asked of a running sandbox: on the daemon below the sandbox's own path, in a cluster by an API of its own, which the
// cluster's API server hands on to Bulkhead's controller.
import { API_VERSION } from './meta.ts';

/** API group by which a cluster reaches them. */
export const SUBRESOURCES_GROUP = 'subresources.bulkhead.dev';
export const SUBRESOURCES_GROUP_VERSION = `${SUBRESOURCES_GROUP}/${API_VERSION}`;

/** By name: the verbs that RBAC knows them by, which follow from the methods that each answers. */
export const SUBRESOURCE_VERBS: Readonly<Record<string, readonly string[]>> = {
  attach: ['get'],
  commit: ['create'],
  effectivepolicy: ['get'],
  exec: ['get'],
  files: ['create', 'get', 'update'],
  flows: ['get'],
  hold: ['get'],
  log: ['get'],
  portforward: ['get'],
  stats: ['get'],
};

/** One request for a subresource, as its path says it. Each part is as it was written, still encoded. */
export interface SubresourceTarget {
  namespace: string;
  name: string;
  subresource: string;
  /** What follows: further segments of the path and the query, or nothing. */
  rest: string;
}

const PATH = /^\/namespaces\/([^/?#]+)\/sandboxes\/([^/?#]+)\/([a-z]+)((?:\/[^?#]*)?(?:\?[^#]*)?)$/;

/** The request that `url` is below `groupVersion`; undefined where it is none for a subresource of a sandbox. */
export function subresourceTarget(url: string, groupVersion: string): SubresourceTarget | undefined {
  const root = `/apis/${groupVersion}`;
  if (!url.startsWith(root)) return undefined;
  const [, namespace, name, subresource, rest = ''] = PATH.exec(url.slice(root.length)) ?? [];
  if (namespace === undefined || name === undefined || subresource === undefined) return undefined;
  return Object.hasOwn(SUBRESOURCE_VERBS, subresource) ? { namespace, name, subresource, rest } : undefined;
}

/** The way back: the same request below another group. */
export function subresourceUrl(
  { namespace, name, subresource, rest }: SubresourceTarget,
  groupVersion: string,
): string {
  return `/apis/${groupVersion}/namespaces/${namespace}/sandboxes/${name}/${subresource}${rest}`;
}
