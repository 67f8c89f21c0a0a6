// Whom the gateway trusts for the real servers: the system's authorities, and those of the policies.
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import { TRUST_SETS_MAX } from './limits.ts';

const contexts = new Map<string, SecureContext>();

/** Of the host; those that come with Node where the host has none. */
function systemAuthorities(): readonly string[] {
  const system = getCACertificates('system');
  return system.length > 0 ? system : getCACertificates('bundled');
}

/** `upstreamCAs`: PEM texts. Kept, as reading the system's takes tens of milliseconds. */
export function trustOf(upstreamCAs: readonly string[]): SecureContext {
  const key = upstreamCAs.join('\n');
  const known = contexts.get(key);
  if (known !== undefined) return known;
  const context = createSecureContext({
    ca: [...systemAuthorities(), ...upstreamCAs],
    minVersion: 'TLSv1.2',
  });
  const [oldest] = contexts.keys();
  if (contexts.size >= TRUST_SETS_MAX && oldest !== undefined) contexts.delete(oldest);
  contexts.set(key, context);
  return context;
}
