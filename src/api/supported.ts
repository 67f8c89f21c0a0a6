// What this release does not act on yet. Such a field is valid, and is said plainly to be without effect: never ignored.
import type { SandboxSpec } from './sandbox.ts';

/** Fields that the reconciler cannot honour yet, as paths below `spec`; empty lists ask for nothing. */
export function unsupportedFields(spec: SandboxSpec): string[] {
  const fields: string[] = [];
  for (const [index, { copy }] of (spec.patches ?? []).entries())
    if (copy !== undefined && copy.digest === undefined)
      fields.push(`patches[${index}].copy (without its content, which \`bulkhead apply\` and the SDK bring)`);
  return fields.map((field) => `spec.${field}`);
}
