// From a machine's command line to a process in its jail: cgroups, launch, and what is given back when it fails or ends.
import { join } from 'node:path';
import type { DriverName, VmShare } from './driver.ts';
import type { BindMount, FileServer, InheritedFds, LaunchConfig } from './launch-config.ts';
import { type Launched, launch } from './launcher.ts';
import { LOCK_FILE } from './records.ts';
import type { VmHost } from './vm-host.ts';
import { type Annotations, encodeAnnotations, VmProcess } from './vm-process.ts';

/** A verbose kernel boot is about 30 KiB. */
const LOG_BYTES = 512 * 1024;
/** Host side of every VM's TAP. Each lies in a network namespace of its own, so all may have the same. */
const TAP_ADDRESS = '10.77.0.1/24';
/** Longest reason for a cold boot that goes into the record. */
const MAX_COLD_REASON = 500;

export interface VmLaunch {
  driver: DriverName;
  id: string;
  dir: string;
  cpus: number;
  /** The host user that `host.users` gave the VM. */
  uid: number;
  /** The VMM's argv; the first is its path inside the jail. */
  argv: string[];
  binds: BindMount[];
  inherited: InheritedFds;
  shares?: readonly VmShare[];
  /** With shares, where the VMM does not serve them by itself. */
  server?: Omit<FileServer, 'fd'>;
  /** How the VMM gets at its TAP: as a descriptor from the launcher, by its name, or not at all. */
  tap: 'descriptor' | 'name' | 'none';
  /** Limit of the VMM's cgroup, guest memory included. */
  memoryLimitBytes: number;
  /** Limit of its address space, for hosts without a memory cgroup. */
  addressSpaceBytes: number;
  launch: 'cold' | 'warm';
  coldReason?: string;
  /** Of a warm launch: number of the VMM's descriptor that has the state to restore. */
  stateNumber?: number;
}

/** Starts the VMM. When it rejects, or what follows fails, `abandonVm` gives everything back. */
export async function launchVm(host: VmHost, vm: VmLaunch, signal: AbortSignal): Promise<VmProcess> {
  const { id, dir, uid, argv, binds, inherited, shares = [] } = vm;
  const { tapFd, consoleFd, serverFd } = inherited.launcherMade();
  const cgroups = await host.cgroups.create(id, { cpus: vm.cpus, memoryBytes: vm.memoryLimitBytes });
  const annotations: Annotations = {
    launch: vm.launch,
    memoryLimitBytes: vm.memoryLimitBytes,
    ...(vm.coldReason === undefined ? {} : { coldReason: vm.coldReason.slice(0, MAX_COLD_REASON) }),
    ...(vm.stateNumber === undefined ? {} : { stateNumber: vm.stateNumber }),
  };
  const config: LaunchConfig = {
    ...{ id, directory: dir, kind: vm.driver, uid, gid: uid, argv, binds },
    vmmCgroups: cgroups.vmmDirs,
    supervisorCgroups: cgroups.supervisorDirs,
    ...(cgroups.oomFile === undefined
      ? { addressSpaceBytes: vm.addressSpaceBytes }
      : { oomFile: cgroups.oomFile }),
    vmmFds: inherited.fds.length,
    consoleFd,
    ...(vm.tap === 'descriptor' ? { tapFd } : {}),
    ...(vm.tap === 'none' ? {} : { tapAddress: TAP_ADDRESS }),
    logBytes: LOG_BYTES,
    annotations: encodeAnnotations(annotations),
    shares: shares.map(({ readOnly }) => ({ readOnly })),
    ...(vm.server === undefined ? {} : { server: { ...vm.server, fd: serverFd } }),
    limitations: cgroups.limitations,
  };
  const launched = await launch(host, config, [...inherited.fds, ...shares.map(({ fd }) => fd)], signal);
  return new VmProcess(host, dir, launched.record, processesGone(launched));
}

/** The VMM dies with its supervisor, but a moment later. */
async function processesGone(launched: Launched): Promise<void> {
  await Promise.all([launched.supervisorExited, launched.vmmExited]);
}

/** After a failed start: ends `vm`, where it came that far, and gives back what this start claimed. */
export async function abandonVm(
  host: VmHost,
  { id, dir }: { id: string; dir: string },
  vm: VmProcess | undefined,
): Promise<void> {
  // A machine that runs there already keeps what is its own.
  if (vm === undefined && host.library.lockIsHeld(join(dir, LOCK_FILE))) return;
  await vm?.kill();
  await releaseVm(host, id);
}

/** What a VM leaves on the host beside its directory. Safe to repeat; only when its processes are gone. */
export async function releaseVm(host: Pick<VmHost, 'cgroups' | 'users'>, id: string): Promise<void> {
  await host.cgroups.remove(id);
  await host.users.release(id);
}
