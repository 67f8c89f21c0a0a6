// OCI indexes, manifests and configurations, and their Docker twins.

import { createHash } from 'node:crypto';
import { BulkheadError } from '../../api/errors.ts';
import type { ImageConfig } from '../images.ts';
import { type ImageLimits, MAX_INDEX_ENTRIES, MAX_LAYERS } from '../limits.ts';
import { isDigest } from '../reference.ts';
import {
  asArray,
  asObject,
  asString,
  asStringMap,
  asStrings,
  invalid,
  type JsonObject,
  parseObject,
} from './json.ts';

export const INDEX_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
];
export const MANIFEST_TYPES = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
];
const CONFIG_TYPES = [
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
];
/** Layers that are tar, whatever their compression: that is told by the first bytes. */
const LAYER_TYPE =
  /^application\/vnd\.(?:oci\.image\.layer\.(?:nondistributable\.)?v1\.tar(?:\+gzip|\+zstd)?|docker\.image\.rootfs\.(?:foreign\.)?diff\.tar(?:\.gzip|\.zstd)?)$/;

/** Environment, labels and arguments of one image; far beyond any that works. */
const MAX_CONFIG_ITEMS = 10_000;

export interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
}

export interface IndexEntry extends Descriptor {
  os: string;
  architecture: string;
  variant: string;
  annotations: Record<string, string>;
}

export interface Manifest {
  config: Descriptor;
  layers: Descriptor[];
}

export interface ConfigFile {
  /** `sha256:...` of each layer's plain tar, lowest first. */
  diffIds: string[];
  os: string;
  architecture: string;
  config: ImageConfig;
}

export interface Platform {
  os: string;
  architecture: string;
}

/** The platform of guests: they run on the host's own processor. */
export function hostPlatform(): Platform {
  const names: Partial<Record<NodeJS.Architecture, string>> = { x64: 'amd64', ia32: '386' };
  return { os: 'linux', architecture: names[process.arch] ?? process.arch };
}

export function sha256Digest(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** An index or a manifest, told apart by its own media type, or by its fields where it has none. */
export function parseDocument(
  bytes: Buffer,
  what: string,
  limits: ImageLimits,
): { index: IndexEntry[] } | { manifest: Manifest } {
  const json = parseObject(bytes, what);
  const mediaType = asString(json.mediaType, `${what}: mediaType`);
  if (json.schemaVersion !== 2) throw invalid(what, 'has a schemaVersion other than 2');
  if (INDEX_TYPES.includes(mediaType) || (mediaType === '' && json.manifests !== undefined)) {
    return { index: parseIndex(json, what) };
  }
  if (mediaType !== '' && !MANIFEST_TYPES.includes(mediaType)) {
    throw invalid(what, `is of type ${JSON.stringify(mediaType.slice(0, 200))}, which is no image`);
  }
  return { manifest: parseManifest(json, what, limits) };
}

function parseIndex(json: JsonObject, what: string): IndexEntry[] {
  return asArray(json.manifests, `${what}: manifests`, MAX_INDEX_ENTRIES).map((item, i) => {
    const path = `${what}: manifests[${i}]`;
    const entry = asObject(item, path);
    const platform = entry.platform == null ? {} : asObject(entry.platform, `${path}.platform`);
    return {
      ...descriptor(entry, path),
      os: asString(platform.os, `${path}.platform.os`),
      architecture: asString(platform.architecture, `${path}.platform.architecture`),
      variant: asString(platform.variant, `${path}.platform.variant`),
      annotations: asStringMap(entry.annotations, `${path}.annotations`, MAX_CONFIG_ITEMS),
    };
  });
}

function parseManifest(json: JsonObject, what: string, limits: ImageLimits): Manifest {
  const config = descriptor(asObject(json.config, `${what}: config`), `${what}: config`);
  if (!CONFIG_TYPES.includes(config.mediaType)) {
    throw invalid(what, `holds a ${JSON.stringify(config.mediaType.slice(0, 200))}, which is no image`);
  }
  const layers = asArray(json.layers, `${what}: layers`, MAX_LAYERS).map((item, i) => {
    const path = `${what}: layers[${i}]`;
    const layer = descriptor(asObject(item, path), path);
    if (!LAYER_TYPE.test(layer.mediaType)) {
      throw invalid(
        path,
        `is of type ${JSON.stringify(layer.mediaType.slice(0, 200))}, which is not supported`,
      );
    }
    if (layer.size > limits.maxLayerBytes) throw invalid(path, `has more than ${limits.maxLayerBytes} bytes`);
    return layer;
  });
  return { config, layers };
}

function descriptor(json: JsonObject, path: string): Descriptor {
  const digest = asString(json.digest, `${path}.digest`);
  if (!isDigest(digest)) throw invalid(`${path}.digest`, 'is not a sha256 digest');
  const size = json.size;
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw invalid(`${path}.size`, 'is not a size');
  }
  return { mediaType: asString(json.mediaType, `${path}.mediaType`), digest, size };
}

/** The entry for the platform. @throws BulkheadError IMAGE_NOT_FOUND naming what there is. */
export function choosePlatform(index: readonly IndexEntry[], platform: Platform, what: string): IndexEntry {
  const images = index.filter(
    (entry) => INDEX_TYPES.includes(entry.mediaType) || MANIFEST_TYPES.includes(entry.mediaType),
  );
  const match = images.find(
    (entry) => entry.os === platform.os && entry.architecture === platform.architecture,
  );
  // Layouts of one image often leave the platform out; its configuration is checked later.
  const only = images.length === 1 && images[0]?.os === '' ? images[0] : undefined;
  const chosen = match ?? only;
  if (chosen !== undefined) return chosen;
  const found = images.map((entry) => JSON.stringify(`${entry.os}/${entry.architecture}`)).slice(0, 20);
  throw new BulkheadError(
    'IMAGE_NOT_FOUND',
    `${what} has nothing for ${platform.os}/${platform.architecture}, only ${found.join(', ') || 'no image at all'}`,
  );
}

/** @throws BulkheadError IMAGE_INVALID, or IMAGE_NOT_FOUND if it is for another platform. */
export function parseConfig(bytes: Buffer, manifest: Manifest, platform: Platform, what: string): ConfigFile {
  const json = parseObject(bytes, what);
  const rootfs = asObject(json.rootfs, `${what}: rootfs`);
  const diffIds = asStrings(rootfs.diff_ids, `${what}: rootfs.diff_ids`, MAX_LAYERS);
  for (const id of diffIds)
    if (!isDigest(id)) throw invalid(`${what}: rootfs.diff_ids`, 'holds what is no sha256 digest');
  if (diffIds.length !== manifest.layers.length) {
    throw invalid(what, `names ${diffIds.length} layers, the manifest ${manifest.layers.length}`);
  }
  const os = asString(json.os, `${what}: os`);
  const architecture = asString(json.architecture, `${what}: architecture`);
  if ((os !== '' && os !== platform.os) || (architecture !== '' && architecture !== platform.architecture)) {
    throw new BulkheadError(
      'IMAGE_NOT_FOUND',
      `${what} is for ${JSON.stringify(`${os}/${architecture}`)}, not ${platform.os}/${platform.architecture}`,
    );
  }
  return { diffIds, os, architecture, config: runConfig(json.config, what) };
}

function runConfig(value: unknown, what: string): ImageConfig {
  const json = value === undefined || value === null ? {} : asObject(value, `${what}: config`);
  const strings = (key: string): string[] => asStrings(json[key], `${what}: config.${key}`, MAX_CONFIG_ITEMS);
  const text = (key: string): string => asString(json[key], `${what}: config.${key}`);
  return {
    entrypoint: strings('Entrypoint'),
    cmd: strings('Cmd'),
    env: strings('Env'),
    workingDir: text('WorkingDir'),
    user: text('User'),
    stopSignal: text('StopSignal'),
    labels: asStringMap(json.Labels, `${what}: config.Labels`, MAX_CONFIG_ITEMS),
  };
}
