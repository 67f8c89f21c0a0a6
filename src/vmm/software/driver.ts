// The software driver: QEMU's microvm without KVM. It runs on any machine.
import { mkdir, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { BulkheadError } from '../../api/errors.ts';
import type { ProbeResult, StartStages, VmConfig, VmExit, VmHandle, VmmDriver } from '../driver.ts';
import { hostFailure } from '../ffi.ts';
import { LOCK_FILE } from '../records.ts';
import { StartQueue } from '../start-queue.ts';
import { adoptVm, readLastExit, type VmProcess } from '../vm-process.ts';
import { checkHost, openSoftwareHost, type SoftwareHost, type SoftwareOptions } from './host.ts';
import { releaseMachine, startMachine } from './machine.ts';

const MIB = 1024 * 1024;
const MAX_CPUS = 32;
/** The kernel and the agent need about 40 MiB. */
const MIN_MEMORY_BYTES = 64 * MIB;

class SoftwareDriver implements VmmDriver {
  readonly name = 'software';
  readonly #host: SoftwareHost;
  readonly #queue: StartQueue;
  #probe: Promise<ProbeResult> | undefined;

  constructor(host: SoftwareHost, options: SoftwareOptions) {
    this.#host = host;
    this.#queue = new StartQueue(options.maxConcurrentStarts ?? availableParallelism());
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
    validate(config);
    const probe = await this.probe(signal);
    if (!probe.usable) throw new BulkheadError('DRIVER_UNAVAILABLE', probe.message);
    if (this.#host.library.lockIsHeld(join(config.dir, LOCK_FILE)))
      throw new BulkheadError('VM_ALREADY_RUNNING', `${config.dir} is locked by a running VM`);
    try {
      return await this.#queue.run(() => this.#boot(config, signal), signal);
    } catch (error) {
      if (signal.aborted) throw error;
      throw hostFailure(error, `start of ${config.id}`);
    }
  }

  async #boot(config: VmConfig, signal: AbortSignal): Promise<VmProcess> {
    const stages: StartStages = {};
    const disk = stopwatch();
    const madeUpper = await this.#ensureUpper(config);
    if (madeUpper) stages.disk = disk();
    const spawn = stopwatch();
    try {
      const { vm, qmp } = await startMachine(
        this.#host,
        {
          ...{ id: config.id, dir: config.dir, cpus: config.cpus, memoryBytes: config.memoryBytes },
          ...{ imagePath: config.image.path, upperPath: config.upper.path, memory: { kind: 'private' } },
        },
        signal,
      );
      qmp.close();
      stages.spawn = spawn();
      vm.stages = stages;
      return vm;
    } catch (error) {
      if (madeUpper) await rm(config.upper.path, { force: true });
      throw error;
    }
  }

  /** True when it was made now. */
  async #ensureUpper(config: VmConfig): Promise<boolean> {
    try {
      await this.#host.disks.create(config.upper.path, config.upper.sizeBytes);
      return true;
    } catch (error) {
      const cause = error instanceof Error ? error.cause : undefined;
      if (cause instanceof Error && 'code' in cause && cause.code === 'EEXIST') return false;
      throw error;
    }
  }

  async adopt(dir: string): Promise<VmHandle | undefined> {
    return adoptVm(this.#host, dir);
  }

  async lastExit(dir: string): Promise<VmExit | undefined> {
    return readLastExit(dir);
  }

  async release(dir: string): Promise<void> {
    await releaseMachine(this.#host, basename(dir));
  }

  async close(): Promise<void> {
    await this.#host.cgroups.removeParents();
    await this.#host.watcher.close();
  }
}

function stopwatch(): () => number {
  const start = performance.now();
  return () => Math.round((performance.now() - start) * 10) / 10;
}

function validate(config: VmConfig): void {
  const invalid = (message: string) => new BulkheadError('INVALID', message);
  if (!Number.isInteger(config.cpus) || config.cpus < 1 || config.cpus > MAX_CPUS)
    throw invalid(`${config.cpus} vCPUs are not possible: 1 to ${MAX_CPUS}`);
  if (!Number.isSafeInteger(config.memoryBytes) || config.memoryBytes % MIB !== 0)
    throw invalid('memory must be whole MiB');
  if (config.memoryBytes < MIN_MEMORY_BYTES)
    throw invalid(
      `${config.memoryBytes / MIB} MiB of memory are too little: at least ${MIN_MEMORY_BYTES / MIB}`,
    );
  if (!/^[A-Za-z0-9-]{1,63}$/.test(config.id) || basename(config.dir) !== config.id)
    throw invalid(`the directory of VM ${config.id} must carry its id`);
}

/** Opens the driver. It starts nothing; `probe` tells whether the host can run it. */
export async function openSoftwareDriver(options: SoftwareOptions): Promise<VmmDriver> {
  await mkdir(options.stateDir, { recursive: true, mode: 0o700 });
  return new SoftwareDriver(await openSoftwareHost(options), options);
}
