// What this release does not act on yet. Such a field is valid, and is said plainly to be without effect: never ignored.
import type { SandboxSpec } from './sandbox.ts';

/** Fields that the reconciler cannot honour yet, as paths below `spec`; empty lists ask for nothing. */
export function unsupportedFields(spec: SandboxSpec): string[] {
  const lists = ['patches', 'ports', 'secrets'] as const;
  const fields: string[] = lists.filter((field) => (spec[field]?.length ?? 0) > 0);
  if (spec.updateStrategy === 'Recreate') fields.push('updateStrategy');
  for (const [index, { hostPath }] of (spec.volumes ?? []).entries())
    if (hostPath !== undefined) fields.push(`volumes[${index}].hostPath`);
  return fields.map((field) => `spec.${field}`);
}

/** Kinds whose objects are stored and validated, but which no controller acts on yet. */
export const UNSUPPORTED_KINDS: readonly string[] = ['NetworkPolicy'];
