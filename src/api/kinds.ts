// The table of kinds: what the URLs, the store, the folder source and the command line know.
import { API_GROUP, API_VERSION, type ResourceKind } from './meta.ts';

export const SANDBOX_KIND = {
  group: API_GROUP,
  version: API_VERSION,
  kind: 'Sandbox',
  plural: 'sandboxes',
  singular: 'sandbox',
  shortNames: ['sbx'],
} as const satisfies ResourceKind;

export const VOLUME_KIND = {
  group: API_GROUP,
  version: API_VERSION,
  kind: 'Volume',
  plural: 'volumes',
  singular: 'volume',
  shortNames: ['sbxvol'],
} as const satisfies ResourceKind;

export const NETWORK_POLICY_KIND = {
  group: API_GROUP,
  version: API_VERSION,
  kind: 'NetworkPolicy',
  plural: 'networkpolicies',
  singular: 'networkpolicy',
  shortNames: ['sbxnp'],
} as const satisfies ResourceKind;

export const SECRET_KIND = {
  group: '',
  version: 'v1',
  kind: 'Secret',
  plural: 'secrets',
  singular: 'secret',
  shortNames: [],
} as const satisfies ResourceKind;

export const CONFIG_MAP_KIND = {
  group: '',
  version: 'v1',
  kind: 'ConfigMap',
  plural: 'configmaps',
  singular: 'configmap',
  shortNames: ['cm'],
} as const satisfies ResourceKind;

/** All kinds, in the order in which they are applied: what others refer to comes first. Deletion goes backwards. */
export const KINDS = [
  SECRET_KIND,
  CONFIG_MAP_KIND,
  NETWORK_POLICY_KIND,
  VOLUME_KIND,
  SANDBOX_KIND,
] as const satisfies readonly ResourceKind[];

/** `Sandbox`, `Volume`, ... */
export type KindName = (typeof KINDS)[number]['kind'];

/** `bulkhead.dev/v1alpha1`, or `v1` for the core group. */
export function apiVersionOf(kind: ResourceKind): string {
  return kind.group === '' ? kind.version : `${kind.group}/${kind.version}`;
}

/** By exact kind name, as documents say it. */
export function kindNamed(kind: string): (typeof KINDS)[number] | undefined {
  return KINDS.find((each) => each.kind === kind);
}

/**
 * By any name that people type: kind, plural, singular, short name, in any case, also with the group
 * (`sandboxes.bulkhead.dev`).
 */
export function resolveKind(word: string): (typeof KINDS)[number] | undefined {
  const wanted = word.toLowerCase();
  return KINDS.find((each) => {
    const names = [each.kind.toLowerCase(), each.plural, each.singular, ...each.shortNames];
    return names.some((name) => wanted === name || (each.group !== '' && wanted === `${name}.${each.group}`));
  });
}
