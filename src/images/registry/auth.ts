// Authorisation by the distribution specification: Basic, or Bearer with a token server.

import type { RegistryCredential } from '../images.ts';
import { asObject, asString, parseObject } from '../oci/json.ts';

/** A `WWW-Authenticate` challenge. */
export interface Challenge {
  scheme: 'basic' | 'bearer';
  parameters: Record<string, string>;
}

/** Registries give tokens of 60 s when they say nothing, by the specification. */
const DEFAULT_TOKEN_SECONDS = 60;
/** Renewed this long before their end, so that none ends on its way. */
const TOKEN_MARGIN_MS = 10_000;
const MAX_CHALLENGE_BYTES = 8192;

/** The strongest challenge that is understood; Bearer before Basic. */
export function parseChallenge(header: string | string[] | undefined): Challenge | undefined {
  const headers = header === undefined ? [] : [header].flat();
  const found: Challenge[] = [];
  for (const text of headers) {
    const match = /^\s*(basic|bearer)(?:\s+(.*))?$/is.exec(text.slice(0, MAX_CHALLENGE_BYTES));
    if (match === null) continue;
    const scheme = match[1]?.toLowerCase() === 'bearer' ? 'bearer' : 'basic';
    const parameters: Record<string, string> = {};
    for (const [, key, quoted, bare] of (match[2] ?? '').matchAll(/([a-z_]+)=(?:"([^"]*)"|([^",\s]*))/gi)) {
      if (key !== undefined) parameters[key.toLowerCase()] = quoted ?? bare ?? '';
    }
    found.push({ scheme, parameters });
  }
  return found.find((challenge) => challenge.scheme === 'bearer') ?? found[0];
}

export function basicHeader(credential: RegistryCredential): string {
  return `Basic ${Buffer.from(`${credential.username}:${credential.password}`).toString('base64')}`;
}

/** The credential for a registry host; Docker Hub goes by several names in `auths`. */
export function credentialFor(
  name: string,
  credentials: readonly RegistryCredential[],
): RegistryCredential | undefined {
  return credentials.find((credential) => credentialHost(credential.registry) === credentialHost(name));
}

function credentialHost(registry: string): string {
  const host = registry.replace(/^https?:\/\//, '').replace(/\/.*$/, '');
  return ['index.docker.io', 'registry-1.docker.io', 'registry.hub.docker.com'].includes(host)
    ? 'docker.io'
    : host;
}

/** URL to ask for a token. @throws TypeError for a realm that is no URL. */
export function tokenUrl(challenge: Challenge, repository: string): URL {
  const url = new URL(challenge.parameters.realm ?? '');
  const { service } = challenge.parameters;
  if (service !== undefined) url.searchParams.set('service', service);
  url.searchParams.set('scope', `repository:${repository}:pull`);
  return url;
}

/** The token in a token server's answer, and when to ask for the next, in milliseconds of `Date.now()`. */
export function parseToken(bytes: Buffer, now: number): { token: string; renewAt: number } {
  const json = asObject(parseObject(bytes, "the token server's answer"), "the token server's answer");
  const token = asString(json.token, 'token') || asString(json.access_token, 'access_token');
  const seconds = typeof json.expires_in === 'number' ? json.expires_in : DEFAULT_TOKEN_SECONDS;
  return { token, renewAt: now + seconds * 1000 - TOKEN_MARGIN_MS };
}
