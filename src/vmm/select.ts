// Which driver runs the VMs of this host, and why.
import { BulkheadError } from '../api/errors.ts';
import type { DefaultedSandboxSpec } from '../api/sandbox.ts';
import type { ProbeResult, VmmDriver } from './driver.ts';

/** `spec.driver` of a Sandbox. */
export type DriverChoice = DefaultedSandboxSpec['driver'];

export interface SelectedDriver {
  driver: VmmDriver;
  /** One sentence for `doctor`, events and the status. */
  reason: string;
}

/** The drivers of this host. `libkrun` is absent where this build has none. */
export interface HostDriverSet {
  libkrun?: VmmDriver;
  software: VmmDriver;
}

const LIBKRUN_ABSENT = 'This build has no libkrun driver.';

/** Chooses among the drivers that this build has: libkrun where it can be used, else the software driver. */
export class HostDrivers {
  /** All that this host knows, usable or not. */
  readonly all: readonly VmmDriver[];
  readonly #drivers: HostDriverSet;

  constructor(drivers: HostDriverSet) {
    this.#drivers = drivers;
    this.all = drivers.libkrun === undefined ? [drivers.software] : [drivers.libkrun, drivers.software];
  }

  /** Rejects with DRIVER_UNAVAILABLE and the probe's message when what is wanted cannot be used. */
  async select(wanted: DriverChoice, signal: AbortSignal): Promise<SelectedDriver> {
    const asked = 'The spec asks for it.';
    if (wanted === 'Software') return this.#use(this.#drivers.software, asked, signal);
    const { libkrun, software } = this.#drivers;
    const probe = await libkrun?.probe(signal);
    if (libkrun !== undefined && probe?.usable === true)
      return { driver: libkrun, reason: wanted === 'Auto' ? probe.message : `${asked} ${probe.message}` };
    const missing = probe?.message ?? LIBKRUN_ABSENT;
    if (wanted === 'Libkrun')
      throw new BulkheadError('DRIVER_UNAVAILABLE', `${missing} Use driver Software or Auto.`);
    return this.#use(software, missing, signal);
  }

  /** The answer for a spec that leaves the choice to the host. */
  async probe(signal: AbortSignal): Promise<ProbeResult> {
    let result: ProbeResult = { usable: false, message: LIBKRUN_ABSENT };
    for (const driver of this.all) {
      result = await driver.probe(signal);
      if (result.usable) break;
    }
    return result;
  }

  async close(): Promise<void> {
    for (const driver of this.all) await driver.close();
  }

  async #use(driver: VmmDriver, why: string, signal: AbortSignal): Promise<SelectedDriver> {
    const probe = await driver.probe(signal);
    if (!probe.usable) throw new BulkheadError('DRIVER_UNAVAILABLE', probe.message);
    return { driver, reason: `${why} ${probe.message}` };
  }
}
