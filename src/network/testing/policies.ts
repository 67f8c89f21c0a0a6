// Policies and flows for tests. What is not said is as the schema's defaults have it, and what the schema refuses fails.
import { GROUP_VERSION } from '../../api/meta.ts';
import type { DefaultedNetworkPolicySpec } from '../../api/networkpolicy.ts';
import { requireValid } from '../../api/validation/validate.ts';
import { compilePolicies, type PolicySource } from '../policy/compile.ts';
import type { EffectivePolicy } from '../policy/effective.ts';
import type { Flow } from '../policy/flow.ts';

/** A policy of namespace `default`, from what a person would write. */
export function policy(spec: Record<string, unknown>, name = 'egress'): PolicySource {
  const written = { apiVersion: GROUP_VERSION, kind: 'NetworkPolicy', metadata: { name }, spec };
  const { spec: filled } = requireValid(written);
  return { namespace: 'default', name, spec: filled as DefaultedNetworkPolicySpec };
}

/** What holds for a sandbox without labels that all of these select, in the order a, b, c, ... */
export function effectiveOf(...specs: Record<string, unknown>[]): EffectivePolicy {
  const policies = specs.map((spec, index) => policy(spec, String.fromCharCode(97 + index)));
  return compilePolicies(policies, { namespace: 'default', labels: undefined });
}

export function allow(to: Record<string, unknown>[], ports?: Record<string, unknown>[]) {
  return { action: 'Allow', to, ...(ports === undefined ? {} : { ports }) };
}

export function deny(to: Record<string, unknown>[], ports?: Record<string, unknown>[]) {
  return { ...allow(to, ports), action: 'Deny' };
}

/** A TCP connection to port 443. */
export function flow(address: string, more: Partial<Flow> = {}): Flow {
  return { protocol: 'TCP', address, port: 443, toHost: false, names: [], ...more };
}
