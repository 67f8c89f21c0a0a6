// What every driver needs of this host, found once.
import { execFile } from 'node:child_process';
import { access, constants, mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BulkheadError } from '../api/errors.ts';
import { DiskFactory } from '../volumes/disk.ts';
import { Cgroups } from './cgroups.ts';
import { ExitWatcher } from './exit-watcher.ts';
import { type HostLibrary, loadHostLibrary } from './ffi.ts';
import { HostUsers } from './host-users.ts';
import { readBootId } from './vm-process.ts';

/** The dynamic loader and the folders of a VMM's libraries and modules, as Debian and its kin lay them out. */
const LIBRARY_PATHS = [
  '/lib64',
  '/lib/ld-linux-aarch64.so.1',
  '/lib/x86_64-linux-gnu',
  '/usr/lib/x86_64-linux-gnu',
  '/lib/aarch64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/usr/lib64',
];

/** It takes milliseconds; more under load, or while the kernel loads a module. */
const NETWORK_CHECK_TIMEOUT_MS = 30_000;
/** The launcher's own messages are shorter. */
const REASON_MAX_CHARS = 500;

export interface VmHostOptions {
  /** Root-owned folder of what belongs to no single VM: host users, disk templates and more. Drivers may share one. */
  stateDir: string;
  /** Holds guest/{vmlinux,initramfs.cpio} and libvmm/{libvmm.so,bulkhead-vmm}. */
  buildDir: string;
}

export interface VmHost {
  library: HostLibrary;
  /** The same as `library`, under the name that the shared parts use. */
  host: HostLibrary;
  watcher: ExitWatcher;
  cgroups: Cgroups;
  users: HostUsers;
  disks: DiskFactory;
  launcherPath: string;
  guest: { kernel: string; initramfs: string };
  /** Those of LIBRARY_PATHS that this host has. */
  libraryPaths: string[];
  bootId: string;
  stateDir: string;
}

export async function openVmHost({ stateDir, buildDir }: VmHostOptions): Promise<VmHost> {
  const library = loadHostLibrary(buildDir);
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  const users = new HostUsers(join(stateDir, 'host-users'));
  await users.init();
  return {
    library,
    host: library,
    watcher: new ExitWatcher(library),
    cgroups: await Cgroups.detect(),
    users,
    disks: new DiskFactory(join(stateDir, 'disk-templates'), (source, target) =>
      library.sparseCopy(source, target),
    ),
    launcherPath: join(buildDir, 'libvmm/bulkhead-vmm'),
    guest: { kernel: join(buildDir, 'guest/vmlinux'), initramfs: join(buildDir, 'guest/initramfs.cpio') },
    libraryPaths: await presentPaths(LIBRARY_PATHS),
    bootId: await readBootId(),
    stateDir,
  };
}

async function presentPaths(paths: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const path of paths) if (await stat(path).catch(() => undefined)) found.push(path);
  return found;
}

/** A file that must be there, and what to do when it is not. */
export type NeededFile = readonly [path: string, remedy: string];

/**
 * Rejects with DRIVER_UNAVAILABLE, and what to do, when the host cannot give a VM its closed network: the launcher tries it,
 * with a TAP and the nftables rule on it, in a network namespace that is gone when it ends.
 */
export async function checkNetwork(launcherPath: string): Promise<void> {
  try {
    await promisify(execFile)(launcherPath, ['--check-network'], { timeout: NETWORK_CHECK_TIMEOUT_MS });
  } catch (error) {
    const { stderr = '', message = '' } =
      error instanceof Error ? { stderr: '', ...error, message: error.message } : {};
    const reason = stderr.trim().slice(0, REASON_MAX_CHARS) || message;
    throw new BulkheadError(
      'DRIVER_UNAVAILABLE',
      `This host cannot give a VM its closed network: ${reason}. ${networkRemedy(reason)}`,
    );
  }
}

function networkRemedy(reason: string): string {
  return reason.includes('nftables')
    ? 'Load the kernel module nf_tables, or use a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_NETDEV: without that rule the frames of a guest would reach the host.'
    : 'The kernel needs network namespaces (CONFIG_NET_NS) and TAP devices (CONFIG_TUN, module tun).';
}

/** Rejects with DRIVER_UNAVAILABLE, and what to do, when the host lacks what all drivers or `more` need. Leaves nothing. */
export async function checkVmHost(host: VmHost, driver: string, more: readonly NeededFile[]): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new BulkheadError(
      'DRIVER_UNAVAILABLE',
      `The ${driver} driver needs root: network and mount namespaces, TAP devices, cgroups and a host user for each VM.`,
    );
  const needed: readonly NeededFile[] = [
    ...more,
    [host.guest.kernel, 'run `make build`'],
    [host.guest.initramfs, 'run `make build`'],
    [host.launcherPath, 'run `make build`'],
    ['/dev/net/tun', 'load the kernel module tun'],
  ];
  for (const [path, remedy] of needed) {
    const readable = await access(path, constants.R_OK).then(
      () => true,
      () => false,
    );
    if (!readable)
      throw new BulkheadError('DRIVER_UNAVAILABLE', `${path} is missing or cannot be read: ${remedy}.`);
  }
  await checkNetworkOnce(host);
}

/** Hosts that passed. What the kernel could once it can until the next boot, and this is asked before every start. */
const closedNetworks = new WeakSet<object>();

/** As `checkNetwork`, but tried again only as long as it fails. */
export async function checkNetworkOnce(host: Pick<VmHost, 'launcherPath'>): Promise<void> {
  if (closedNetworks.has(host)) return;
  await checkNetwork(host.launcherPath);
  closedNetworks.add(host);
}
