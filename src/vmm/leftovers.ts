// What a daemon that was killed left on the host, and nobody can adopt.
import { closeSync } from 'node:fs';
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { HostError } from './ffi.ts';
import { LOCK_FILE } from './records.ts';
import type { VmHost } from './vm-host.ts';
import { releaseVm } from './vm-launch.ts';
import { adoptVm } from './vm-process.ts';

/** A launcher that holds the lock writes its record within milliseconds; 10 s cover a loaded host. */
const RECORD_ATTEMPTS = 2000;
const RECORD_PAUSE_MS = 5;

/** What a VM has on the host beside its directory. */
type VmParts = Pick<VmHost, 'library' | 'cgroups' | 'users'>;

/** VMs that a driver runs for itself (to make a template, to try the host), never adopted. */
export interface OwnVms {
  /** Holds one directory for each, named by its id, among others. */
  parent: string;
  /** Is a directory of this name one of them? */
  isOwn: (name: string) => boolean;
}

/**
 * Ends and removes the driver's own VMs, half-made disks, and whatever remains of VMs whose directory is gone.
 * Touches only what this state directory can prove to be its own: by the lock in a VM's directory, and by the claims of
 * host users. VMs whose directory is there are left alone, for the daemon to adopt or release.
 */
export async function removeVmLeftovers(
  host: VmHost,
  own: OwnVms,
  warn: (message: string) => void,
): Promise<void> {
  const attempt = async (what: string, work: Promise<void>) => {
    try {
      await work;
    } catch (error) {
      warn(`${what} of an earlier run stays: ${error instanceof Error ? error.message : error}`);
    }
  };
  for (const name of await readdir(own.parent).catch(() => []))
    if (own.isOwn(name)) await attempt(`VM ${name}`, endOwn(host, join(own.parent, name), name));
  for (const { id, dir } of await host.users.claims())
    if (!(await isThere(dir))) await attempt(`VM ${id}`, endLost(host, id));
  await attempt('a half-made disk', host.disks.removeLeftovers());
}

/** The directory goes last, so that a kill in between is noticed by the next start. */
async function endOwn(host: VmHost, dir: string, id: string): Promise<void> {
  const lock = join(dir, LOCK_FILE);
  for (let attempt = 1; host.library.lockIsHeld(lock); attempt++) {
    const vm = await adoptVm(host, dir);
    if (vm) await vm.kill();
    else if (attempt === RECORD_ATTEMPTS) throw new Error(`${lock} is held by a process that left no record`);
    else await sleep(RECORD_PAUSE_MS); // its launcher has not written the record yet
  }
  await releaseVm(host, id);
  await rm(dir, { recursive: true, force: true });
}

/** Ends a VM that no record tells of any more; its supervisor ends with it. */
export async function endLost(host: VmParts, id: string): Promise<void> {
  for (const pid of await host.cgroups.processes(id)) {
    try {
      const pidfd = host.library.pidfdOpen(pid, host.library.processStartTime(pid));
      try {
        // Read again: now the descriptor holds the process, and its number cannot pass to another.
        if ((await host.cgroups.processes(id)).includes(pid)) host.library.pidfdKill(pidfd, 'SIGKILL');
      } finally {
        closeSync(pidfd);
      }
    } catch (error) {
      if (!(error instanceof HostError && error.code === 'ESRCH')) throw error;
    }
  }
  await releaseVm(host, id);
}

export async function isThere(dir: string): Promise<boolean> {
  try {
    await stat(dir);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false;
    throw error;
  }
}
