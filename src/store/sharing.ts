// Objects of one store repeat themselves: a status write changes little of its object, and a thousand sandboxes say the
// same words. What is equal is held once, which halves the memory of a large store and more than halves its history's.
import type { StoredObject } from '../api/meta.ts';

/** Longer texts are seldom equal to others; an image reference, a digest or a condition's message is shorter. */
const MAX_SHARED_LENGTH = 256;
/** Texts remembered, twice over: some 2 MB at most in practice. */
const MAX_SHARED_TEXTS = 8192;

/** The texts seen last. The former generation goes when the newer one is full, so that no text stays for ever. */
class RecentTexts {
  #newer = new Map<string, string>();
  #older = new Map<string, string>();

  /** The text itself, or an equal one that others hold already. */
  share(text: string): string {
    if (text.length > MAX_SHARED_LENGTH) return text;
    const known = this.#newer.get(text);
    if (known !== undefined) return known;
    const kept = this.#older.get(text) ?? text;
    if (this.#newer.size >= MAX_SHARED_TEXTS) {
      this.#older = this.#newer;
      this.#newer = new Map();
    }
    this.#newer.set(kept, kept);
    return kept;
  }
}

const recentTexts = new RecentTexts();

/**
 * Freezes a freshly parsed object. Parts that equal those at the same place of `former` (frozen by this function) become
 * those very parts. `data`, which may be secret, is never remembered beyond its object.
 */
export function freezeObject(parsed: StoredObject, former?: StoredObject): StoredObject {
  const parts = parsed as unknown as Record<string, unknown>;
  const known = (former ?? {}) as Record<string, unknown>;
  for (const [name, part] of Object.entries(parts)) {
    parts[name] = freezePart(part, known[name], name !== 'data');
  }
  return Object.freeze(parsed);
}

function freezePart(part: unknown, former: unknown, remember: boolean): unknown {
  if (typeof part === 'string') {
    if (part === former) return former;
    return remember ? recentTexts.share(part) : part;
  }
  if (typeof part !== 'object' || part === null) return part;
  const children = part as Record<string, unknown>;
  const known = (typeof former === 'object' && former !== null ? former : {}) as Record<string, unknown>;
  const names = Object.keys(children);
  const knownNames = Object.keys(known);
  let same = Array.isArray(part) === Array.isArray(former) && names.length === knownNames.length;
  for (const [index, name] of names.entries()) {
    const child = children[name];
    const kept = freezePart(child, Object.hasOwn(known, name) ? known[name] : undefined, remember);
    // Always: texts compare by what they say, not by where they are.
    children[name] = kept;
    // The order of names shows when an object is printed, so it counts.
    same &&= knownNames[index] === name && known[name] === kept;
  }
  return same && typeof former === 'object' && former !== null ? former : Object.freeze(part);
}
