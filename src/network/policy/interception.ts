// Which TLS connections the gateway opens.
import type { EffectivePolicy } from './effective.ts';
import { matchesHost } from './names.ts';

export type InterceptionReason =
  | { readonly kind: 'Secret'; readonly host: string }
  | { readonly kind: 'Policy'; readonly policy: string };

/** May a connection to this port be opened, once its name is known? */
export function mayIntercept({ tls }: EffectivePolicy, port: number): boolean {
  return tls.secretHosts.length > 0 || tls.interceptions.some(({ ports }) => ports.includes(port));
}

/** Is there any TLS that is opened? */
export function intercepts({ mode, tls }: EffectivePolicy): boolean {
  if (mode.value === 'Airgapped') return false;
  return tls.secretHosts.length > 0 || tls.interceptions.length > 0;
}

/**
 * Why a TLS connection is opened at the gateway; undefined where it is passed on as it is. `serverName` is the normalized SNI,
 * null where the ClientHello has none. A host of a secret is opened on every port; others on the ports of a policy that asks
 * for it and does not bypass them.
 */
export function interceptionOf(
  { tls }: EffectivePolicy,
  port: number,
  serverName: string | null,
): InterceptionReason | undefined {
  const matches = (pattern: string) => serverName !== null && matchesHost(pattern, serverName);
  const host = tls.secretHosts.find(matches);
  if (host !== undefined) return { kind: 'Secret', host };
  const asking = tls.interceptions.find(({ ports, bypass }) => ports.includes(port) && !bypass.some(matches));
  return asking === undefined ? undefined : { kind: 'Policy', policy: asking.policy };
}
