// One probe of one sandbox: tries again and again, and counts.
import { randomBytes } from 'node:crypto';

import { asBulkheadError } from '../../../api/errors.ts';
import { PROBE_DEFAULTS, type SandboxProbe } from '../../../api/sandbox-probes.ts';
import { type Clock, sleep } from '../../../controller/clock.ts';
import { PROBE_PAUSE_MIN_MS } from '../limits.ts';
import type { ObservedProbe, ProbeKind } from '../observation.ts';
import { type ActionTarget, type Complaint, perform } from './actions.ts';

/** Begins the names of their sessions in the guest. */
const PROBE_SESSION_PREFIX = 'probe-';

/** What a probe needs of its sandbox. */
export interface ProbeEnvironment {
  readonly clock: Clock;
  /** The guest as it can be reached now; `undefined` while it cannot. */
  readonly target: () => ActionTarget | undefined;
  /** The host holds the VM where it stands: that it does not answer is no fault of its. */
  readonly stalled: () => boolean;
  /** Told of each try that failed, as the n-th in a row; 0 for one that could not be made at all. */
  readonly failed: (kind: ProbeKind, complaint: string, inARow: number) => void;
  /** The result is another one. */
  readonly changed: (kind: ProbeKind, result: ObservedProbe) => void;
}

export class ProbeWorker {
  readonly #kind: ProbeKind;
  readonly #probe: SandboxProbe;
  readonly #environment: ProbeEnvironment;
  readonly #stop = new AbortController();
  #passed: boolean | undefined;
  #row = { good: true, length: 0 };

  /** Begins after `delayMs`, with `former` as the result until there is one. */
  constructor(
    kind: ProbeKind,
    probe: SandboxProbe,
    environment: ProbeEnvironment,
    delayMs: number,
    former: ObservedProbe,
  ) {
    this.#kind = kind;
    this.#probe = probe;
    this.#environment = environment;
    this.#passed = former.passed;
    void this.#run(delayMs);
  }

  stop(): void {
    this.#stop.abort();
  }

  async #run(delayMs: number): Promise<void> {
    const { signal } = this.#stop;
    const { clock } = this.#environment;
    const periodMs = (this.#probe.periodSeconds ?? PROBE_DEFAULTS.periodSeconds) * 1_000;
    if (delayMs > 0) await sleep(clock, delayMs, signal);
    while (!signal.aborted) {
      const began = clock.monotonic();
      await this.#try();
      const spentMs = clock.monotonic() - began;
      await sleep(clock, Math.max(PROBE_PAUSE_MIN_MS, periodMs - spentMs), signal);
    }
  }

  async #try(): Promise<void> {
    const { clock, stalled, failed } = this.#environment;
    if (stalled()) return;
    const timeoutMs = (this.#probe.timeoutSeconds ?? PROBE_DEFAULTS.timeoutSeconds) * 1_000;
    const over = new AbortController();
    const { signal } = over;
    const end = (): void => over.abort();
    const cancel = clock.after(timeoutMs, end);
    this.#stop.signal.addEventListener('abort', end);
    try {
      const complaint = await Promise.race([this.#ask(signal), whenAborted(signal)]);
      if (this.#stop.signal.aborted || stalled()) return;
      this.#count(signal.aborted ? `timed out after ${timeoutMs / 1_000} s` : complaint);
    } catch (error) {
      // It says nothing of the sandbox: the result stays what it was.
      if (!this.#stop.signal.aborted) failed(this.#kind, asBulkheadError(error).message, 0);
    } finally {
      cancel();
      this.#stop.signal.removeEventListener('abort', end);
    }
  }

  #ask(signal: AbortSignal): Promise<Complaint> {
    const target = this.#environment.target();
    // It may come back within the time there is; to ask it then would be too late for this try.
    if (target === undefined) return whenAborted(signal);
    const session = `${PROBE_SESSION_PREFIX}${this.#kind}-${randomBytes(8).toString('hex')}`;
    return perform(target, this.#probe, session, signal);
  }

  #count(complaint: Complaint): void {
    const good = complaint === undefined;
    this.#row = good === this.#row.good ? { good, length: this.#row.length + 1 } : { good, length: 1 };
    const { length } = this.#row;
    if (!good) this.#environment.failed(this.#kind, complaint, length);
    const { successThreshold, failureThreshold } = { ...PROBE_DEFAULTS, ...this.#probe };
    if (length < (good ? successThreshold : failureThreshold) || this.#passed === good) return;
    this.#passed = good;
    const message = good ? '' : `The ${this.#kind} probe failed ${times(length)}: ${complaint}.`;
    this.#environment.changed(this.#kind, { passed: good, message });
  }
}

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times in a row`;
}

function whenAborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    else signal.addEventListener('abort', () => resolve(undefined), { once: true });
  });
}
