// The software driver: QEMU's microvm without KVM. It runs on any machine.
import { access } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { BulkheadError } from '../../api/errors.ts';
import type { ProbeResult, VmConfig, VmExit, VmHandle, VmmDriver } from '../driver.ts';
import { hostFailure } from '../ffi.ts';
import { LOCK_FILE } from '../records.ts';
import { StartQueue } from '../start-queue.ts';
import { adoptVm, readLastExit, type VmProcess } from '../vm-process.ts';
import { checkHost, openSoftwareHost, type SoftwareHost, type SoftwareOptions } from './host.ts';
import { removeLeftovers } from './leftovers.ts';
import { releaseMachine } from './machine.ts';
import { coldStart, warmStart } from './start.ts';
import { prepareGuest } from './template-guest.ts';
import type { TemplateSpec } from './template-key.ts';
import { Templates } from './templates.ts';

const MIB = 1024 * 1024;
const MAX_CPUS = 32;
/** The kernel and the agent need about 40 MiB. */
const MIN_MEMORY_BYTES = 64 * MIB;

class SoftwareDriver implements VmmDriver {
  readonly name = 'software';
  readonly #host: SoftwareHost;
  readonly #queue: StartQueue;
  readonly #templates: Templates;
  readonly #warn: (message: string) => void;
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
    validate(config);
    const probe = await this.probe(signal);
    if (!probe.usable) throw new BulkheadError('DRIVER_UNAVAILABLE', probe.message);
    if (this.#host.library.lockIsHeld(join(config.dir, LOCK_FILE)))
      throw new BulkheadError('VM_ALREADY_RUNNING', `${config.dir} is locked by a running VM`);
    try {
      return await this.#start(config, signal);
    } catch (error) {
      if (signal.aborted) throw error;
      throw hostFailure(error, `start of ${config.id}`);
    }
  }

  async #start(config: VmConfig, signal: AbortSignal): Promise<VmProcess> {
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

  async #warm(config: VmConfig, fresh: boolean, signal: AbortSignal): Promise<VmProcess> {
    const { cpus, memoryBytes, image, upper } = config;
    const spec: TemplateSpec = fresh
      ? { kind: 'image', cpus, memoryBytes, image, upperSizeBytes: upper.sizeBytes }
      : { kind: 'generic', cpus, memoryBytes };
    const waited = performance.now();
    const lease = await this.#templates.lease(spec, signal);
    const templateMs = Math.round((performance.now() - waited) * 10) / 10;
    try {
      const vm = await this.#queue.run(() => warmStart(this.#host, config, { lease, spec }, signal), signal);
      vm.stages = { template: templateMs, ...vm.stages };
      return vm;
    } catch (error) {
      const { code, message } = hostFailure(error, 'restore');
      if (!signal.aborted && code !== 'DISK_FULL' && code !== 'VM_ALREADY_RUNNING')
        await this.#templates.drop(lease.key, message);
      throw error;
    } finally {
      lease.release();
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

/**
 * Opens the driver. It starts nothing, and ends what a killed predecessor left that nobody can adopt; `probe` tells
 * whether the host can run it.
 */
export async function openSoftwareDriver(options: SoftwareOptions): Promise<VmmDriver> {
  const host = await openSoftwareHost(options);
  await removeLeftovers(host, options.onWarning ?? (() => undefined));
  return new SoftwareDriver(host, options);
}
