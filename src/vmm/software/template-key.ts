// What a template depends on. Anything else in a machine may differ between the template and its clones.
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { fileDigest } from '../file-digest.ts';
import { MACHINE_VERSION } from './command-line.ts';
import type { SoftwareHost } from './host.ts';

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
  /** Which of the disks of volumes are only read. The disks themselves may be any: nothing is read from them before the save. */
  volumes: readonly { readOnly: boolean }[];
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
  for (const { readOnly } of spec.volumes) parts.push(readOnly ? 'read-only volume' : 'volume');
  return createHash('sha256').update(parts.join('\n')).digest('hex').slice(0, 32);
}

/**
 * Changes with every write to the file, and with every replacement of it, whoever asks for the file's old times back. Unlike a
 * checksum it costs nothing: one of a template's memory would take as long as reading all of it, holes too.
 */
export async function fileIdentity(path: string): Promise<string> {
  const { ino, size, ctimeNs } = await stat(path, { bigint: true });
  return `${ino} ${size} ${ctimeNs}`;
}
