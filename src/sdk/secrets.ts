// Secrets that never enter a sandbox: its program sees a placeholder, its requests to some hosts carry the value.
import { ViolationAction } from './enums.ts';
import { failure } from './errors.ts';

export interface SecretEntry {
  /** Variable that holds a placeholder in the sandbox. */
  envVar: string;
  value: string;
  /** Hosts to which requests carry the value. */
  allowHosts?: readonly string[];
  /** The same, as `*.` and a domain. */
  allowHostPatterns?: readonly string[];
  /** Where in a request; default: headers, HTTP Basic too. */
  injectInto?: readonly ('headers' | 'query' | 'body')[];
  /** Values go over verified TLS alone. */
  requireTls?: true;
  /** A placeholder that goes elsewhere ends its connection and is told as an event. */
  onViolation?: ViolationAction;
}

export const Secret = {
  env: (envVar: string, options: Omit<SecretEntry, 'envVar'>): SecretEntry => ({ envVar, ...options }),
} as const;

const FIELDS: Readonly<Record<keyof SecretEntry, true>> = {
  ...{ envVar: true, value: true, allowHosts: true, allowHostPatterns: true, injectInto: true },
  ...{ requireTls: true, onViolation: true },
};
const LOCATIONS = { headers: 'Headers', query: 'Query', body: 'Body' } as const;

/** `spec.secrets`, with values in the Secret of this name. */
export function secretsOf(secrets: readonly SecretEntry[], name: string): Record<string, unknown>[] {
  return secrets.map((secret, index) => {
    const { envVar, value, allowHosts = [], allowHostPatterns = [], injectInto } = secret;
    const { requireTls = true, onViolation = 'block' } = secret;
    const where = `secrets[${index}]`;
    for (const [field, given] of Object.entries(secret))
      if (given !== undefined && !Object.hasOwn(FIELDS, field))
        throw failure('NOT_SUPPORTED', `${where}.${field}: this release does not act on it`);
    if (requireTls !== true || !Object.values(ViolationAction).includes(onViolation))
      throw failure('NOT_SUPPORTED', `${where}: values go over TLS alone, and violations are blocked`);
    if (typeof value !== 'string' || value === '') throw failure('INVALID', `${where}.value is missing`);
    const hosts = [...allowHosts, ...allowHostPatterns];
    if (hosts.length === 0)
      throw failure('INVALID', `${where}.allowHosts: say to which hosts the value may go`);
    return {
      env: envVar,
      valueFrom: { secretKeyRef: { name, key: envVar } },
      allowHosts: hosts,
      ...(injectInto === undefined ? {} : { injectInto: injectInto.map((each) => LOCATIONS[each]) }),
    };
  });
}

/** `data` of that Secret. */
export function secretData(secrets: readonly SecretEntry[]): Record<string, string> {
  return Object.fromEntries(
    secrets.map(({ envVar, value }) => [envVar, Buffer.from(value).toString('base64')]),
  );
}
