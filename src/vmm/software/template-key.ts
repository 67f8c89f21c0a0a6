// What a template depends on. Anything else in a machine may differ between the template and its clones.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { fileDigest } from '../file-digest.ts';
import { MACHINE_VERSION } from './command-line.ts';
import type { SoftwareHost } from './host.ts';

/** The event loop is held for less than a millisecond by each. */
const CHECKSUM_CHUNK_BYTES = 1024 * 1024;

export interface TemplateSpec {
  /**
   * `image`: both disks mounted, for a sandbox that starts for the first time. `generic`: the agent alone, for one
   * whose upper disk holds data already.
   */
  kind: 'image' | 'generic';
  cpus: number;
  memoryBytes: number;
  /** For `image` only. */
  image?: { path: string; digest: string };
  upperSizeBytes?: number;
}

/** Identity of the parts of this host that a saved state fits: computed once. */
export async function hostFingerprint(host: SoftwareHost): Promise<string> {
  const qemu = await stat(host.files.qemu);
  const parts = [
    `machine ${MACHINE_VERSION}`,
    `qemu ${qemu.size} ${qemu.mtimeMs}`,
    `kernel ${await fileDigest(host.files.kernel)}`,
    `initramfs ${await fileDigest(host.files.initramfs)}`,
    // Rate and count of the time stamp counter are in the state.
    `boot ${host.bootId} ${host.tscKhz}`,
  ];
  return createHash('sha256').update(parts.join('\n')).digest('hex');
}

/** 32 hex digits: names the template's folder. */
export function templateKey(fingerprint: string, spec: TemplateSpec): string {
  const parts = [fingerprint, spec.kind, spec.cpus, spec.memoryBytes];
  if (spec.kind === 'image') parts.push(spec.image?.digest ?? '', spec.upperSizeBytes ?? 0);
  return createHash('sha256').update(parts.join('\n')).digest('hex').slice(0, 32);
}

/** CRC-32 of the content; finds what a disk mangled, at several times the speed of a digest. */
export async function fileChecksum(path: string): Promise<number> {
  let sum = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: CHECKSUM_CHUNK_BYTES }))
    sum = crc32(chunk, sum);
  return sum;
}
