// Registries: a reference in, a checked manifest and its layers out, from the first host that has them.

import { BulkheadError } from '../../api/errors.ts';
import type { RegistryCredential } from '../images.ts';
import { DEFAULT_LIMITS, type ImageLimits, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES } from '../limits.ts';
import {
  choosePlatform,
  type Descriptor,
  hostPlatform,
  INDEX_TYPES,
  MANIFEST_TYPES,
  type Manifest,
  parseConfig,
  parseDocument,
  sha256Digest,
} from '../oci/manifest.ts';
import type { ImageReference } from '../reference.ts';
import { credentialFor } from './auth.ts';
import { downloadBlob } from './download.ts';
import { TransientError } from './errors.ts';
import { Connections, hostsOf, type RegistryOptions } from './hosts.ts';
import type { Registries, RemoteImage } from './registry.ts';
import { DEFAULT_RETRY, type RetryPolicy, retrying } from './retry.ts';
import { Session } from './session.ts';

export interface RegistryClientOptions extends RegistryOptions {
  limits?: Partial<ImageLimits>;
  retry?: RetryPolicy;
}

const ACCEPT = [...MANIFEST_TYPES, ...INDEX_TYPES].join(', ');
/** Indexes within indexes. */
const MAX_INDEX_DEPTH = 3;

export function openRegistries(options: RegistryClientOptions): Registries {
  const connections = new Connections(options);
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const retry = options.retry ?? DEFAULT_RETRY;
  return {
    resolve: (reference, credentials, signal) =>
      resolveOnHosts(reference, credentials, signal, { options, connections, limits, retry }),
    close: () => connections.close(),
  };
}

interface Context {
  options: RegistryOptions;
  connections: Connections;
  limits: ImageLimits;
  retry: RetryPolicy;
}

async function resolveOnHosts(
  reference: ImageReference,
  credentials: readonly RegistryCredential[],
  signal: AbortSignal,
  context: Context,
): Promise<RemoteImage> {
  const hosts = hostsOf(reference.registry, context.options);
  for (const [index, host] of hosts.entries()) {
    const credential = credentialFor(host.name, credentials);
    const session = new Session(host, reference.repository, context.connections, credential);
    try {
      return await resolveImage(session, reference, signal, context);
    } catch (error) {
      signal.throwIfAborted();
      // Whatever a mirror lacks or refuses, the registry itself has the last word.
      if (index === hosts.length - 1) throw unavailable(error, reference);
    }
  }
  throw new BulkheadError('INTERNAL', 'a registry without hosts');
}

function unavailable(error: unknown, reference: ImageReference): unknown {
  if (!(error instanceof TransientError)) return error;
  return new BulkheadError('REGISTRY_UNAVAILABLE', `image ${reference.canonical}: ${error.message}`);
}

async function resolveImage(
  session: Session,
  reference: ImageReference,
  signal: AbortSignal,
  context: Context,
): Promise<RemoteImage> {
  const { limits, retry } = context;
  const { digest, manifest } = await fetchManifest(
    session,
    reference.digest ?? reference.tag ?? '',
    signal,
    context,
    0,
  );
  const bytes = await fetchSmallBlob(session, manifest.config, signal, retry);
  const what = `configuration of ${reference.canonical}`;
  const config = parseConfig(bytes, manifest, hostPlatform(), what);
  const stored = manifest.layers.reduce((sum, layer) => sum + layer.size, 0);
  if (stored > limits.maxDiskBytes) {
    throw new BulkheadError(
      'IMAGE_INVALID',
      `${reference.canonical} has layers of more than ${limits.maxDiskBytes} bytes`,
    );
  }
  const fetchLayer: RemoteImage['fetchLayer'] = async (index, path, layerSignal, onBytes) => {
    const layer = manifest.layers[index];
    if (layer === undefined) throw new RangeError(`no layer ${index}`);
    try {
      await downloadBlob(session, layer, path, retry, layerSignal, onBytes);
    } catch (error) {
      throw unavailable(error, reference);
    }
  };
  return { digest, manifest, config, fetchLayer };
}

async function fetchManifest(
  session: Session,
  tagOrDigest: string,
  signal: AbortSignal,
  context: Context,
  depth: number,
): Promise<{ digest: string; manifest: Manifest }> {
  const what = `manifest ${tagOrDigest} of ${session.repository}`;
  if (depth > MAX_INDEX_DEPTH) throw new BulkheadError('IMAGE_INVALID', `${what} is nested too deep`);
  const bytes = await retrying(context.retry, signal, async () => {
    const response = await session.get(`manifests/${tagOrDigest}`, { accept: ACCEPT }, signal);
    return session.read(response, MAX_MANIFEST_BYTES, what, signal);
  });
  const digest = sha256Digest(bytes);
  if (tagOrDigest.startsWith('sha256:') && digest !== tagOrDigest) {
    throw new BulkheadError('IMAGE_INVALID', `${what} has the digest ${digest}`);
  }
  const document = parseDocument(bytes, what, context.limits);
  if ('manifest' in document) return { digest, manifest: document.manifest };
  const chosen = choosePlatform(document.index, hostPlatform(), what);
  return fetchManifest(session, chosen.digest, signal, context, depth + 1);
}

async function fetchSmallBlob(
  session: Session,
  blob: Descriptor,
  signal: AbortSignal,
  retry: RetryPolicy,
): Promise<Buffer> {
  const what = `configuration ${blob.digest} of ${session.repository}`;
  if (blob.size > MAX_CONFIG_BYTES) {
    throw new BulkheadError('IMAGE_INVALID', `${what} has more than ${MAX_CONFIG_BYTES} bytes`);
  }
  const bytes = await retrying(retry, signal, async () => {
    const response = await session.get(`blobs/${blob.digest}`, {}, signal);
    return session.read(response, MAX_CONFIG_BYTES, what, signal);
  });
  const found = sha256Digest(bytes);
  if (found !== blob.digest) throw new BulkheadError('IMAGE_INVALID', `${what} has the digest ${found}`);
  return bytes;
}
