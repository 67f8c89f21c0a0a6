// JSON merge patch (RFC 7386).

/** True for what JSON calls an object: neither null, an array nor a primitive. */
export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Applies `patch` to `target` and returns the result; neither is changed, and the result may share parts with both.
 * Objects merge, `null` removes, everything else replaces. Recursion is as deep as `patch`: bound it before.
 */
export function applyMergePatch(target: unknown, patch: unknown): unknown {
  if (!isJsonObject(patch)) return patch;
  // A map and fromEntries, not assignment: a key named __proto__ stays plain data.
  const merged = new Map(Object.entries(isJsonObject(target) ? target : {}));
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else merged.set(key, applyMergePatch(merged.get(key), value));
  }
  return Object.fromEntries(merged);
}
