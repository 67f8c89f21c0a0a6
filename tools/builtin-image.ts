// Makes the built-in image `bulkhead.local/busybox:latest` from Debian's busybox-static, as an OCI archive: no network, no
// root, same package, same bytes. Usage: node tools/builtin-image.ts OUTPUT.tar

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { argv, exit, stderr } from 'node:process';
import { gzipSync } from 'node:zlib';
import { encodeTarEntry, TAR_END, type TarWriteEntry } from '../src/images/tar/writer.ts';

const REFERENCE = 'bulkhead.local/busybox:latest';
const BUSYBOX = '/bin/busybox';

const FOLDERS: Record<string, number> = {
  'bin/': 0o755,
  'dev/': 0o755,
  'etc/': 0o755,
  'home/': 0o755,
  'proc/': 0o555,
  'root/': 0o700,
  'sbin/': 0o755,
  'sys/': 0o555,
  'tmp/': 0o1777,
  'usr/': 0o755,
  'usr/bin/': 0o755,
  'usr/sbin/': 0o755,
  'var/': 0o755,
  'var/tmp/': 0o1777,
};

const FILES: Record<string, string> = {
  'etc/passwd': ['root:x:0:0:root:/root:/bin/sh', 'nobody:x:65534:65534:nobody:/home:/bin/false', ''].join(
    '\n',
  ),
  'etc/group': ['root:x:0:', 'tty:x:5:', 'nogroup:x:65534:', ''].join('\n'),
  'etc/shadow': ['root:*:::::::', 'nobody:*:::::::', ''].join('\n'),
  'etc/nsswitch.conf': ['passwd: files', 'group: files', 'hosts: files dns', ''].join('\n'),
  'etc/os-release': ['ID=busybox', 'NAME="Busybox"', 'PRETTY_NAME="Busybox (from Debian)"', ''].join('\n'),
};

const output = argv[2];
if (output === undefined) {
  stderr.write('usage: node tools/builtin-image.ts OUTPUT.tar\n');
  exit(2);
}
const temporary = `${output}.tmp`;
writeFileSync(temporary, archive(layer()));
renameSync(temporary, output);

function layer(): Buffer {
  const parts: Buffer[] = [];
  const add = (entry: TarWriteEntry, data?: Buffer): void => void parts.push(encodeTarEntry(entry, data));
  for (const [name, mode] of Object.entries(FOLDERS)) add({ type: 'directory', name, mode });
  for (const [name, text] of Object.entries(FILES)) {
    add({ type: 'file', name, mode: name === 'etc/shadow' ? 0o600 : 0o644 }, Buffer.from(text));
  }
  add({ type: 'file', name: 'bin/busybox', mode: 0o755 }, readFileSync(BUSYBOX));
  for (const path of applets()) add({ type: 'symlink', name: path, linkName: BUSYBOX, mode: 0o777 });
  return Buffer.concat([...parts, TAR_END]);
}

/** Where busybox would install its applets: `bin/sh`, `usr/bin/awk`, ... */
function applets(): string[] {
  const listed = execFileSync(BUSYBOX, ['--list-full'], { encoding: 'utf8' });
  const paths = listed.split('\n').filter((path) => path !== '' && path !== 'bin/busybox');
  // Some builds know applets that live in the root itself, such as linuxrc: of no use here.
  return paths.filter((path) => path.includes('/')).sort();
}

function archive(tar: Buffer): Buffer {
  const blobs: Buffer[] = [];
  const blob = (bytes: Buffer): { digest: string; size: number } => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    blobs.push(encodeTarEntry({ type: 'file', name: `blobs/sha256/${hex}`, mode: 0o644 }, bytes));
    return { digest: `sha256:${hex}`, size: bytes.length };
  };
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  const layers = [{ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', ...blob(gzipSync(tar)) }];
  const config = {
    mediaType: 'application/vnd.oci.image.config.v1+json',
    ...blob(
      json({
        created: '1970-01-01T00:00:00Z',
        architecture,
        os: 'linux',
        config: { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], Cmd: ['sh'] },
        rootfs: { type: 'layers', diff_ids: [`sha256:${createHash('sha256').update(tar).digest('hex')}`] },
      }),
    ),
  };
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = blob(json({ schemaVersion: 2, mediaType, config, layers }));
  const annotations = {
    'io.containerd.image.name': REFERENCE,
    'org.opencontainers.image.ref.name': 'latest',
  };
  const index = json({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: [{ mediaType, ...manifest, platform: { os: 'linux', architecture }, annotations }],
  });
  return Buffer.concat([
    encodeTarEntry({ type: 'file', name: 'oci-layout', mode: 0o644 }, json({ imageLayoutVersion: '1.0.0' })),
    encodeTarEntry({ type: 'file', name: 'index.json', mode: 0o644 }, index),
    ...blobs,
    TAR_END,
  ]);
}
