// Equality of plain JSON data, whatever the order of its fields.
import { createHash } from 'node:crypto';

/** JSON with sorted keys; fields without a value are left out, as JSON.stringify leaves them out. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, child: unknown) => {
    if (typeof child !== 'object' || child === null || Array.isArray(child)) return child;
    return Object.fromEntries(Object.entries(child).sort(([a], [b]) => (a < b ? -1 : 1)));
  }) as string;
}

/** sha256 of the canonical JSON, hex. */
export function digestOf(value: unknown): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex');
}

/** An absent map and an empty one are the same to Kubernetes. */
export function sameJson(a: unknown, b: unknown): boolean {
  return canonicalJson(a ?? {}) === canonicalJson(b ?? {});
}
