// Whether libkrun works on this host: that /dev/kvm can be opened proves nothing, a guest that answers does. The verdict of
// a trial is kept on disk for as long as nothing that it rests on changes.
import { readFile } from 'node:fs/promises';
import { writeFileAtomic } from '../atomic-file.ts';
import type { ProbeResult } from '../driver.ts';
import { judgeTrial, type TrialOutcome, type Verdict } from './verdict.ts';

/** A verdict against the host is tried again after this long: what stood against it may have been a crowded hour. */
const AGAINST_LASTS_MS = 3_600_000;
/** Starts that fail cost at most one trial in this time. */
const RECHECK_MIN_MS = 60_000;
const VERDICT_VERSION = 1;

export interface KvmProbeOptions {
  /** Where the verdict is kept. */
  path: string;
  /** What is plainly missing, without running anything; `undefined` when a trial makes sense. */
  precheck: () => Promise<Verdict | undefined>;
  /** Identity of all that a verdict rests on: boot of the host, kernel, initramfs, libkrun, VMM. */
  fingerprint: () => Promise<string>;
  /** Boots a VM that does nothing. Never rejects but on abort. */
  trial: (signal: AbortSignal) => Promise<TrialOutcome>;
  /** Wall clock, milliseconds. */
  now: () => number;
}

interface StoredVerdict extends Verdict {
  fingerprint: string;
  checkedAtMs: number;
}

export class KvmProbe {
  readonly #options: KvmProbeOptions;
  readonly #closing = new AbortController();
  #running: Promise<Verdict> | undefined;
  #suspectedAtMs: number | undefined;

  constructor(options: KvmProbeOptions) {
    this.#options = options;
  }

  /** An abort ends the waiting, not the trial, which others may wait for. */
  async result(signal: AbortSignal): Promise<ProbeResult> {
    signal.throwIfAborted();
    this.#running ??= this.#decide().finally(() => {
      this.#running = undefined;
    });
    const { fault, message, version } = await raceAbort(this.#running, signal);
    return { usable: fault === undefined, message, ...(version === undefined ? {} : { version }) };
  }

  /** A VM failed in a way that casts doubt on a verdict in favour of the host: the next `result` tries anew. */
  suspect(): void {
    this.#suspectedAtMs = this.#options.now();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running?.catch(() => undefined);
  }

  async #decide(): Promise<Verdict> {
    const { precheck, fingerprint, trial, now, path } = this.#options;
    const missing = await precheck();
    if (missing !== undefined) return missing;
    const identity = await fingerprint();
    const known = await readVerdict(path);
    if (known !== undefined && known.fingerprint === identity && this.#stillHolds(known)) return known;
    const verdict = judgeTrial(await trial(this.#closing.signal));
    const stored: StoredVerdict = { ...verdict, fingerprint: identity, checkedAtMs: now() };
    await writeFileAtomic(path, JSON.stringify({ version: VERDICT_VERSION, verdict: stored }));
    this.#suspectedAtMs = undefined;
    return verdict;
  }

  #stillHolds(known: StoredVerdict): boolean {
    const age = this.#options.now() - known.checkedAtMs;
    if (age < 0) return false; // the clock was set back: when it was made is not known
    if (known.fault !== undefined) return age < AGAINST_LASTS_MS;
    return this.#suspectedAtMs === undefined || age < RECHECK_MIN_MS;
  }
}

async function readVerdict(path: string): Promise<StoredVerdict | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(path, 'utf8'));
    if (typeof value !== 'object' || value === null) return undefined;
    const { version, verdict }: Record<string, unknown> = { ...value };
    if (version !== VERDICT_VERSION || typeof verdict !== 'object' || verdict === null) return undefined;
    const fields: Record<string, unknown> = { ...verdict };
    const { fingerprint, checkedAtMs, message, fault } = fields;
    if (typeof fingerprint !== 'string' || typeof checkedAtMs !== 'number' || typeof message !== 'string')
      return undefined;
    const against = judgedAgainst(fault);
    if (fault !== undefined && against === undefined) return undefined;
    return {
      ...{ fingerprint, checkedAtMs, message },
      ...(against === undefined ? {} : { fault: against }),
      ...(typeof fields.version === 'string' ? { version: fields.version } : {}),
    };
  } catch {
    return undefined; // none yet, or torn: tried anew
  }
}

/** Faults that a trial finds; the others are looked for each time. */
const TRIAL_FAULTS = [
  'old-library',
  'no-permission',
  'vmm-failed',
  'guest-died',
  'no-hello',
  'host',
] as const;

function judgedAgainst(fault: unknown): (typeof TRIAL_FAULTS)[number] | undefined {
  return TRIAL_FAULTS.find((known) => known === fault);
}

async function raceAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
