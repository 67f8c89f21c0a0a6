// Which driver runs the VMs of this host, and why.
import { BulkheadError } from '../api/errors.ts';
import type { DefaultedSandboxSpec } from '../api/sandbox.ts';
import type { ProbeResult, VmmDriver } from './driver.ts';

/** `spec.driver` of a Sandbox. */
export type DriverChoice = DefaultedSandboxSpec['driver'];

/** What the daemon was told to use: `auto` leaves it to the host and the specs, the others allow one driver alone. */
export type AllowedDrivers = 'auto' | 'libkrun' | 'software';

export interface SelectedDriver {
  driver: VmmDriver;
  /** One sentence for `doctor`, events and the status. */
  reason: string;
}

export interface HostDriverSet {
  libkrun: VmmDriver;
  software: VmmDriver;
}

/** Chooses: libkrun where it can be used, else the software driver. A driver that is not allowed is not even probed. */
export class HostDrivers {
  /** All that this host knows, usable and allowed or not: a VM of an earlier daemon may run under any. */
  readonly all: readonly VmmDriver[];
  readonly #drivers: HostDriverSet;
  readonly #allowed: AllowedDrivers;

  constructor(drivers: HostDriverSet, allowed: AllowedDrivers) {
    this.#drivers = drivers;
    this.#allowed = allowed;
    this.all = [drivers.libkrun, drivers.software];
  }

  /** Rejects with DRIVER_UNAVAILABLE and the reason when what is wanted cannot be used. */
  async select(wanted: DriverChoice, signal: AbortSignal): Promise<SelectedDriver> {
    const { libkrun, software } = this.#drivers;
    if (wanted === 'Auto') return this.#auto(signal);
    const driver = wanted === 'Libkrun' ? libkrun : software;
    if (this.#allowed !== 'auto' && this.#allowed !== driver.name)
      throw new BulkheadError(
        'DRIVER_UNAVAILABLE',
        `The spec asks for driver ${wanted}, but the daemon runs with --driver ${this.#allowed}.`,
      );
    const probe = await driver.probe(signal);
    if (!probe.usable)
      throw new BulkheadError(
        'DRIVER_UNAVAILABLE',
        driver === libkrun ? `${probe.message} Or use driver Software or Auto.` : probe.message,
      );
    return { driver, reason: `The spec asks for it. ${probe.message}` };
  }

  /** The answer for a spec that leaves the choice to the host. */
  async probe(signal: AbortSignal): Promise<ProbeResult> {
    try {
      const { driver, reason } = await this.#auto(signal);
      return { usable: true, message: `${driver.name}: ${reason}` };
    } catch (error) {
      if (error instanceof BulkheadError) return { usable: false, message: error.message };
      throw error;
    }
  }

  async close(): Promise<void> {
    for (const driver of this.all) await driver.close();
  }

  async #auto(signal: AbortSignal): Promise<SelectedDriver> {
    const { libkrun, software } = this.#drivers;
    let why = 'The daemon runs with --driver software.';
    if (this.#allowed !== 'software') {
      const probe = await libkrun.probe(signal);
      if (probe.usable) return { driver: libkrun, reason: probe.message };
      if (this.#allowed === 'libkrun') throw new BulkheadError('DRIVER_UNAVAILABLE', probe.message);
      why = probe.message;
    }
    const probe = await software.probe(signal);
    if (!probe.usable) throw new BulkheadError('DRIVER_UNAVAILABLE', `${why} ${probe.message}`);
    return { driver: software, reason: `${why} ${probe.message}` };
  }
}
