// One libkrun process in its jail, up to the moment at which its agent port can be dialled.
import { chown } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { BulkheadError } from '../../api/errors.ts';
import type { StartStages } from '../driver.ts';
import { InheritedFds } from '../launch-config.ts';
import { stopwatch } from '../stopwatch.ts';
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
/** libkrun offers the port when the guest's kernel finds its device; a crowded host that is emulated itself took half a minute. */
const LISTEN_TIMEOUT_MS = 120_000;
/** Pause between tries: grows by half each time, so that a wait costs little of what the VMM needs itself. */
const LISTEN_POLL_MIN_MS = 2;
const LISTEN_POLL_MAX_MS = 100;

export interface KrunMachineSpec extends KrunMachine {
  id: string;
  dir: string;
}

/** When it rejects, no process, cgroup or user of this start is left. */
export async function startKrunMachine(
  host: LibkrunHost,
  spec: KrunMachineSpec,
  signal: AbortSignal,
): Promise<{ vm: VmProcess; stages: StartStages }> {
  const { id, dir, cpus } = spec;
  const stages: StartStages = {};
  let vm: VmProcess | undefined;
  try {
    const library = await findLibrary(host);
    if (library === undefined) throw new BulkheadError('DRIVER_UNAVAILABLE', 'libkrun is not installed');
    const uid = await host.users.claim(id, dir);
    // The VMM opens its disk by its path in the jail, as its own user.
    if (spec.disks !== undefined) await chown(spec.disks.upperPath, uid, uid);
    const inherited = new InheritedFds();
    const { consoleFd } = inherited.launcherMade();
    const spawn = stopwatch();
    vm = await launchVm(
      host,
      {
        ...{ driver: 'libkrun', id, dir, cpus, uid, inherited, launch: 'cold' },
        tap: spec.network ? 'name' : 'none',
        argv: krunArguments(spec, consoleFd),
        binds: krunBinds(host, library, spec),
        memoryLimitBytes: spec.memoryMib * MIB + VMM_OVERHEAD_BYTES,
        addressSpaceBytes: spec.memoryMib * MIB + ADDRESS_SPACE_OVERHEAD_BYTES,
      },
      signal,
    );
    stages.spawn = spawn();
    const kernel = stopwatch();
    await agentPortOpen(vm, signal);
    stages.kernel = kernel();
    return { vm, stages };
  } catch (error) {
    await abandonVm(host, spec, vm);
    throw error;
  }
}

/** Resolves when a connection is accepted; rejects with the true reason when the VMM ends before. */
async function agentPortOpen(vm: VmProcess, signal: AbortSignal): Promise<void> {
  const ended = new AbortController();
  void vm.exited.then(() => ended.abort());
  const deadline = AbortSignal.timeout(LISTEN_TIMEOUT_MS);
  for (let pause = LISTEN_POLL_MIN_MS; ; pause = Math.min(pause * 1.5, LISTEN_POLL_MAX_MS)) {
    try {
      // Closed at once: the agent does not listen yet, as a rule.
      (await vm.dialAgent(AbortSignal.any([signal, deadline]))).destroy();
      return;
    } catch (error) {
      signal.throwIfAborted();
      if (ended.signal.aborted)
        throw new BulkheadError('VM_START_FAILED', (await vm.exited).message, { cause: error });
      if (deadline.aborted)
        throw new BulkheadError(
          'VM_START_FAILED',
          `The VMM did not offer its agent port within ${LISTEN_TIMEOUT_MS / 1000} s.`,
        );
      if (!(error instanceof BulkheadError) || error.code !== 'AGENT_UNREACHABLE') throw error;
    }
    await sleep(pause, undefined, { signal });
  }
}
