// One libkrun process in its jail.
import { chmod, chown } from 'node:fs/promises';
import { BulkheadError } from '../../api/errors.ts';
import type { VmShare } from '../driver.ts';
import { InheritedFds } from '../launch-config.ts';
import { MIB } from '../vm-config.ts';
import { abandonVm, launchVm } from '../vm-launch.ts';
import type { VmProcess } from '../vm-process.ts';
import { type KrunMachine, krunArguments, krunBinds } from './command-line.ts';
import { findLibrary, type LibkrunHost } from './host.ts';

/**
 * The VMM beside guest memory: below 20 MiB when idle. The rest is for packets between guest and host, which libkrun copies
 * without a bound of its own, and for page cache that the VMM may keep.
 */
const VMM_OVERHEAD_BYTES = 128 * MIB;
/** Address space beyond guest memory: libraries, thread stacks, and allocator arenas that reserve 64 MiB for each thread. */
const ADDRESS_SPACE_OVERHEAD_BYTES = 4096 * MIB;

/** Of a disk that VMs of several users read. */
const READ_ONLY_MODE = 0o644;

export interface KrunMachineSpec extends Omit<KrunMachine, 'shared'> {
  shares?: readonly VmShare[];
  id: string;
  dir: string;
}

/** Resolves when the VMM runs. When it rejects, no process, cgroup or user of this start is left. */
export async function startKrunMachine(
  host: LibkrunHost,
  spec: KrunMachineSpec,
  signal: AbortSignal,
): Promise<VmProcess> {
  const { id, dir, cpus } = spec;
  const { shares = [] } = spec;
  const machine = { ...spec, shared: shares.length > 0 };
  try {
    const library = await findLibrary(host);
    if (library === undefined) throw new BulkheadError('DRIVER_UNAVAILABLE', 'libkrun is not installed');
    const uid = await host.users.claim(id, dir);
    // The VMM opens its disk by its path in the jail, as its own user.
    if (spec.disks !== undefined) await chown(spec.disks.upperPath, uid, uid);
    for (const { path, readOnly } of spec.disks?.volumes ?? []) {
      // Several may read one disk, so it stays root's; its directory is closed to everybody else.
      if (readOnly) await chmod(path, READ_ONLY_MODE);
      else await chown(path, uid, uid);
    }
    const inherited = new InheritedFds();
    const { consoleFd } = inherited.launcherMade();
    return await launchVm(
      host,
      {
        ...{ driver: 'libkrun', id, dir, cpus, uid, inherited, launch: 'cold' },
        tap: spec.network ? 'name' : 'none',
        argv: krunArguments(machine, consoleFd),
        binds: krunBinds(host, library, machine),
        shares,
        memoryLimitBytes: spec.memoryMib * MIB + VMM_OVERHEAD_BYTES,
        addressSpaceBytes: spec.memoryMib * MIB + ADDRESS_SPACE_OVERHEAD_BYTES,
      },
      signal,
    );
  } catch (error) {
    await abandonVm(host, spec, undefined);
    throw error;
  }
}
