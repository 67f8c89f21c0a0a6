// What a sandbox's secret is to the gateway: a placeholder that the guest sees, and the value that takes its place on the way.
import { createHash } from 'node:crypto';
import type { SecretLocation } from '../../api/sandbox.ts';

export interface GatewaySecret {
  /** The guest's variable; what the secret is called in messages. */
  readonly env: string;
  readonly placeholder: string;
  /** Absent while there is none: then the placeholder leaves nowhere. */
  readonly value?: string;
  /** Host names, or `*.` and a domain. */
  readonly allowHosts: readonly string[];
  /** Where in a request the placeholder is replaced. */
  readonly injectInto: readonly SecretLocation[];
}

const PREFIX = 'bulkheadsecret';
const DIGEST_CHARS = 32;

/**
 * Lower-case letters and digits alone: no encoding of URLs, JSON or headers changes it. The same in every life of the sandbox,
 * and no secret itself.
 */
export function placeholderOf(uid: string, env: string): string {
  const digest = createHash('sha256').update(`${uid}\n${env}`).digest('hex');
  return PREFIX + digest.slice(0, DIGEST_CHARS);
}
