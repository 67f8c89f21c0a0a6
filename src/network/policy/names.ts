// Domain names as rules and flows compare them.

/** RFC 1035: a name without its closing dot. */
export const NAME_MAX = 253;
export const LABEL_MAX = 63;
const LABEL = /^[a-z0-9_](?:[-a-z0-9_]*[a-z0-9_])?$/;

/** The name under which a guest reaches the host it runs on; only where a rule opens the group Host. */
export const HOST_NAME = 'host.bulkhead.internal';

/** Lower case, without the closing dot. Undefined for what no rule could name: other characters, too long, empty labels. */
export function normalizeName(text: string): string | undefined {
  const bare = text.endsWith('.') ? text.slice(0, -1) : text;
  if (bare.length === 0 || bare.length > NAME_MAX) return undefined;
  const name = bare.toLowerCase();
  return name.split('.').every((label) => label.length <= LABEL_MAX && LABEL.test(label)) ? name : undefined;
}

/** `.b.c` and `.c` for `a.b.c`: what a suffix rule may say to match it, nearest first. */
export function* suffixesOf(name: string): Generator<string> {
  for (let dot = name.indexOf('.'); dot !== -1; dot = name.indexOf('.', dot + 1)) yield name.slice(dot);
}

/** Does the name match a host pattern: itself, or `*.` and a domain that it is below? */
export function matchesHost(pattern: string, name: string): boolean {
  const wanted = pattern.toLowerCase();
  return wanted.startsWith('*.')
    ? name.endsWith(wanted.slice(1)) && name.length >= wanted.length
    : name === wanted;
}
