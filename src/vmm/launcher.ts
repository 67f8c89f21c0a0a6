// Starts bulkhead-vmm and learns whether the VMM runs.
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BulkheadError } from '../api/errors.ts';
import type { ExitWatcher } from './exit-watcher.ts';
import { type HostLibrary, hostFailure, type SpawnedLauncher } from './ffi.ts';
import { encodeLaunchConfig, type LaunchConfig } from './launch-config.ts';
import { LOCK_FILE, type RunningRecord, readRunningRecord } from './records.ts';
import { processGone } from './vm-process.ts';

/** The launcher writes one word of at most 257 bytes. */
const MAX_STATUS_BYTES = 1024;
/** Namespaces, mounts and exec take some 10 ms; this covers a host that swaps. */
const LAUNCH_TIMEOUT_MS = 30_000;
/** A killed VMM takes milliseconds to give its memory back; a guest of many GiB on a host that swaps takes seconds. */
const END_TIMEOUT_MS = 30_000;
const END_POLL_MS = 5;

export interface Launched {
  record: RunningRecord;
  /** Resolves when the supervisor is gone and reaped. */
  supervisorExited: Promise<void>;
  /** Resolves when the VMM is gone; it dies with its supervisor, but a moment later. */
  vmmExited: Promise<void>;
}

export interface LaunchTools {
  host: HostLibrary;
  watcher: ExitWatcher;
  /** bulkhead-vmm. */
  launcherPath: string;
}

/** Reads the status pipe to its end, which comes with the launcher's word or its death. */
function readStatus(fd: number, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const pipe = new Socket({ fd, readable: true, writable: false });
    let text = '';
    const abort = () => {
      pipe.destroy();
      reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
    };
    signal.addEventListener('abort', abort, { once: true });
    pipe.setEncoding('utf8');
    pipe.on('data', (data: string) => {
      if (text.length < MAX_STATUS_BYTES) text += data;
    });
    pipe.on('error', () => undefined); // 'close' follows
    pipe.on('close', () => {
      signal.removeEventListener('abort', abort);
      resolve(text);
    });
  });
}

function statusError(status: string): BulkheadError {
  const message = status.slice(1);
  if (status.startsWith('L')) return new BulkheadError('VM_ALREADY_RUNNING', message);
  return new BulkheadError('VM_START_FAILED', message || 'the launcher ended without a word');
}

/**
 * Starts the VMM of `config`. The descriptors stay the caller's. On failure or abort every process is gone when this
 * rejects. VM_ALREADY_RUNNING when the directory is locked.
 */
export async function launch(
  tools: LaunchTools,
  config: LaunchConfig,
  fds: readonly number[],
  signal: AbortSignal,
): Promise<Launched> {
  signal.throwIfAborted();
  let spawned: SpawnedLauncher;
  try {
    spawned = tools.host.spawn(tools.launcherPath, encodeLaunchConfig(config), fds);
  } catch (error) {
    throw hostFailure(error, `start of ${tools.launcherPath}`);
  }
  const supervisorExited = tools.watcher.wait(spawned.pidfd);
  /** Is it this start that holds the directory's lock, as far as is known? */
  let locked = true;
  try {
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(LAUNCH_TIMEOUT_MS)]);
    const status = await readStatus(spawned.statusFd, deadline);
    locked = !status.startsWith('L');
    if (!status.startsWith('R')) throw statusError(status);
    const record = await readRunningRecord(config.directory);
    if (!record) throw new BulkheadError('VM_START_FAILED', `no record in ${config.directory}`);
    return { record, supervisorExited, vmmExited: processGone(tools, record.vmm) };
  } catch (error) {
    tools.host.pidfdKill(spawned.pidfd, 'SIGKILL');
    await supervisorExited;
    if (locked) await lockGone(tools.host, join(config.directory, LOCK_FILE));
    throw error;
  } finally {
    closeSync(spawned.pidfd);
  }
}

/**
 * A start that is ended before it said who its VMM is has no descriptor of it to wait for, but the VMM keeps the lock for as
 * long as it lives.
 */
async function lockGone(host: HostLibrary, path: string): Promise<void> {
  const deadline = performance.now() + END_TIMEOUT_MS;
  while (host.lockIsHeld(path) && performance.now() < deadline) await sleep(END_POLL_MS);
}
