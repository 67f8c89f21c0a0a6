// Whom the aggregation layer of Kubernetes lets ask in others' names, and in whose: what kube-apiserver publishes about itself.
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { BulkheadError } from '../api/errors.ts';

/** Where kube-apiserver publishes it. */
export const TRUST_CONFIG_MAP = {
  kind: 'ConfigMap',
  namespace: 'kube-system',
  name: 'extension-apiserver-authentication',
} as const;

export interface FrontProxyTrust {
  /** PEM of the authority of its client certificate. */
  ca: string;
  /** Common names that it may have; any of that authority where empty. */
  allowedNames: readonly string[];
  /** Lower case; the first that is there counts. */
  userHeaders: readonly string[];
}

/** Fails with NOT_SUPPORTED where the API server has no front proxy. */
export function readTrust(data: Readonly<Record<string, string>> = {}): FrontProxyTrust {
  const ca = data['requestheader-client-ca-file'] ?? '';
  const userHeaders = listOf(data, 'requestheader-username-headers').map((name) => name.toLowerCase());
  if (!ca.includes('-----BEGIN CERTIFICATE-----') || userHeaders.length === 0)
    throw new BulkheadError(
      'NOT_SUPPORTED',
      'The API server has no aggregation layer: it runs without --requestheader-client-ca-file or its headers.',
    );
  return { ca, allowedNames: listOf(data, 'requestheader-allowed-names'), userHeaders };
}

function listOf(data: Readonly<Record<string, string>>, key: string): string[] {
  const text = data[key] ?? '[]';
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    parsed = undefined;
  }
  // What cannot be read must not count as "any name".
  if (!Array.isArray(parsed) || !parsed.every((each) => typeof each === 'string'))
    throw new BulkheadError('NOT_SUPPORTED', `${TRUST_CONFIG_MAP.name}: ${key} is no list of strings`);
  return parsed;
}

/** The user in whose name the front proxy asks. Fails with UNAUTHORIZED for everybody who is not the front proxy. */
export function userOf(request: IncomingMessage, trust: FrontProxyTrust): string {
  const socket = request.socket as TLSSocket;
  const { CN } = socket.authorized === true ? (socket.getPeerCertificate().subject ?? {}) : {};
  // A certificate may have several names; then it is none that kube-apiserver was given.
  const isProxy =
    typeof CN === 'string' && (trust.allowedNames.length === 0 || trust.allowedNames.includes(CN));
  const user = trust.userHeaders.map((name) => request.headers[name]).find((value) => value !== undefined);
  if (!isProxy || typeof user !== 'string' || user === '')
    throw new BulkheadError('UNAUTHORIZED', "This is for the cluster's API server, which knows who asks.");
  return user;
}
