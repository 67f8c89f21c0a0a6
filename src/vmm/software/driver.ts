// The software driver: QEMU's microvm without KVM. It runs on any machine.
import { access } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BulkheadError } from '../../api/errors.ts';
import type { ProbeResult, VmConfig, VmExit, VmHandle, VmmDriver } from '../driver.ts';
import { hostFailure } from '../ffi.ts';
import { LOCK_FILE } from '../records.ts';
import { StartQueue } from '../start-queue.ts';
import { checkVmConfig } from '../vm-config.ts';
import { releaseVm } from '../vm-launch.ts';
import { adoptVm, readLastExit, type VmProcess } from '../vm-process.ts';
import { volumeDrive } from './command-line.ts';
import { checkHost, openSoftwareHost, type SoftwareHost, type SoftwareOptions } from './host.ts';
import { removeLeftovers } from './leftovers.ts';
import { connectMonitor, type Machine } from './machine.ts';
import { resizeDisk, resumeRestore } from './migration.ts';
import type { QmpClient } from './qmp.ts';
import { StallWatch } from './stall-watch.ts';
import { coldStart, warmStart } from './start.ts';
import { prepareGuest } from './template-guest.ts';
import type { TemplateSpec } from './template-key.ts';
import { type TemplateLease, Templates } from './templates.ts';

/**
 * An adopted VM is asked whether it stands still before it is handed out, so that it does not look well for a moment. QEMU
 * answers within milliseconds; one that does not is watched on, but not waited for.
 */
const ADOPT_WAIT_MS = 2_000;

/** A restore takes 10 ms, and QEMU's answers as long; on a crowded host seconds. */
const RESUME_TIMEOUT_MS = 30_000;

class SoftwareDriver implements VmmDriver {
  readonly name = 'software';
  readonly #host: SoftwareHost;
  readonly #queue: StartQueue;
  readonly #templates: Templates;
  readonly #warn: (message: string) => void;
  readonly #watches = new Set<StallWatch>();
  #probe: Promise<ProbeResult> | undefined;

  constructor(host: SoftwareHost, options: SoftwareOptions) {
    this.#host = host;
    this.#warn = options.onWarning ?? (() => undefined);
    this.#queue = new StartQueue(options.maxConcurrentStarts ?? availableParallelism());
    this.#templates = new Templates(host, {
      prepare: prepareGuest,
      queue: this.#queue,
      ...(options.maxTemplateBytes === undefined ? {} : { maxBytes: options.maxTemplateBytes }),
      warn: this.#warn,
    });
  }

  async probe(signal: AbortSignal): Promise<ProbeResult> {
    signal.throwIfAborted();
    this.#probe ??= this.#check();
    const result = await this.#probe;
    if (!result.usable) this.#probe = undefined; // what was missing may be installed meanwhile
    return result;
  }

  async #check(): Promise<ProbeResult> {
    try {
      const version = await checkHost(this.#host);
      return {
        usable: true,
        version,
        message: `QEMU ${version} without hardware acceleration; ${this.#host.cgroups.describe()}.`,
      };
    } catch (error) {
      return { usable: false, message: error instanceof Error ? error.message : String(error) };
    }
  }

  async start(config: VmConfig, signal: AbortSignal): Promise<VmHandle> {
    checkVmConfig(config);
    const probe = await this.probe(signal);
    if (!probe.usable) throw new BulkheadError('DRIVER_UNAVAILABLE', probe.message);
    if (this.#host.library.lockIsHeld(join(config.dir, LOCK_FILE)))
      throw new BulkheadError('VM_ALREADY_RUNNING', `${config.dir} is locked by a running VM`);
    try {
      const { vm, qmp } = await this.#start(config, signal);
      this.#watch(vm, qmp);
      return vm;
    } catch (error) {
      if (signal.aborted) throw error;
      throw hostFailure(error, `start of ${config.id}`);
    }
  }

  async #start(config: VmConfig, signal: AbortSignal): Promise<Machine> {
    const fresh = !(await exists(config.upper.path));
    const cold = (coldReason?: string) =>
      this.#queue.run(
        () =>
          coldStart(
            this.#host,
            config,
            { fresh, ...(coldReason === undefined ? {} : { coldReason }) },
            signal,
          ),
        signal,
      );
    if (config.coldBoot) return cold();
    // A file server needs the guest's memory to be shared, which that of a template cannot be; and QEMU saves no such device.
    if ((config.shares ?? []).length > 0)
      return cold('directories of the host are served from a cold boot only');
    try {
      return await this.#warm(config, fresh, signal);
    } catch (error) {
      const failure = hostFailure(error, 'restore of a template');
      // What a cold boot cannot mend either.
      if (signal.aborted || failure.code === 'DISK_FULL' || failure.code === 'VM_ALREADY_RUNNING')
        throw failure;
      this.#warn(`${config.id} boots cold: ${failure.message}`);
      return cold(failure.message);
    }
  }

  async #warm(config: VmConfig, fresh: boolean, signal: AbortSignal): Promise<Machine> {
    const { cpus, memoryBytes, image, upper, volumes = [] } = config;
    const spec: TemplateSpec = fresh
      ? { kind: 'image', cpus, memoryBytes, image, upperSizeBytes: upper.sizeBytes, volumes }
      : { kind: 'generic', cpus, memoryBytes, volumes };
    const waited = performance.now();
    const lease = await this.#lease(spec, signal);
    const templateMs = Math.round((performance.now() - waited) * 10) / 10;
    try {
      const machine = await this.#queue.run(
        () => warmStart(this.#host, config, { lease, spec }, signal),
        signal,
      );
      machine.vm.stages = { template: templateMs, ...machine.vm.stages };
      return machine;
    } catch (error) {
      const { code, message } = hostFailure(error, 'restore');
      if (!signal.aborted && code !== 'DISK_FULL' && code !== 'VM_ALREADY_RUNNING')
        await this.#templates.drop(lease.key, message);
      throw error;
    } finally {
      lease.release();
    }
  }

  /** What a template lacks room for is its own matter: a cold boot takes less. */
  async #lease(spec: TemplateSpec, signal: AbortSignal): Promise<TemplateLease> {
    try {
      return await this.#templates.lease(spec, signal);
    } catch (error) {
      const { code, message } = hostFailure(error, 'template');
      if (signal.aborted || code !== 'DISK_FULL') throw error;
      throw new BulkheadError('VM_START_FAILED', message, { cause: error });
    }
  }

  async adopt(dir: string): Promise<VmHandle | undefined> {
    const vm = await adoptVm(this.#host, dir, this.name);
    if (vm) {
      const { known } = this.#watch(vm, await this.#resume(vm));
      await Promise.race([known, sleep(ADOPT_WAIT_MS, undefined, { ref: false })]);
    }
    return vm;
  }

  /** A daemon that was killed in the middle of a restore leaves a machine that waits for the rest of it, for ever. */
  async #resume(vm: VmProcess): Promise<QmpClient | undefined> {
    const { stateNumber } = vm;
    if (stateNumber === undefined) return undefined;
    let qmp: QmpClient | undefined;
    try {
      const signal = AbortSignal.timeout(RESUME_TIMEOUT_MS);
      qmp = await connectMonitor(this.#host, vm.dir, signal);
      await resumeRestore(qmp, stateNumber, signal);
      return qmp;
    } catch (error) {
      // It ends as a machine that does not come up.
      this.#warn(`${vm.id}: its restore cannot go on: ${error instanceof Error ? error.message : error}`);
      qmp?.close();
      return undefined;
    }
  }

  #watch(vm: VmProcess, session?: QmpClient): StallWatch {
    const connect = (signal: AbortSignal) => connectMonitor(this.#host, vm.dir, signal);
    const watch = new StallWatch(vm, { connect }, session);
    vm.growVolume = (index, sizeBytes, signal) =>
      watch.use((qmp) => resizeDisk(qmp, volumeDrive(index), sizeBytes, signal));
    this.#watches.add(watch);
    void watch.done.then(() => this.#watches.delete(watch));
    return watch;
  }

  async lastExit(dir: string): Promise<VmExit | undefined> {
    return readLastExit(dir);
  }

  async release(dir: string): Promise<void> {
    await releaseVm(this.#host, basename(dir));
  }

  async close(): Promise<void> {
    await Promise.all([...this.#watches].map((watch) => watch.close()));
    await this.#templates.close();
    await this.#host.watcher.close();
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

/**
 * Opens the driver. It starts nothing, and ends what a killed predecessor left that nobody can adopt; `probe` tells
 * whether the host can run it.
 */
export async function openSoftwareDriver(options: SoftwareOptions): Promise<VmmDriver> {
  const host = await openSoftwareHost(options);
  await removeLeftovers(host, options.onWarning ?? (() => undefined));
  return new SoftwareDriver(host, options);
}
