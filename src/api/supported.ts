// What this release does not act on yet. Such a field is valid, and is said plainly to be without effect: never ignored.
import type { DefaultedNetworkPolicySpec } from './networkpolicy.ts';
import type { SandboxSpec } from './sandbox.ts';

/** Fields that the reconciler cannot honour yet, as paths below `spec`; empty lists ask for nothing. */
export function unsupportedFields(spec: SandboxSpec): string[] {
  const fields: string[] = [];
  for (const [index, { copy }] of (spec.patches ?? []).entries())
    if (copy !== undefined) fields.push(`patches[${index}].copy`);
  for (const [index, { hostPath }] of (spec.volumes ?? []).entries())
    if (hostPath !== undefined) fields.push(`volumes[${index}].hostPath`);
  for (const [index, { protocol }] of (spec.ports ?? []).entries())
    if (protocol === 'UDP') fields.push(`ports[${index}].protocol (UDP)`);
  return fields.map((field) => `spec.${field}`);
}

/** Fields of a NetworkPolicy that the gateway cannot honour yet: what such a policy selects stays closed. */
export function unsupportedPolicyFields({ egress }: DefaultedNetworkPolicySpec): string[] {
  const fields: string[] = [];
  for (const [index, { action, ports = [] }] of egress.rules.entries())
    if (action === 'Allow' && ports.some(({ protocol }) => protocol === 'UDP'))
      fields.push(`spec.egress.rules[${index}].ports (UDP)`);
  return fields;
}
