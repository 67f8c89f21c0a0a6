// Export: an image as an OCI archive. The cache keeps disks, not the layers they came from, so the archive has one layer with
// the whole tree: the same content and configuration under a digest of its own.

import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { type DiskEntry, walkDisk } from '../erofs/reader.ts';
import type { ImageConfig } from '../images.ts';
import { hostPlatform, MANIFEST_TYPES, sha256Digest } from '../oci/manifest.ts';
import { encodeTarEntry, encodeTarHeader, TAR_END, type TarWriteEntry, tarPadding } from '../tar/writer.ts';

/** The bytes of the archive. Reads the disk twice: an archive names the digest of a layer before it holds the layer. */
export async function* exportArchive(
  disk: FileHandle,
  config: ImageConfig,
  reference: string,
): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of layerTar(disk)) {
    hash.update(chunk);
    size += chunk.length;
  }
  const layer = `sha256:${hash.digest('hex')}`;
  const { files, index } = ociImage(config, { digest: layer, size }, reference);
  yield file('oci-layout', json({ imageLayoutVersion: '1.0.0' }));
  yield file('index.json', index);
  for (const { digest, bytes } of files) yield file(blobPath(digest), bytes);
  yield encodeTarHeader({ type: 'file', name: blobPath(layer), mode: 0o644, size });
  yield* layerTar(disk);
  yield tarPadding(size);
  yield TAR_END;
}

/** The manifest and the configuration of an image of one layer, and the index that names it. `reference` may be empty. */
export function ociImage(
  config: ImageConfig,
  { digest: layer, size }: { digest: string; size: number },
  reference: string,
): { files: { digest: string; bytes: Buffer }[]; index: Buffer } {
  const { os, architecture } = hostPlatform();
  const configFile = json({
    os,
    architecture,
    config: dockerConfig(config),
    rootfs: { type: 'layers', diff_ids: [layer] },
  });
  const manifest = json({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPES[0],
    config: {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: sha256Digest(configFile),
      size: configFile.length,
    },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: layer, size }],
  });
  const annotations = reference === '' ? {} : { annotations: { 'io.containerd.image.name': reference } };
  const descriptor = { mediaType: MANIFEST_TYPES[0], digest: sha256Digest(manifest), size: manifest.length };
  return {
    files: [manifest, configFile].map((bytes) => ({ digest: sha256Digest(bytes), bytes })),
    index: json({ schemaVersion: 2, manifests: [{ ...descriptor, ...annotations }] }),
  };
}

async function* layerTar(disk: FileHandle): AsyncGenerator<Buffer> {
  const seen = new Map<number, string>();
  for await (const entry of walkDisk(disk)) {
    const first = seen.get(entry.nid);
    seen.set(entry.nid, entry.path);
    if (first !== undefined) {
      yield encodeTarHeader({
        ...tarEntry(entry),
        type: 'link',
        linkName: first,
        size: 0,
        xattrs: undefined,
      });
      continue;
    }
    yield encodeTarHeader(tarEntry(entry));
    if (entry.inode.kind !== 'file') continue;
    yield* entry.data();
    yield tarPadding(entry.inode.size);
  }
  yield TAR_END;
}

function tarEntry(entry: DiskEntry): TarWriteEntry {
  const { inode } = entry;
  const isDirectory = inode.kind === 'directory';
  return {
    type: inode.kind,
    name: isDirectory ? `${entry.path === '' ? '.' : entry.path}/` : entry.path,
    linkName: entry.target,
    mode: inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    size: inode.kind === 'file' ? inode.size : 0,
    mtime: { seconds: inode.seconds, nanoseconds: inode.nanoseconds },
    devMajor: entry.major,
    devMinor: entry.minor,
    xattrs: entry.xattrs,
  };
}

function dockerConfig(config: ImageConfig): Record<string, unknown> {
  return {
    Entrypoint: config.entrypoint,
    Cmd: config.cmd,
    Env: config.env,
    WorkingDir: config.workingDir,
    User: config.user,
    StopSignal: config.stopSignal,
    Labels: config.labels,
  };
}

function file(name: string, bytes: Buffer): Buffer {
  return encodeTarEntry({ type: 'file', name, mode: 0o644 }, bytes);
}

function blobPath(digest: string): string {
  return `blobs/sha256/${digest.slice('sha256:'.length)}`;
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
