// Image references: `registry/name:tag@digest`, with Docker's short forms.

import { BulkheadError } from '../api/errors.ts';

/** A checked reference, all defaults filled in. */
export interface ImageReference {
  /** Host and optional port, as written: `docker.io`, `localhost:5000`, `[::1]:5000`. */
  registry: string;
  /** `library/debian`. */
  repository: string;
  /** Absent only when there is a digest. */
  tag: string | undefined;
  /** `sha256:...`; wins over the tag. */
  digest: string | undefined;
  /** The whole in its one canonical form. */
  canonical: string;
}

/** Longest reference: 255 of name, 128 of tag, 71 of digest, and room for a host. */
const MAX_REFERENCE_BYTES = 1024;
/** The distribution spec's and Docker's bound on registry and repository together. */
const MAX_NAME_BYTES = 255;
const DEFAULT_REGISTRY = 'docker.io';
const DEFAULT_TAG = 'latest';

const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
const LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?';
const HOST = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*|\\[[0-9a-fA-F:.]{2,45}\\])(?::([0-9]{1,5}))?$`);

/** @throws BulkheadError IMAGE_REFERENCE_INVALID saying which part is wrong. */
export function parseReference(text: string): ImageReference {
  if (text === '') throw invalid(text, 'it is empty');
  if (text.length > MAX_REFERENCE_BYTES) {
    throw invalid(`${text.slice(0, 64)}...`, `it is longer than ${MAX_REFERENCE_BYTES} characters`);
  }
  const at = text.indexOf('@');
  const digest = at === -1 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !isDigest(digest)) {
    throw invalid(text, 'the digest must be sha256: and 64 lower-case hexadecimal digits');
  }
  const named = at === -1 ? text : text.slice(0, at);
  const { registry, rest } = splitRegistry(named);
  const colon = rest.lastIndexOf(':');
  const written = colon === -1 ? undefined : rest.slice(colon + 1);
  const tag = written ?? (digest === undefined ? DEFAULT_TAG : undefined);
  if (tag !== undefined && !TAG.test(tag)) throw invalid(text, 'the tag is not valid');
  const repository = expand(registry, colon === -1 ? rest : rest.slice(0, colon));
  checkNames(text, registry, repository);
  const canonical = `${registry}/${repository}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
  return { registry, repository, tag, digest, canonical };
}

export function isDigest(text: string): boolean {
  return DIGEST.test(text);
}

function splitRegistry(named: string): { registry: string; rest: string } {
  const slash = named.indexOf('/');
  const first = slash === -1 ? '' : named.slice(0, slash);
  // Docker's rule for what is a host and what the first part of a Docker Hub name.
  const isHost = /[.:[]/.test(first) || first === 'localhost' || first !== first.toLowerCase();
  if (!isHost) return { registry: DEFAULT_REGISTRY, rest: named };
  const registry = first === 'index.docker.io' ? DEFAULT_REGISTRY : first;
  return { registry, rest: named.slice(slash + 1) };
}

function expand(registry: string, repository: string): string {
  return registry === DEFAULT_REGISTRY && !repository.includes('/') ? `library/${repository}` : repository;
}

function checkNames(text: string, registry: string, repository: string): void {
  const host = HOST.exec(registry);
  if (host === null) throw invalid(text, 'the registry is not a host name or host:port');
  if (host[1] !== undefined && (Number(host[1]) === 0 || Number(host[1]) > 65_535)) {
    throw invalid(text, 'the port must be 1 to 65535');
  }
  if (registry.length + 1 + repository.length > MAX_NAME_BYTES) {
    throw invalid(text, `registry and name together are longer than ${MAX_NAME_BYTES} characters`);
  }
  for (const component of repository.split('/')) {
    if (COMPONENT.test(component)) continue;
    throw invalid(
      text,
      'the name must be lower-case letters and digits, with single separators (. _ __ -) between them',
    );
  }
}

function invalid(text: string, why: string): BulkheadError {
  return new BulkheadError('IMAGE_REFERENCE_INVALID', `image ${JSON.stringify(text)}: ${why}`);
}
