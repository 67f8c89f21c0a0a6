// QEMU's command line. The same devices in the same order for cold boot, template and clone: a restored state fits no
// other list, so MACHINE_VERSION is part of every template's key.
import { SHARES_TAG } from '../../guest/volumes.ts';

/** Raised with every change of the devices, the machine or the kernel command line below. */
export const MACHINE_VERSION = 1;

/** Paths inside the jail. */
export const JAIL = {
  qemu: '/usr/bin/qemu-system-x86_64',
  firmware: '/firmware.bin',
  /** QEMU looks for it in this place. */
  bootRom: '/usr/share/qemu/pvh.bin',
  kernel: '/kernel',
  initramfs: '/initramfs',
} as const;

/** MAC address of a machine before its agent is told another; locally administered. */
const BOOT_MAC = '02:62:68:00:00:01';
/** Translation cache, MiB. Restores and boots were no faster with more; a full one is flushed and filled again. */
export const TRANSLATION_CACHE_MIB = 64;

/** How the machine comes to life. */
export type MachineSource =
  | { kind: 'boot'; kernelArguments: string }
  /** Waits for the device state of a template. */
  | { kind: 'restore' };

/** Guest memory. */
export type MachineMemory =
  /** Anonymous; nobody else sees it. */
  | { kind: 'private' }
  /** Anonymous, but a file server beside QEMU maps it too. */
  | { kind: 'shared' }
  /** A memory file that keeps what the guest writes: of a machine that becomes a template. */
  | { kind: 'template'; fd: number }
  /** A template's sealed memory file, copied on write. */
  | { kind: 'clone'; fd: number };

export interface MachineOptions {
  cpus: number;
  memoryMib: number;
  memory: MachineMemory;
  source: MachineSource;
  /** Descriptor numbers in QEMU. */
  agentFd: number;
  qmpFd: number;
  consoleFd: number;
  tapFd: number;
  imageFd: number;
  /** The writable disk, open for writing, and once more for reading: QEMU opens it that way first when it restores. */
  upperWriteFd: number;
  upperReadFd: number;
  volumes: readonly VolumeFds[];
  /** The connection to a file server; only with shared memory. */
  serverFd?: number;
}

/** A disk of a volume. One that can be written to needs both descriptors, as the upper disk does. */
export interface VolumeFds {
  readFd: number;
  /** Absent for a disk that is only read. */
  writeFd?: number;
}

/** Name of a volume's drive. */
export function volumeDrive(index: number): string {
  return `volume${index}`;
}

/** The first set of descriptors after those of image and upper. */
const FIRST_VOLUME_SET = 3;

function volumeArguments({ readFd, writeFd }: VolumeFds, index: number): string[] {
  const set = FIRST_VOLUME_SET + index;
  const id = volumeDrive(index);
  const drive = `if=none,id=${id},file=/dev/fdset/${set},file.locking=off,format=raw`;
  return [
    ...(writeFd === undefined ? [] : ['-add-fd', `fd=${writeFd},set=${set}`]),
    ...['-add-fd', `fd=${readFd},set=${set}`],
    ...['-drive', `${drive},${writeFd === undefined ? 'readonly=on' : 'cache=writeback,discard=unmap'}`],
    ...['-device', `virtio-blk-device,drive=${id},id=disk-${id},serial=${id}`],
  ];
}

/**
 * Kernel command line for TCG. The clock options are a correctness fix as well: without them the calibration of the time
 * stamp counter fails at random, and the guest runs on a clock with 4 ms steps.
 */
export function kernelArguments(tscKhz: number): string {
  return [
    'console=hvc0 quiet loglevel=4 reboot=t panic=-1',
    `tsc_early_khz=${tscKhz} tsc=reliable no_timer_check nolapic_timer noreplace-smp`,
  ].join(' ');
}

function sharesArguments(serverFd: number): string[] {
  return [
    ...['-chardev', `socket,id=shares,fd=${serverFd}`],
    ...['-device', `vhost-user-fs-device,chardev=shares,tag=${SHARES_TAG}`],
  ];
}

function memoryArguments(memory: MachineMemory, size: string): string[] {
  switch (memory.kind) {
    case 'private':
      return ['-object', `memory-backend-ram,id=m0,size=${size}`];
    case 'shared':
      return ['-object', `memory-backend-memfd,id=m0,size=${size},share=on`];
    case 'template':
      return [
        '-object',
        `memory-backend-file,id=m0,size=${size},mem-path=/proc/self/fd/${memory.fd},share=on`,
      ];
    case 'clone':
      return [
        '-object',
        `memory-backend-file,id=m0,size=${size},mem-path=/proc/self/fd/${memory.fd},share=off`,
      ];
  }
}

function sourceArguments(source: MachineSource): string[] {
  if (source.kind === 'restore') return ['-incoming', 'defer'];
  return ['-kernel', JAIL.kernel, '-initrd', JAIL.initramfs, '-append', source.kernelArguments];
}

export function qemuArguments(options: MachineOptions): string[] {
  const size = `${options.memoryMib}M`;
  return [
    JAIL.qemu,
    ...['-M', 'microvm,acpi=off,pic=on,pit=on,rtc=on,memory-backend=m0', '-bios', JAIL.firmware],
    ...['-accel', `tcg,thread=multi,tb-size=${TRANSLATION_CACHE_MIB}`, '-cpu', 'max'],
    ...['-m', size, '-smp', String(options.cpus)],
    ...memoryArguments(options.memory, size),
    // The legacy transport is the default of microvm and lacks what vhost-user devices need.
    ...['-global', 'virtio-mmio.force-legacy=false'],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...sourceArguments(options.source),
    ...['-device', 'virtio-serial-device'],
    ...['-chardev', `socket,id=console,fd=${options.consoleFd}`, '-device', 'virtconsole,chardev=console'],
    ...['-chardev', `socket,id=agent,fd=${options.agentFd},server=on,wait=off`],
    ...['-device', 'virtserialport,chardev=agent,name=bulkhead.agent'],
    ...[
      '-chardev',
      `socket,id=qmp,fd=${options.qmpFd},server=on,wait=off`,
      '-mon',
      'chardev=qmp,mode=control',
    ],
    ...['-add-fd', `fd=${options.imageFd},set=1`],
    ...['-add-fd', `fd=${options.upperWriteFd},set=2`, '-add-fd', `fd=${options.upperReadFd},set=2`],
    ...['-drive', 'if=none,id=image,file=/dev/fdset/1,file.locking=off,format=raw,readonly=on'],
    ...['-device', 'virtio-blk-device,drive=image,id=vda,serial=image'],
    // No file locks: QEMU would meet its own through the other descriptor. The directory's lock guards the disks.
    ...[
      '-drive',
      'if=none,id=upper,file=/dev/fdset/2,file.locking=off,format=raw,cache=writeback,discard=unmap',
    ],
    ...['-device', 'virtio-blk-device,drive=upper,id=vdb,serial=upper'],
    ...options.volumes.flatMap(volumeArguments),
    ...(options.serverFd === undefined ? [] : sharesArguments(options.serverFd)),
    ...[
      '-netdev',
      `tap,id=net,fd=${options.tapFd}`,
      '-device',
      `virtio-net-device,netdev=net,mac=${BOOT_MAC}`,
    ],
    ...['-device', 'virtio-rng-device'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
  ];
}
