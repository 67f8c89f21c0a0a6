// A guest's write that finds no room on the host makes QEMU pause the machine, for good: the write stays pending, nothing is
// lost, and somebody has to say `cont`. This watches a machine's monitor for it and says so until the machine goes on.
import { setTimeout as sleep } from 'node:timers/promises';
import { BulkheadError } from '../../api/errors.ts';
import type { VmStall } from '../driver.ts';
import type { QmpClient } from './qmp.ts';

/** Wait before the first `cont` and between the next ones: doubles up to the maximum, which bounds the wait once there is room. */
const RESUME_BASE_MS = 1_000;
const RESUME_MAX_MS = 15_000;
/** A machine that still has no room pauses again within this time after a `cont`; one that runs after it goes on. */
const SETTLE_MS = 1_000;
/** Pause after an event, so that a machine in the hands of its guest cannot keep the daemon busy with events. */
const EVENT_PAUSE_MS = 100;
/** Wait before the monitor is dialled again: doubles with each failure in a row. */
const REDIAL_BASE_MS = 1_000;
const REDIAL_MAX_MS = 60_000;

/** What the watch needs of a machine. */
export interface StallTarget {
  /** Its directory, for the message. */
  readonly dir: string;
  readonly exited: Promise<unknown>;
  setStall(stall: VmStall | undefined): void;
}

export interface StallWatchOptions {
  /** A session of the monitor; waits while another one is served. */
  connect(signal: AbortSignal): Promise<QmpClient>;
  /** Resolves after `ms`, rejects on abort. */
  pause?(ms: number, signal: AbortSignal): Promise<void>;
}

const pauseByTimer = (ms: number, signal: AbortSignal): Promise<void> => sleep(ms, undefined, { signal });

/** Watches from its making until the machine is gone or `close` is called. */
export class StallWatch {
  readonly #target: StallTarget;
  readonly #connect: StallWatchOptions['connect'];
  readonly #pause: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly #end = new AbortController();
  /** Resolves once it is known whether the machine stands still, or that its monitor does not tell. Never rejects. */
  readonly known: Promise<void>;
  /** Resolves when the watch is over and its connection closed. */
  readonly done: Promise<void>;
  #session: QmpClient | undefined;
  readonly #learnt = Promise.withResolvers<void>();

  /** `first`: a session that is open already, which the watch closes. */
  constructor(target: StallTarget, options: StallWatchOptions, first?: QmpClient) {
    this.#target = target;
    this.#connect = options.connect;
    this.#pause = options.pause ?? pauseByTimer;
    this.known = this.#learnt.promise;
    void target.exited.then(() => this.#end.abort());
    this.done = this.#run(first);
  }

  /** Something else to do with the session that is open. Fails with AGENT_UNREACHABLE while there is none. */
  async use(work: (qmp: QmpClient) => Promise<void>): Promise<void> {
    if (this.#session === undefined)
      throw new BulkheadError('AGENT_UNREACHABLE', 'The monitor of the VM does not answer now.');
    await work(this.#session);
  }

  async close(): Promise<void> {
    this.#end.abort();
    await this.done;
  }

  async #run(first: QmpClient | undefined): Promise<void> {
    const { signal } = this.#end;
    let qmp = first;
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        qmp ??= await this.#connect(signal);
        failures = 0;
        this.#session = qmp;
        await this.#watch(qmp, signal);
      } catch {
        // The monitor broke off: the machine is ending, or it is asked again.
      } finally {
        this.#learnt.resolve();
        this.#session = undefined;
        qmp?.close();
        qmp = undefined;
      }
      await this.#pause(Math.min(REDIAL_BASE_MS * 2 ** failures, REDIAL_MAX_MS), signal).catch(() => {});
    }
    this.#target.setStall(undefined);
  }

  /** Rejects when the session or the watch ends. */
  async #watch(qmp: QmpClient, signal: AbortSignal): Promise<never> {
    for (let attempt = 0; ; ) {
      const event = qmp.nextEvent();
      if (isStalled(await qmp.execute('query-status', {}, signal))) {
        this.#target.setStall({ code: 'DISK_FULL', message: stallMessage(this.#target.dir) });
        this.#learnt.resolve();
        await this.#pause(Math.min(RESUME_BASE_MS * 2 ** attempt++, RESUME_MAX_MS), signal);
        await qmp.execute('cont', {}, signal);
        await this.#pause(SETTLE_MS, signal);
      } else {
        attempt = 0;
        this.#target.setStall(undefined);
        this.#learnt.resolve();
        await untilAborted(event, signal);
        await this.#pause(EVENT_PAUSE_MS, signal);
      }
    }
  }
}

/** Resolves when lack of room has paused the machine. Rejects when the session or `signal` ends. */
export async function untilStalled(qmp: QmpClient, signal: AbortSignal): Promise<void> {
  for (;;) {
    const event = qmp.nextEvent();
    if (isStalled(await qmp.execute('query-status', {}, signal))) return;
    await untilAborted(event, signal);
    await pauseByTimer(EVENT_PAUSE_MS, signal);
  }
}

/** Only lack of room pauses a machine with this status: it is QEMU's answer to ENOSPC, other failures go to the guest. */
function isStalled(answer: unknown): boolean {
  return typeof answer === 'object' && answer !== null && 'status' in answer && answer.status === 'io-error';
}

function stallMessage(dir: string): string {
  return (
    `The host's file system that holds ${dir}, or one of its volumes, is full, so the VM is paused in the middle of a write; nothing of it is lost. ` +
    'Free space there, and it goes on by itself.'
  );
}

async function untilAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
