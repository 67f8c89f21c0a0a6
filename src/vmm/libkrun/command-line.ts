// bulkhead-krun's command line (libvmm/krun-vm/options.h) and what of the host it finds in its jail.
import { type BindMount, SHARES_DIRECTORY, TAP_NAME } from '../launch-config.ts';
import { AGENT_SOCKET_IN_JAIL } from '../records.ts';
import type { LibkrunHost } from './host.ts';

/** Paths inside the jail. */
const JAIL = {
  vmm: '/bulkhead-krun',
  library: '/libkrun.so',
  kernel: '/kernel',
  initramfs: '/initramfs',
  image: '/image',
  upper: '/upper',
  kvm: '/dev/kvm',
  tun: '/dev/net/tun',
} as const;

const volumeInJail = (index: number): string => `/volume${index}`;

/** MAC address of a machine before its agent is told another; locally administered. */
const BOOT_MAC = '02:62:68:00:00:01';
/**
 * `reboot=k`: only a reset through the keyboard controller ends libkrun on x86-64. `panic=-1`: a panic resets at once.
 * `no-kvmapf`: no interrupts for pages that the host brings in; a guest this small has nothing else to run meanwhile.
 */
const KERNEL_ARGUMENTS = 'console=hvc0 quiet loglevel=4 reboot=k panic=-1 no-kvmapf';

export interface KrunMachine {
  cpus: number;
  memoryMib: number;
  /** Absent for a machine that only has to answer. */
  disks?: {
    imagePath: string;
    upperPath: string;
    volumes: readonly { path: string; readOnly: boolean }[];
  };
  /** Whether it has shares. */
  shared?: boolean;
  /** Whether it has a network device. */
  network: boolean;
}

export function krunArguments(machine: KrunMachine, consoleFd: number): string[] {
  return [
    JAIL.vmm,
    ...['--library', JAIL.library, '--kernel', JAIL.kernel, '--initramfs', JAIL.initramfs],
    ...['--command-line', KERNEL_ARGUMENTS],
    ...['--cpus', String(machine.cpus), '--memory-mib', String(machine.memoryMib)],
    ...['--console-fd', String(consoleFd), '--agent-socket', AGENT_SOCKET_IN_JAIL],
    ...(machine.disks === undefined ? [] : ['--image', JAIL.image, '--upper', JAIL.upper]),
    ...(machine.disks?.volumes ?? []).flatMap(({ readOnly }, index) => [
      ...[`--volume-${index}`, `${readOnly ? 'ro' : 'rw'}:${volumeInJail(index)}`],
    ]),
    ...(machine.shared === true ? ['--shares', SHARES_DIRECTORY] : []),
    ...(machine.network ? ['--tap', TAP_NAME, '--mac', BOOT_MAC] : []),
  ];
}

export function krunBinds(host: LibkrunHost, library: string, machine: KrunMachine): BindMount[] {
  const { disks } = machine;
  return [
    { source: host.vmm, target: JAIL.vmm, executable: true },
    { source: library, target: JAIL.library, executable: true },
    { source: host.guest.kernel, target: JAIL.kernel },
    { source: host.guest.initramfs, target: JAIL.initramfs },
    ...host.libraryPaths.map((path) => ({ source: path, target: path, executable: true })),
    { source: host.kvmDevice, target: JAIL.kvm, device: true },
    ...(machine.network ? [{ source: JAIL.tun, target: JAIL.tun, device: true }] : []),
    ...(disks === undefined
      ? []
      : [
          { source: disks.imagePath, target: JAIL.image },
          { source: disks.upperPath, target: JAIL.upper, writable: true },
          ...disks.volumes.map(({ path, readOnly }, index) => ({
            ...{ source: path, target: volumeInJail(index), writable: !readOnly },
          })),
        ]),
  ];
}
