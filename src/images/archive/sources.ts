// What a layout folder or an archive holds: images with their configuration and where their layers lie.

import { BulkheadError } from '../../api/errors.ts';
import type { LayerSource } from '../build/build-disk.ts';
import type { ImageConfig } from '../images.ts';
import {
  type ImageLimits,
  MAX_CONFIG_BYTES,
  MAX_INDEX_ENTRIES,
  MAX_LAYERS,
  MAX_MANIFEST_BYTES,
} from '../limits.ts';
import { asArray, asObject, asString, asStrings, invalid } from '../oci/json.ts';
import {
  type ConfigFile,
  choosePlatform,
  hostPlatform,
  type IndexEntry,
  MANIFEST_TYPES,
  type Manifest,
  parseConfig,
  parseDocument,
  sha256Digest,
} from '../oci/manifest.ts';
import { parseReference } from '../reference.ts';
import { type BlobFiles, blobName, readSmall } from './blobs.ts';

/** An image whose layers are on this machine. */
export interface LocalImage {
  /** Of the manifest. */
  digest: string;
  /** Canonical names that the archive gives it. */
  references: string[];
  config: ImageConfig;
  layers: LayerSource[];
}

/** Indexes within indexes. */
const MAX_INDEX_DEPTH = 3;

/** All images in `files`. @throws BulkheadError IMAGE_INVALID, or IMAGE_NOT_FOUND if none is for this platform. */
export async function localImages(files: BlobFiles, limits: ImageLimits): Promise<LocalImage[]> {
  if ((await files.find('index.json')) !== undefined) return ociImages(files, limits);
  if ((await files.find('manifest.json')) !== undefined) return dockerImages(files, limits);
  throw new BulkheadError(
    'IMAGE_INVALID',
    'neither an OCI layout (index.json) nor a Docker archive (manifest.json)',
  );
}

async function ociImages(files: BlobFiles, limits: ImageLimits): Promise<LocalImage[]> {
  const bytes = await readSmall(files, 'index.json', MAX_MANIFEST_BYTES);
  const top = parseDocument(bytes, 'index.json', limits);
  if (!('index' in top)) throw invalid('index.json', 'is not an index');
  if (top.index.length === 0) throw invalid('index.json', 'holds no image');
  const images: LocalImage[] = [];
  let otherPlatform: unknown;
  for (const entry of top.index) {
    try {
      images.push(await ociImage(files, entry, limits));
    } catch (error) {
      if (!(error instanceof BulkheadError && error.code === 'IMAGE_NOT_FOUND')) throw error;
      otherPlatform = error;
    }
  }
  if (images.length === 0) throw otherPlatform;
  return mergeByDigest(images);
}

async function ociImage(files: BlobFiles, entry: IndexEntry, limits: ImageLimits): Promise<LocalImage> {
  const { digest, manifest } = await manifestFor(files, entry.digest, limits, 0);
  const bytes = await readBlob(files, manifest.config.digest, MAX_CONFIG_BYTES);
  const config = parseConfig(bytes, manifest, hostPlatform(), `configuration ${manifest.config.digest}`);
  const layers: LayerSource[] = [];
  for (const [index, layer] of manifest.layers.entries()) {
    const range = await files.find(blobName(layer.digest));
    if (range === undefined) throw invalid(`layer ${index + 1} of ${manifest.layers.length}`, 'is missing');
    if (range.length !== layer.size) {
      throw invalid(
        `layer ${index + 1} of ${manifest.layers.length}`,
        `has ${range.length} bytes, not ${layer.size}`,
      );
    }
    layers.push({ range, digest: layer.digest, diffId: config.diffIds[index] ?? '' });
  }
  return { digest, references: namesOf(entry.annotations), config: config.config, layers };
}

async function manifestFor(
  files: BlobFiles,
  digest: string,
  limits: ImageLimits,
  depth: number,
): Promise<{ digest: string; manifest: Manifest }> {
  if (depth > MAX_INDEX_DEPTH) throw invalid(`index ${digest}`, 'is nested too deep');
  const document = parseDocument(
    await readBlob(files, digest, MAX_MANIFEST_BYTES),
    `manifest ${digest}`,
    limits,
  );
  if ('manifest' in document) return { digest, manifest: document.manifest };
  const chosen = choosePlatform(document.index, hostPlatform(), `index ${digest}`);
  return manifestFor(files, chosen.digest, limits, depth + 1);
}

async function readBlob(files: BlobFiles, digest: string, most: number): Promise<Buffer> {
  const bytes = await readSmall(files, blobName(digest), most);
  const found = sha256Digest(bytes);
  if (found !== digest) throw invalid(`blob ${digest}`, `has the digest ${found}`);
  return bytes;
}

/** Docker and containerd write the full name beside the OCI one, which by the specification is a bare tag. */
function namesOf(annotations: Record<string, string>): string[] {
  const names = [annotations['io.containerd.image.name'], annotations['org.opencontainers.image.ref.name']];
  const name = names.find((text) => text !== undefined && /[/:@]/.test(text));
  return name === undefined ? [] : [parseReference(name).canonical];
}

async function dockerImages(files: BlobFiles, limits: ImageLimits): Promise<LocalImage[]> {
  const bytes = await readSmall(files, 'manifest.json', MAX_MANIFEST_BYTES);
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw invalid('manifest.json', 'is not JSON');
  }
  const images: LocalImage[] = [];
  for (const [i, item] of asArray(json, 'manifest.json', MAX_INDEX_ENTRIES).entries()) {
    images.push(await dockerImage(files, item, `manifest.json[${i}]`, limits));
  }
  if (images.length === 0) throw invalid('manifest.json', 'holds no image');
  return mergeByDigest(images);
}

async function dockerImage(
  files: BlobFiles,
  item: unknown,
  what: string,
  limits: ImageLimits,
): Promise<LocalImage> {
  const json = asObject(item, what);
  const configBytes = await readSmall(files, asString(json.Config, `${what}.Config`), MAX_CONFIG_BYTES);
  const names = asStrings(json.Layers, `${what}.Layers`, MAX_LAYERS);
  const ranges = [];
  for (const name of names) {
    const range = await files.find(name);
    if (range === undefined) throw invalid(name, 'is missing');
    if (range.length > limits.maxLayerBytes)
      throw invalid(name, `has more than ${limits.maxLayerBytes} bytes`);
    ranges.push(range);
  }
  const layers = names.map(() => ({ mediaType: '', digest: '', size: 0 }));
  const manifest: Manifest = {
    config: {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: sha256Digest(configBytes),
      size: configBytes.length,
    },
    layers,
  };
  const config = parseConfig(configBytes, manifest, hostPlatform(), `configuration of ${what}`);
  return {
    digest: syntheticDigest(manifest, config),
    references: asStrings(json.RepoTags, `${what}.RepoTags`, MAX_INDEX_ENTRIES).map(
      (tag) => parseReference(tag).canonical,
    ),
    config: config.config,
    layers: ranges.map((range, i) => ({ range, diffId: config.diffIds[i] ?? '' })),
  };
}

/** Docker archives have no manifest, so no manifest digest: this is one of the OCI manifest with the layers as plain tar. */
function syntheticDigest(manifest: Manifest, config: ConfigFile): string {
  const document = {
    schemaVersion: 2,
    mediaType: MANIFEST_TYPES[0],
    config: manifest.config,
    layers: config.diffIds.map((digest) => ({ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest })),
  };
  return sha256Digest(Buffer.from(JSON.stringify(document)));
}

function mergeByDigest(images: readonly LocalImage[]): LocalImage[] {
  const merged = new Map<string, LocalImage>();
  for (const image of images) {
    const present = merged.get(image.digest);
    if (present === undefined) merged.set(image.digest, image);
    else present.references.push(...image.references);
  }
  return [...merged.values()];
}
