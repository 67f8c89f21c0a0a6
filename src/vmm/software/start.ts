// The two ways a sandbox's machine comes to life.

import { closeSync, openSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { StartStages, VmConfig } from '../driver.ts';
import { stopwatch } from '../stopwatch.ts';
import { releaseVm } from '../vm-launch.ts';
import { volumeDrive } from './command-line.ts';
import type { SoftwareHost } from './host.ts';
import { type Machine, type MachineSpec, startMachine } from './machine.ts';
import { resizeDisk, restoreState } from './migration.ts';
import type { TemplateSpec } from './template-key.ts';
import type { TemplateLease } from './templates.ts';

/** QEMU's name of the upper disk. */
const UPPER_DEVICE = 'upper';

function machineSpec(config: VmConfig): Omit<MachineSpec, 'memory'> {
  return {
    ...{ id: config.id, dir: config.dir, cpus: config.cpus, memoryBytes: config.memoryBytes },
    ...{ imagePath: config.image.path, upperPath: config.upper.path },
    volumes: config.volumes ?? [],
    shares: config.shares ?? [],
  };
}

/** Boots. Makes the upper disk when `fresh`, and removes it again on failure. The monitor's session is the caller's to close. */
export async function coldStart(
  host: SoftwareHost,
  config: VmConfig,
  how: { fresh: boolean; coldReason?: string },
  signal: AbortSignal,
): Promise<Machine> {
  const stages: StartStages = {};
  try {
    if (how.fresh) {
      const disk = stopwatch();
      await host.disks.create(config.upper.path, config.upper.sizeBytes);
      stages.disk = disk();
    } else {
      await host.disks.grow(config.upper.path, config.upper.sizeBytes);
    }
    const spawn = stopwatch();
    const { coldReason } = how;
    const machine = await startMachine(
      host,
      {
        ...machineSpec(config),
        memory: { kind: (config.shares ?? []).length > 0 ? 'shared' : 'private' },
        ...(coldReason === undefined ? {} : { coldReason }),
      },
      signal,
    );
    stages.spawn = spawn();
    machine.vm.stages = stages;
    return machine;
  } catch (error) {
    if (how.fresh) await rm(config.upper.path, { force: true });
    throw error;
  }
}

/**
 * Restores the template. On failure nothing of the try is left, so that a cold start may follow. The monitor's session is
 * the caller's to close.
 */
export async function warmStart(
  host: SoftwareHost,
  config: VmConfig,
  template: { lease: TemplateLease; spec: TemplateSpec },
  signal: AbortSignal,
): Promise<Machine> {
  const { lease, spec } = template;
  const stages: StartStages = {};
  const fresh = spec.kind === 'image';
  let upperBytes = config.upper.sizeBytes;
  let machine: Machine | undefined;
  const stateFd = openSync(lease.statePath, 'r');
  try {
    if (fresh) {
      const disk = stopwatch();
      await host.disks.copy(lease.upperPath, config.upper.path);
      stages.disk = disk();
    } else {
      upperBytes = await host.disks.grow(config.upper.path, config.upper.sizeBytes);
    }
    const spawn = stopwatch();
    machine = await startMachine(
      host,
      { ...machineSpec(config), memory: { kind: 'clone', fd: lease.ramFd }, stateFd },
      signal,
    );
    stages.spawn = spawn();
    const restore = stopwatch();
    await restoreState(machine.qmp, machine.stateNumber ?? -1, signal);
    if (!fresh) await resizeDisk(machine.qmp, UPPER_DEVICE, upperBytes, signal);
    // Disks that are only read cannot be resized: their guest finds the true size in the file system.
    for (const [index, { readOnly, sizeBytes }] of (config.volumes ?? []).entries())
      if (!readOnly) await resizeDisk(machine.qmp, volumeDrive(index), sizeBytes, signal);
    stages.restore = restore();
    machine.vm.stages = stages;
    return machine;
  } catch (error) {
    machine?.qmp.close();
    await machine?.vm.kill();
    if (machine) await releaseVm(host, config.id);
    if (fresh) await rm(config.upper.path, { force: true });
    throw error;
  } finally {
    closeSync(stateFd);
  }
}
