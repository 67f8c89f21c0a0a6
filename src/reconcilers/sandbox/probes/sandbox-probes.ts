// The probes of one sandbox and what they last said. They are this process's: another daemon begins them anew, with the readiness
// that the status tells of. At most one try of each is under way, and no other sandbox waits for it.
import type { SandboxProbe } from '../../../api/sandbox-probes.ts';
import type { ObservedProbe, ProbeKind } from '../observation.ts';
import { type ProbeEnvironment, ProbeWorker } from './worker.ts';

const NOTHING_YET: ObservedProbe = { message: '' };

export class SandboxProbes {
  readonly #workers = new Map<ProbeKind, { spec: string; worker: ProbeWorker }>();
  readonly #results = new Map<ProbeKind, ObservedProbe>();
  #adopted = false;

  result(kind: ProbeKind): ObservedProbe {
    return this.#results.get(kind) ?? NOTHING_YET;
  }

  /** The run is one of an earlier daemon, to which the sandbox was `ready` last. */
  adopt(ready: boolean): void {
    this.#adopted = true;
    if (ready) this.#results.set('readiness', { passed: true, message: '' });
  }

  /**
   * Sees to it that these probes and no others are under way. A changed one begins anew, and what it said last holds until it has
   * said something. `sinceUpMs`: how long the guest has been up. `random`: 0 to 1.
   */
  run(
    wanted: ReadonlyMap<ProbeKind, SandboxProbe>,
    environment: ProbeEnvironment,
    sinceUpMs: number,
    random: () => number,
  ): void {
    for (const [kind, { spec, worker }] of this.#workers) {
      const probe = wanted.get(kind);
      if (probe !== undefined && JSON.stringify(probe) === spec) continue;
      worker.stop();
      this.#workers.delete(kind);
    }
    for (const [kind, probe] of wanted) {
      if (this.#workers.has(kind)) continue;
      const { initialDelaySeconds = 0, periodSeconds = 0 } = probe;
      // A daemon that takes up thousands of sandboxes does not probe all of them in the same moment.
      const spreadMs = this.#adopted ? random() * periodSeconds * 1_000 : 0;
      const delayMs = Math.max(initialDelaySeconds * 1_000 - sinceUpMs, spreadMs);
      const worker = new ProbeWorker(
        kind,
        probe,
        {
          ...environment,
          changed: (which, result) => {
            this.#results.set(which, result);
            environment.changed(which, result);
          },
        },
        delayMs,
        this.result(kind),
      );
      this.#workers.set(kind, { spec: JSON.stringify(probe), worker });
    }
  }

  /** Ends them; what they said stays. */
  stop(): void {
    for (const { worker } of this.#workers.values()) worker.stop();
    this.#workers.clear();
  }

  /** A new run begins. */
  reset(): void {
    this.stop();
    this.#results.clear();
    this.#adopted = false;
  }
}
