// The libkrun driver: microVMs on KVM. Every start is a cold boot.
import { access, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { BulkheadError } from '../../api/errors.ts';
import type { ProbeResult, StartStages, VmConfig, VmExit, VmHandle, VmmDriver } from '../driver.ts';
import { hostFailure } from '../ffi.ts';
import { removeVmLeftovers } from '../leftovers.ts';
import { LOCK_FILE } from '../records.ts';
import { StartQueue } from '../start-queue.ts';
import { stopwatch } from '../stopwatch.ts';
import { checkVmConfig, MIB } from '../vm-config.ts';
import { checkVmHost } from '../vm-host.ts';
import { abandonVm, releaseVm } from '../vm-launch.ts';
import { adoptVm, readLastExit, type VmProcess } from '../vm-process.ts';
import { findLibrary, hasKvmDevice, type LibkrunHost, type LibkrunOptions, openLibkrunHost } from './host.ts';
import { agentListening } from './listening.ts';
import { startKrunMachine } from './machine.ts';
import { KvmProbe } from './probe.ts';
import { runTrial, trialFingerprint, trialVms } from './trial.ts';
import { NO_DEVICE, noLibrary, type Verdict } from './verdict.ts';

/**
 * From the VMM's start until its guest's agent listens. A boot takes well below a second; a crowded host that is emulated
 * itself took half a minute. Below the reconciler's deadline for the whole start, so that its reason is the one told.
 */
const BOOT_DEADLINE_MS = 120_000;

/** Failures of a start that say nothing about KVM. */
const UNRELATED = new Set(['DISK_FULL', 'VM_ALREADY_RUNNING', 'INVALID', 'DRIVER_UNAVAILABLE']);

class LibkrunDriver implements VmmDriver {
  readonly name = 'libkrun';
  readonly #host: LibkrunHost;
  readonly #queue: StartQueue;
  readonly #probe: KvmProbe;

  constructor(host: LibkrunHost, options: LibkrunOptions) {
    this.#host = host;
    this.#queue = new StartQueue(options.maxConcurrentStarts ?? availableParallelism());
    this.#probe = new KvmProbe({
      path: join(host.stateDir, 'kvm.json'),
      precheck: () => precheck(host),
      fingerprint: trialFingerprint(host),
      trial: (signal) => this.#queue.run(() => runTrial(host, signal), signal),
      now: Date.now,
    });
  }

  probe(signal: AbortSignal): Promise<ProbeResult> {
    return this.#probe.result(signal);
  }

  async start(config: VmConfig, signal: AbortSignal): Promise<VmHandle> {
    checkVmConfig(config);
    const probe = await this.probe(signal);
    if (!probe.usable) throw new BulkheadError('DRIVER_UNAVAILABLE', probe.message);
    if (this.#host.library.lockIsHeld(join(config.dir, LOCK_FILE)))
      throw new BulkheadError('VM_ALREADY_RUNNING', `${config.dir} is locked by a running VM`);
    const queue = stopwatch();
    try {
      return await this.#queue.run(() => this.#boot(config, { queue: queue() }, signal), signal);
    } catch (error) {
      if (signal.aborted) throw error;
      const failure = hostFailure(error, `start of ${config.id}`);
      if (!UNRELATED.has(failure.code)) this.#probe.suspect();
      throw failure;
    }
  }

  /** Makes the upper disk where there is none, and removes it again on failure. */
  async #boot(config: VmConfig, stages: StartStages, signal: AbortSignal): Promise<VmProcess> {
    const { disks } = this.#host;
    const { id, dir, cpus, memoryBytes, image, upper } = config;
    const fresh = !(await exists(upper.path));
    try {
      const disk = stopwatch();
      if (fresh) await disks.create(upper.path, upper.sizeBytes);
      else await disks.grow(upper.path, upper.sizeBytes);
      stages.disk = disk();
      const spawn = stopwatch();
      const vm = await startKrunMachine(
        this.#host,
        {
          ...{ id, dir, cpus, memoryMib: memoryBytes / MIB, network: true },
          shares: config.shares ?? [],
          disks: { imagePath: image.path, upperPath: upper.path, volumes: config.volumes ?? [] },
        },
        signal,
      );
      stages.spawn = spawn();
      await this.#booted(vm, stages, signal);
      vm.stages = stages;
      this.#watch(vm);
      return vm;
    } catch (error) {
      if (fresh) await rm(upper.path, { force: true });
      throw error;
    }
  }

  async #booted(vm: VmProcess, stages: StartStages, signal: AbortSignal): Promise<void> {
    const kernel = stopwatch();
    try {
      await agentListening(vm, BOOT_DEADLINE_MS, signal);
    } catch (error) {
      await abandonVm(this.#host, vm, vm);
      throw error;
    }
    stages.kernel = kernel();
  }

  /** A VMM that fails by itself, other than by its memory limit, casts doubt on KVM. */
  #watch(vm: VmProcess): void {
    void vm.exited.then((exit) => {
      const vmmFailed = exit.kind === 'crashed' && exit.exitCode !== 0 && exit.oomKilled !== true;
      if (vmmFailed) this.#probe.suspect();
    });
  }

  async adopt(dir: string): Promise<VmHandle | undefined> {
    const vm = await adoptVm(this.#host, dir, this.name);
    if (vm !== undefined) this.#watch(vm);
    return vm;
  }

  async lastExit(dir: string): Promise<VmExit | undefined> {
    return readLastExit(dir);
  }

  async release(dir: string): Promise<void> {
    await releaseVm(this.#host, basename(dir));
  }

  async close(): Promise<void> {
    await this.#probe.close();
    await this.#host.watcher.close();
  }
}

/** What is plainly missing. */
async function precheck(host: LibkrunHost): Promise<Verdict | undefined> {
  if (!(await hasKvmDevice(host))) return NO_DEVICE;
  if ((await findLibrary(host)) === undefined) return noLibrary(host.libraries[0] ?? '');
  try {
    await checkVmHost(host, 'libkrun', [[host.vmm, 'run `make build`']]);
    return undefined;
  } catch (error) {
    return { fault: 'host', message: error instanceof Error ? error.message : String(error) };
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false;
    throw error;
  }
}

/** Opens the driver. It starts nothing and opens no /dev/kvm; `probe` tells whether the host can run it. */
export async function openLibkrunDriver(options: LibkrunOptions): Promise<VmmDriver> {
  const host = await openLibkrunHost(options);
  await removeVmLeftovers(host, trialVms(host), options.onWarning ?? (() => undefined));
  return new LibkrunDriver(host, options);
}
