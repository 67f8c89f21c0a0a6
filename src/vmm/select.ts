// Which driver runs the VMs of this host, and why.
import { BulkheadError } from '../api/errors.ts';
import type { VmmDriver } from './driver.ts';
import { openSoftwareDriver } from './software/driver.ts';
import type { SoftwareOptions } from './software/host.ts';

/** `spec.driver` of the daemon's configuration. */
export type DriverChoice = 'Auto' | 'Libkrun' | 'Software';

export interface SelectedDriver {
  driver: VmmDriver;
  /** One sentence for `doctor`, events and `status.vm.driver`. */
  reason: string;
}

const LIBKRUN_ABSENT = 'This build has no libkrun driver.';

/** Opens and probes the driver. DRIVER_UNAVAILABLE with the probe's message when it cannot be used. */
export async function selectDriver(
  choice: DriverChoice,
  options: SoftwareOptions,
  signal: AbortSignal,
): Promise<SelectedDriver> {
  if (choice === 'Libkrun') throw new BulkheadError('DRIVER_UNAVAILABLE', LIBKRUN_ABSENT);
  const driver = await openSoftwareDriver(options);
  const probe = await driver.probe(signal);
  if (!probe.usable) {
    await driver.close();
    throw new BulkheadError('DRIVER_UNAVAILABLE', probe.message);
  }
  const why = choice === 'Auto' ? LIBKRUN_ABSENT : 'It was asked for.';
  return { driver, reason: `software: ${why} ${probe.message}` };
}
