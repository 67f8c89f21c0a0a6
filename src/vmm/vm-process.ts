// A VM on this host, whoever started it: exit, agent port, figures, kill. The same for every driver.
import { closeSync } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { BulkheadError } from '../api/errors.ts';
import type { VmFigures } from '../api/wire.ts';
import { dial } from './dial.ts';
import type { DriverName, StartStages, VmExit, VmHandle, VmStall } from './driver.ts';
import type { ExitWatcher } from './exit-watcher.ts';
import { decodeExit } from './exits.ts';
import { HostError, type HostLibrary } from './ffi.ts';
import {
  AGENT_SOCKET,
  AGENT_SOCKET_IN_JAIL,
  CONSOLE_LOG,
  LOCK_FILE,
  type ProcessIdentity,
  type RunningRecord,
  readExitRecord,
  readRunningRecord,
  VMM_LOG,
} from './records.ts';
import { readVmStats } from './stats.ts';

/** After the VMM is gone its supervisor only writes a record; longer means that it hangs on a broken disk. */
const SUPERVISOR_GRACE_MS = 5_000;
/** What of the logs is looked at for the reason of an exit. */
const EVIDENCE_BYTES = 16 * 1024;
/** The last moments of a killed process, in which its descriptors (and with them the lock) still close. */
const LOCK_PAUSE_MS = 5;

/** What a driver notes in the record for the daemon that adopts the VM. */
export interface Annotations {
  launch: 'cold' | 'warm';
  memoryLimitBytes: number;
  coldReason?: string;
  /** Of a warm launch: number of the VMM's descriptor that has the state to restore. */
  stateNumber?: number;
}

export function encodeAnnotations(annotations: Annotations): string {
  return JSON.stringify(annotations);
}

function decodeAnnotations(text: string): Annotations {
  const value: unknown = JSON.parse(text);
  const fields: Record<string, unknown> = typeof value === 'object' && value !== null ? { ...value } : {};
  return {
    launch: fields.launch === 'warm' ? 'warm' : 'cold',
    memoryLimitBytes: typeof fields.memoryLimitBytes === 'number' ? fields.memoryLimitBytes : 0,
    ...(typeof fields.coldReason === 'string' ? { coldReason: fields.coldReason } : {}),
    ...(typeof fields.stateNumber === 'number' ? { stateNumber: fields.stateNumber } : {}),
  };
}

export async function readBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

async function tail(path: string, maxBytes: number): Promise<string> {
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    const length = Math.min(size, maxBytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.toString('utf8', 0, bytesRead);
  } catch {
    return ''; // no log, no words
  }
}

/** The end of a log of the launcher: the present file and, before it, the rotated one. */
export async function logTail(dir: string, name: string, maxBytes: number): Promise<string> {
  const present = await tail(join(dir, name), maxBytes);
  const missing = maxBytes - Buffer.byteLength(present);
  return missing > 0 ? (await tail(join(dir, `${name}.1`), missing)) + present : present;
}

/** How the last VM of a directory ended, as far as it can be known now. Only when none runs there. */
export async function readLastExit(dir: string): Promise<VmExit | undefined> {
  const running = await readRunningRecord(dir);
  const record = await readExitRecord(dir);
  if (!running && !record) return undefined;
  return decodeExit({
    record,
    consoleTail: await logTail(dir, CONSOLE_LOG, EVIDENCE_BYTES),
    vmmLogTail: await logTail(dir, VMM_LOG, EVIDENCE_BYTES),
    hostRestarted: running !== undefined && running.bootId !== (await readBootId()),
    now: new Date(),
  });
}

export interface ProcessTools {
  host: HostLibrary;
  watcher: ExitWatcher;
}

export class VmProcess implements VmHandle {
  readonly id: string;
  readonly driver: DriverName;
  readonly pid: number;
  readonly startedAt: Date;
  readonly launch: 'cold' | 'warm';
  readonly coldReason?: string;
  /** Of a warm launch: number of the VMM's descriptor that has the state to restore. */
  readonly stateNumber?: number;
  readonly limitations: readonly string[];
  readonly exited: Promise<VmExit>;
  readonly networkHolder: { readonly pid: number; readonly startTime: string };
  stages: StartStages = {};
  growVolume?: NonNullable<VmHandle['growVolume']>;
  /** The record that names its processes. */
  readonly record: RunningRecord;
  readonly dir: string;
  readonly #tools: ProcessTools;
  readonly #memoryLimitBytes: number;
  readonly #stallListeners = new Set<() => void>();
  #stall: VmStall | undefined;
  #agent: Duplex | undefined;
  #gone = false;

  /** `processesGone` resolves when supervisor and VMM are gone, and then `exited` is decided. */
  constructor(tools: ProcessTools, dir: string, record: RunningRecord, processesGone: Promise<void>) {
    const annotations = decodeAnnotations(record.annotations);
    this.#tools = tools;
    this.dir = dir;
    this.record = record;
    this.id = record.id;
    this.driver = record.driver;
    this.pid = record.vmm.pid;
    this.startedAt = new Date(record.startedAtMs);
    this.launch = annotations.launch;
    if (annotations.coldReason !== undefined) this.coldReason = annotations.coldReason;
    if (annotations.stateNumber !== undefined) this.stateNumber = annotations.stateNumber;
    this.limitations = record.limitations;
    const { pid, startTime } = record.supervisor;
    this.networkHolder = { pid, startTime: String(startTime) };
    this.#memoryLimitBytes = annotations.memoryLimitBytes;
    this.exited = this.#decide(processesGone);
  }

  async #decide(processesGone: Promise<void>): Promise<VmExit> {
    const lost = (message: string): VmExit => ({ kind: 'lost', message, finishedAt: new Date() });
    try {
      await processesGone;
      // The kernel drops the lock with the last descriptor, a moment after the process counts as ended.
      while (this.#tools.host.lockIsHeld(join(this.dir, LOCK_FILE))) await sleep(LOCK_PAUSE_MS);
      this.#gone = true;
      this.#agent?.destroy();
      return (await readLastExit(this.dir)) ?? lost("The VM's directory was removed while it ran.");
    } catch (error) {
      this.#gone = true;
      return lost(`How the VM ended cannot be read: ${error instanceof Error ? error.message : error}`);
    }
  }

  async dialAgent(signal: AbortSignal): Promise<Duplex> {
    if (this.#gone) throw new BulkheadError('SANDBOX_NOT_RUNNING', `the VM ${this.id} has ended`);
    this.#agent?.destroy();
    this.#agent = undefined;
    let socket: Duplex;
    try {
      ({ socket } = await dial(() => this.#connectAgent(), signal));
    } catch (error) {
      if (!(error instanceof HostError)) throw error;
      throw new BulkheadError('AGENT_UNREACHABLE', `agent port of ${this.id}: ${error.message}`, {
        cause: error,
      });
    }
    this.#agent = socket;
    return socket;
  }

  #connectAgent(): number {
    const { host } = this.#tools;
    if (this.driver === 'software') return host.unixConnect(join(this.dir, AGENT_SOCKET));
    const fd = host.jailConnect(this.pid, AGENT_SOCKET_IN_JAIL);
    // Its number may have passed to another VM's process, whose guest must not be taken for this one.
    if (withPidfd(host, this.record.vmm, () => true) === true) return fd;
    closeSync(fd);
    throw new HostError('ECONNREFUSED', 'the VMM has ended');
  }

  get stall(): VmStall | undefined {
    return this.#stall;
  }

  /** For the driver, which watches the VMM. */
  setStall(stall: VmStall | undefined): void {
    if (this.#stall?.code === stall?.code && this.#stall?.message === stall?.message) return;
    this.#stall = stall;
    for (const listener of this.#stallListeners) listener();
  }

  onStallChange(listener: () => void): () => void {
    this.#stallListeners.add(listener);
    return () => void this.#stallListeners.delete(listener);
  }

  stats(): Promise<VmFigures> {
    return readVmStats(this.record.vmm, this.#memoryLimitBytes);
  }

  async kill(): Promise<void> {
    this.#signal(this.record.vmm);
    const timer = setTimeout(() => this.#signal(this.record.supervisor), SUPERVISOR_GRACE_MS);
    await this.exited;
    clearTimeout(timer);
  }

  async consoleTail(maxBytes: number): Promise<string> {
    return logTail(this.dir, CONSOLE_LOG, maxBytes);
  }

  #signal(identity: ProcessIdentity): void {
    withPidfd(this.#tools.host, identity, (pidfd) => this.#tools.host.pidfdKill(pidfd, 'SIGKILL'));
  }
}

/** Runs `use` with a pidfd of exactly that process; gives `undefined` when it is gone. */
function withPidfd<T>(
  host: HostLibrary,
  identity: ProcessIdentity,
  use: (pidfd: number) => T,
): T | undefined {
  let pidfd: number;
  try {
    pidfd = host.pidfdOpen(identity.pid, BigInt(identity.startTime));
  } catch (error) {
    if (error instanceof HostError && error.code === 'ESRCH') return undefined;
    throw error;
  }
  try {
    return use(pidfd);
  } finally {
    closeSync(pidfd);
  }
}

/** Resolves when the process is gone; at once when it is already. */
export async function processGone(tools: ProcessTools, identity: ProcessIdentity): Promise<void> {
  await withPidfd(tools.host, identity, (pidfd) => tools.watcher.wait(pidfd));
}

/**
 * The VM that runs in the directory, found by its record and checked against the processes: same host boot, same
 * start time. A VM whose supervisor was killed is dying with it and still counts until it is gone. With `driver`: only a VM
 * of that driver.
 */
export async function adoptVm(
  tools: ProcessTools,
  dir: string,
  driver?: DriverName,
): Promise<VmProcess | undefined> {
  const record = await readRunningRecord(dir);
  if (driver !== undefined && record?.driver !== driver) return undefined;
  if (!record || record.id !== basename(dir) || record.bootId !== (await readBootId())) return undefined;
  if ((await stat(dir)).uid !== process.getuid?.()) return undefined;
  const alive = (identity: ProcessIdentity) => withPidfd(tools.host, identity, () => true) === true;
  if (!alive(record.vmm) && !alive(record.supervisor)) return undefined;
  const gone = Promise.all([processGone(tools, record.supervisor), processGone(tools, record.vmm)]);
  return new VmProcess(
    tools,
    dir,
    record,
    gone.then(() => undefined),
  );
}
