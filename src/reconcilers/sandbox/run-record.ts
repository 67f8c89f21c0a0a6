// What the host itself remembers of a sandbox's runs: `<dir>/run.json`. Written before an effect (the intent) and after
// it (the result), so that a controller that was killed in between knows what it was about. Everything else is observed.
import { open, readFile, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { DefaultedSandboxSpec } from '../../api/sandbox.ts';
import type { ProcessExit } from '../../guest/agent.ts';
import type { DriverName } from '../../vmm/driver.ts';
import type { AttachedDisk, AttachedShare } from './volumes/spec.ts';

/** Why a running VM is being stopped. */
export type StopReason =
  | 'MainExited'
  | 'Suspended'
  | 'RestartRequested'
  | 'Recreating'
  | 'DeadlineExceeded'
  | 'ShutdownTimeReached'
  | 'IdleTimeout'
  | 'BootTimedOut'
  | 'BootFailed'
  | 'PostStartHookFailed'
  | 'StartupProbeFailed'
  | 'LivenessProbeFailed';

/** How the main process ended, or why it could not begin. */
export interface MainExit extends ProcessExit {
  finishedAt: string;
  /** Set when the process never began: the code's reason and the guest's message. */
  startError?: { reason: string; message: string };
}

/** The judgement over a run that is over. */
export interface RunEnd {
  outcome: 'Succeeded' | 'Failed' | 'Restart' | 'Suspended';
  /** For `Restart`: wait this long after `finishedAt`. */
  delayMs: number;
  /** Failed runs in a row, this one included; 0 unless the outcome is a restart by policy. */
  failures: number;
  termination: Termination;
}

/** `status.lastTermination`. Times are RFC 3339. */
export interface Termination {
  exitCode: number;
  signal: string;
  reason: string;
  message: string;
  startedAt: string;
  finishedAt: string;
}

/** The parts of a spec that make a root file system. */
export interface RootOrigin {
  /** Of image, driver, user and patches. */
  digest: string;
  /** Of the upper disk, which only grows. */
  diskBytes: number;
}

/** One run: from the intent to start a VM to the judgement over its end. Times are RFC 3339. */
export interface RunRecord {
  version: 1;
  /** Counts VM starts of this sandbox from 1; names the log file. */
  run: number;
  /** Restarts by policy; `status.restarts`. */
  restarts: number;
  /** Failed runs in a row before this one. */
  failures: number;
  /** When the intent was written. */
  startedAt: string;
  /** Since when the sandbox is active; kept over restarts by policy, new after a suspension or a restart asked for. */
  activeSince: string;
  /** `restartedAt` annotation that this run has answered; empty for none. */
  restartedAt: string;
  /** The image that the upper disk belongs to; empty when it is not known any more. */
  imageDigest: string;
  driver: DriverName;
  driverReason: string;
  /** What the root file system was made from; absent in records of releases that made none anew. */
  root?: RootOrigin;
  /** The upper disk is void: it is removed, or about to be, and the next run makes another. */
  rootDiscarded?: true;
  /** Digest of the parts of the spec that apply at start only. */
  launchDigest: string;
  /** What its VM was given, whatever the spec says by now; absent in records of releases that did not say it. */
  resources?: DefaultedSandboxSpec['resources'];
  /** Digest of volumes and mounts; absent in records of releases that did not note it. */
  mountsDigest?: string;
  /** This run has a main process; the spec may say otherwise by now. */
  main: boolean;
  /** `finishedAt` of the exit that the driver told before this start: what still shows it has not run. */
  previousExit: string;
  /** Disks of volumes, in the order in which the VM has them. */
  volumes?: readonly AttachedDisk[];
  /** Directories of the host, in the order in which the VM has them. */
  shares?: readonly AttachedShare[];
  /** The root file system has its patches; kept over all runs. */
  patched?: true;
  /** How many patches, from the first, are on the root's disk; kept over all runs. */
  patchesDone?: number;
  /** The patch that is being made: what is in its place now may be its own; kept over all runs. */
  patching?: number;
  /** Sizes, in bytes, that files had before their patches appended to them, by index of the patch; -1 for one that was not there. */
  patchedFrom?: Readonly<Record<string, number>>;
  /** Written once the VM was seen running. */
  vm?: { pid: number; startedAt: string };
  /** Written when the guest was up: boot time and stages of the start, in milliseconds, for the status. */
  up?: { at: string; bootMilliseconds: number; stages?: Readonly<Record<string, number>> };
  /** The hook after the start of the main process; absent where the spec had none at the start. */
  postStart?: 'pending' | 'done';
  /** The startup probe has succeeded. */
  started?: true;
  stop?: { reason: StopReason; at: string; message: string };
  mainExit?: MainExit;
  /** How the run before this one ended. */
  former?: Termination;
  end?: RunEnd;
}

const FILE = 'run.json';
/** A record is about 2 KB; anything much larger is not ours. */
const MAX_BYTES = 64 * 1024;

/** The record of a directory; `undefined` when there is none, `damaged` when there was one (a torn disk, a foreign file). */
export async function readRunRecord(dir: string): Promise<RunRecord | 'damaged' | undefined> {
  let text: string;
  try {
    text = await readFile(join(dir, FILE), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  if (text.length > MAX_BYTES) return 'damaged';
  try {
    const value: unknown = JSON.parse(text);
    return isRunRecord(value) ? value : 'damaged';
  } catch {
    return 'damaged';
  }
}

/**
 * Records written at once: each holds a file open, and ten thousand sandboxes that are launched together would else open
 * more files than a process may. A disk's queue is no deeper.
 */
const WRITERS = 16;
/** The last write of each writer. */
const writers: Promise<unknown>[] = Array.from({ length: WRITERS }, () => Promise.resolve());
let nextWriter = 0;

/** Replaces the record so that a crash at any moment leaves the old or the new one. */
export async function writeRunRecord(dir: string, record: RunRecord): Promise<void> {
  const writer = nextWriter;
  nextWriter = (nextWriter + 1) % WRITERS;
  const write = (writers[writer] ?? Promise.resolve()).then(() => replaceRecord(dir, record));
  writers[writer] = write.catch(() => {});
  await write;
}

async function replaceRecord(dir: string, record: RunRecord): Promise<void> {
  const temporary = join(dir, `.${FILE}.tmp`);
  const file = await open(temporary, 'w', 0o600);
  try {
    await file.writeFile(JSON.stringify(record));
    await file.sync();
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  } finally {
    await file.close();
  }
  await rename(temporary, join(dir, FILE));
  const handle = await open(dir, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function isRunRecord(value: unknown): value is RunRecord {
  if (typeof value !== 'object' || value === null) return false;
  const record = value as Partial<RunRecord>;
  return (
    record.version === 1 &&
    Number.isSafeInteger(record.run) &&
    typeof record.startedAt === 'string' &&
    typeof record.imageDigest === 'string' &&
    typeof record.driver === 'string'
  );
}
