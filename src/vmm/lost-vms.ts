// VMs whose directory is gone while the daemon runs. Each VM is claimed by its host user before anything else of it is made and
// released last, so that the claims of a state directory tell what is its own; control groups of others stay untouched.
import { join } from 'node:path';
import { Cgroups } from './cgroups.ts';
import { loadHostLibrary } from './ffi.ts';
import { HostUsers } from './host-users.ts';
import { endLost, isThere } from './leftovers.ts';

export interface LostVm {
  /** Of the VM: the uid of its sandbox. */
  id: string;
  /** Its number as a user of the host. */
  uid: number;
  /** Ends its processes and gives back what it has. */
  remove(): Promise<void>;
}

/** `stateDir` as the drivers have it. */
export async function openLostVms(options: {
  stateDir: string;
  buildDir: string;
}): Promise<() => Promise<LostVm[]>> {
  const host = {
    library: loadHostLibrary(options.buildDir),
    cgroups: await Cgroups.detect(),
    users: new HostUsers(join(options.stateDir, 'host-users')),
  };
  return async () => {
    const found: LostVm[] = [];
    for (const { uid, id, dir } of await host.users.held())
      if (!(await isThere(dir))) found.push({ id, uid, remove: () => endLost(host, id) });
    return found;
  };
}
