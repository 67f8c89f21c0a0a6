// Saving and restoring a machine's device state. Guest memory is not in it: that stays in the memory file.
import { setTimeout as sleep } from 'node:timers/promises';
import { BulkheadError } from '../../api/errors.ts';
import type { QmpClient } from './qmp.ts';

/** Saving takes 10 to 50 ms, restoring 20; QEMU tells of neither end but by an event or when asked. */
const POLL_MS = 2;
/** Two minutes cover a machine that gets 1 % of a core. */
const MIGRATION_TIMEOUT_MS = 120_000;

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null
    ? Object.entries(value).find(([key]) => key === name)?.[1]
    : undefined;
}

/** Asks until `done` says so; `done` throws when it never will. */
async function poll(
  qmp: QmpClient,
  command: string,
  signal: AbortSignal,
  done: (answer: unknown) => boolean,
): Promise<void> {
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(MIGRATION_TIMEOUT_MS)]);
  while (!done(await qmp.execute(command, {}, deadline)))
    await sleep(POLL_MS, undefined, { signal: deadline });
}

async function ignoreShared(qmp: QmpClient, signal: AbortSignal): Promise<void> {
  const capabilities = [{ capability: 'x-ignore-shared', state: true }];
  await qmp.execute('migrate-set-capabilities', { capabilities }, signal);
}

/** Resolves when QEMU has seen that nobody is connected to the agent port: a peer must not be part of the state. */
export async function awaitAgentPortIdle(qmp: QmpClient, signal: AbortSignal): Promise<void> {
  await poll(qmp, 'query-chardev', signal, (answer) => {
    const ports = Array.isArray(answer) ? answer : [];
    const agent: unknown = ports.find((port) => field(port, 'label') === 'agent');
    return String(field(agent, 'filename')).startsWith('disconnected:');
  });
}

/** Stops the machine for good and writes its device state to the descriptor. */
export async function saveState(qmp: QmpClient, stateFd: number, signal: AbortSignal): Promise<void> {
  await qmp.execute('stop', {}, signal);
  await ignoreShared(qmp, signal);
  await qmp.executeWithFd('getfd', { fdname: 'state' }, stateFd, signal);
  await qmp.execute('migrate', { uri: 'fd:state' }, signal);
  await poll(qmp, 'query-migrate', signal, (answer) => {
    const status = field(answer, 'status');
    if (status === 'failed' || status === 'cancelled') {
      const why = field(answer, 'error-desc') ?? 'QEMU gives no reason';
      throw new BulkheadError('VM_START_FAILED', `saving the template ended as ${status}: ${why}`);
    }
    return status === 'completed';
  });
}

/** Reads the device state from QEMU's descriptor `stateNumber` and lets the machine run. */
export async function restoreState(qmp: QmpClient, stateNumber: number, signal: AbortSignal): Promise<void> {
  await ignoreShared(qmp, signal);
  await qmp.execute('migrate-incoming', { uri: `fd:${stateNumber}` }, signal);
  await finishRestore(qmp, signal);
}

/** Waits until the state is read, and lets the machine run. */
async function finishRestore(qmp: QmpClient, signal: AbortSignal): Promise<void> {
  let paused = false;
  // A state that does not fit makes QEMU exit, which ends the connection and rejects.
  await poll(qmp, 'query-status', signal, (answer) => {
    const status = field(answer, 'status');
    paused = status === 'paused' || status === 'postmigrate';
    return status !== 'inmigrate';
  });
  if (paused) await qmp.execute('cont', {}, signal);
}

/**
 * Goes on with a restore whose daemon was killed in the middle of it, from whichever step it came to; a machine that runs is
 * left alone. The guest is told the true sizes of the disks that it can write to.
 */
export async function resumeRestore(qmp: QmpClient, stateNumber: number, signal: AbortSignal): Promise<void> {
  const status = field(await qmp.execute('query-status', {}, signal), 'status');
  if (status === 'inmigrate') {
    // Refused where the former daemon had come so far.
    await ignoreShared(qmp, signal).catch(() => signal.throwIfAborted());
    await qmp
      .execute('migrate-incoming', { uri: `fd:${stateNumber}` }, signal)
      .catch(() => signal.throwIfAborted());
  } else if (status !== 'paused' && status !== 'postmigrate') return;
  await finishRestore(qmp, signal);
  const blocks = await qmp.execute('query-block', {}, signal);
  for (const block of Array.isArray(blocks) ? (blocks as unknown[]) : []) {
    const inserted = field(block, 'inserted');
    const sizeBytes = field(field(inserted, 'image'), 'virtual-size');
    if (field(inserted, 'ro') === false && typeof sizeBytes === 'number')
      await resizeDisk(qmp, String(field(block, 'device')), sizeBytes, signal);
  }
}

/** Tells the guest the true size of a disk that the template saw as a placeholder. */
export async function resizeDisk(
  qmp: QmpClient,
  device: string,
  sizeBytes: number,
  signal: AbortSignal,
): Promise<void> {
  await qmp.execute('block_resize', { device, size: sizeBytes }, signal);
}
