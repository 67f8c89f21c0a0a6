// virtiofsd, which serves a VM's shares from a jail of its own (libvmm/launcher/shares.h).
import { FIRST_INHERITED_FD } from '../ffi.ts';
import { type FileServer, SHARES_DIRECTORY } from '../launch-config.ts';
import { MIB } from '../vm-config.ts';
import type { SoftwareHost } from './host.ts';

/** That of QEMU 7.2, which Debian 12 has; later releases have another one, with other options. */
export const FILE_SERVER = '/usr/lib/qemu/virtiofsd';
const IN_JAIL = '/virtiofsd';

/** It holds little beside the guest's memory, which it maps; the kernel's memory for open files counts too. */
export const FILE_SERVER_OVERHEAD_BYTES = 64 * MIB;

/**
 * The launcher's jail does what its own sandbox would, which needs rights that it does not have there. Metadata is kept
 * for a second, content for as long as a file is open: what the host changes is seen within that.
 */
export function fileServer(host: SoftwareHost): Omit<FileServer, 'fd'> {
  return {
    argv: [
      ...[IN_JAIL, `--fd=${FIRST_INHERITED_FD}`, '-f', '--rlimit-nofile=0'],
      ...['-o', `source=${SHARES_DIRECTORY}`, '-o', 'sandbox=chroot,cache=auto,no_xattr,log_level=warn'],
    ],
    binds: [
      { source: FILE_SERVER, target: IN_JAIL, executable: true },
      ...host.libraryPaths.map((path) => ({ source: path, target: path, executable: true })),
    ],
  };
}
