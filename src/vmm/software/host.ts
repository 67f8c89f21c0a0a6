// What the software driver needs of this host, found once.
import { execFile } from 'node:child_process';
import { access, constants, mkdir, readFile, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BulkheadError } from '../../api/errors.ts';
import { DiskFactory } from '../../volumes/disk.ts';
import { writeFileAtomic } from '../atomic-file.ts';
import { Cgroups } from '../cgroups.ts';
import { ExitWatcher } from '../exit-watcher.ts';
import { type HostLibrary, loadHostLibrary } from '../ffi.ts';
import { HostUsers } from '../host-users.ts';
import { readBootId } from '../vm-process.ts';

const QEMU = '/usr/bin/qemu-system-x86_64';
const FIRMWARE = '/usr/share/qemu/bios-microvm.bin';
/** Starts a kernel by its PVH entry; the firmware runs it. */
const BOOT_ROM = '/usr/share/qemu/pvh.bin';
/** Folders of the dynamic loader and of QEMU's libraries and modules, as Debian and its kin lay them out. */
const LIBRARY_FOLDERS = ['/lib64', '/lib/x86_64-linux-gnu', '/usr/lib/x86_64-linux-gnu', '/usr/lib64'];
const VERSION_TIMEOUT_MS = 10_000;
/** Warm start relies on how 7.2 restores shared memory; older ones lack devices. */
const MIN_QEMU_MAJOR = 7;

export interface SoftwareOptions {
  /** Root-owned folder for templates, host users and measurements. */
  stateDir: string;
  /** Holds guest/{vmlinux,initramfs.cpio} and libvmm/{libvmm.so,bulkhead-vmm}. */
  buildDir: string;
  /** Starts in flight at once; the number of cores when absent. */
  maxConcurrentStarts?: number;
  /** All templates together on disk, bytes; least recently used ones go first. */
  maxTemplateBytes?: number;
  /** Told when a warm start falls back to a cold boot, or a template is made again. */
  onWarning?: (message: string) => void;
}

export interface HostFiles {
  qemu: string;
  firmware: string;
  bootRom: string;
  kernel: string;
  initramfs: string;
  libraries: string[];
}

export interface SoftwareHost {
  library: HostLibrary;
  /** The same as `library`, under the name that the shared parts use. */
  host: HostLibrary;
  watcher: ExitWatcher;
  cgroups: Cgroups;
  users: HostUsers;
  disks: DiskFactory;
  launcherPath: string;
  files: HostFiles;
  tscKhz: number;
  bootId: string;
  stateDir: string;
}

export async function openSoftwareHost(options: SoftwareOptions): Promise<SoftwareHost> {
  const library = loadHostLibrary(options.buildDir);
  await mkdir(options.stateDir, { recursive: true, mode: 0o700 });
  const users = new HostUsers(join(options.stateDir, 'host-users'));
  await users.init();
  const bootId = await readBootId();
  return {
    library,
    host: library,
    watcher: new ExitWatcher(library),
    cgroups: await Cgroups.detect(),
    users,
    disks: new DiskFactory(join(options.stateDir, 'disk-templates'), (source, target) =>
      library.sparseCopy(source, target),
    ),
    launcherPath: join(options.buildDir, 'libvmm/bulkhead-vmm'),
    files: {
      qemu: QEMU,
      firmware: await realpath(FIRMWARE).catch(() => FIRMWARE),
      bootRom: BOOT_ROM,
      kernel: join(options.buildDir, 'guest/vmlinux'),
      initramfs: join(options.buildDir, 'guest/initramfs.cpio'),
      libraries: await libraryFolders(),
    },
    tscKhz: await clockRate(library, join(options.stateDir, 'host.json'), bootId),
    bootId,
    stateDir: options.stateDir,
  };
}

async function libraryFolders(): Promise<string[]> {
  const found: string[] = [];
  for (const path of LIBRARY_FOLDERS) {
    if (await stat(path).catch(() => undefined)) found.push(path);
  }
  return found;
}

/** Rate of the time stamp counter, measured once per host boot: it is baked into every template. */
async function clockRate(library: HostLibrary, path: string, bootId: string): Promise<number> {
  const text = await readFile(path, 'utf8').catch(() => '{}');
  try {
    const value: unknown = JSON.parse(text);
    const fields: Record<string, unknown> = typeof value === 'object' && value !== null ? { ...value } : {};
    if (fields.bootId === bootId && Number.isSafeInteger(fields.tscKhz)) return Number(fields.tscKhz);
  } catch {
    // a torn file of an older release: measured again below
  }
  const tscKhz = await library.tscKhz();
  await writeFileAtomic(path, JSON.stringify({ bootId, tscKhz }));
  return tscKhz;
}

/** QEMU's version text. Rejects with DRIVER_UNAVAILABLE and what to do about it. */
export async function checkHost(host: SoftwareHost): Promise<string> {
  const unavailable = (message: string) => new BulkheadError('DRIVER_UNAVAILABLE', message);
  if (process.getuid?.() !== 0)
    throw unavailable(
      'The software driver needs root: network and mount namespaces, TAP devices, cgroups and a host user for each VM.',
    );
  const needed: [string, string][] = [
    [host.files.qemu, 'install the package qemu-system-x86'],
    [host.files.firmware, 'install the package qemu-system-x86'],
    [host.files.bootRom, 'install the package qemu-system-x86'],
    [host.files.kernel, 'run `make build`'],
    [host.files.initramfs, 'run `make build`'],
    [host.launcherPath, 'run `make build`'],
    ['/dev/net/tun', 'load the kernel module tun'],
  ];
  for (const [path, remedy] of needed) {
    const readable = await access(path, constants.R_OK).then(
      () => true,
      () => false,
    );
    if (!readable) throw unavailable(`${path} is missing or cannot be read: ${remedy}.`);
  }
  const { stdout } = await promisify(execFile)(host.files.qemu, ['--version'], {
    timeout: VERSION_TIMEOUT_MS,
  });
  const version = /version (\d+)\.[\d.]+/.exec(stdout);
  if (!version) throw unavailable(`${host.files.qemu} does not tell its version.`);
  if (Number(version[1]) < MIN_QEMU_MAJOR)
    throw unavailable(`QEMU 7.2 or later is needed, this is ${version[0]}.`);
  return version[0].replace('version ', '');
}
