// Which driver runs a sandbox on this host, and why.
import { BulkheadError } from '../api/errors.ts';
import type { DriverSelector } from '../reconcilers/sandbox/dependencies.ts';
import type { ProbeResult, VmmDriver } from '../vmm/driver.ts';

type Wanted = Parameters<DriverSelector['select']>[0];

const NO_LIBKRUN = 'This release has no libkrun driver.';

/** Chooses among the drivers that this build has: one that can be used, or a sentence that says what is missing. */
export class HostDrivers implements DriverSelector {
  readonly all: readonly VmmDriver[];
  readonly #software: VmmDriver;

  constructor(software: VmmDriver) {
    this.#software = software;
    this.all = [software];
  }

  async select(wanted: Wanted, signal: AbortSignal): Promise<{ driver: VmmDriver; reason: string }> {
    if (wanted === 'Libkrun') {
      throw new BulkheadError('DRIVER_UNAVAILABLE', `${NO_LIBKRUN} Use driver Software or Auto.`);
    }
    const probe = await this.probe(signal);
    if (!probe.usable) throw new BulkheadError('DRIVER_UNAVAILABLE', probe.message);
    const why = wanted === 'Auto' ? NO_LIBKRUN : 'The spec asks for it.';
    return { driver: this.#software, reason: `${why} ${probe.message}` };
  }

  probe(signal: AbortSignal): Promise<ProbeResult> {
    return this.#software.probe(signal);
  }

  async close(): Promise<void> {
    await this.#software.close();
  }
}
