// The rules of a sandbox's life as pure functions of an observation: what holds it back, what ends it, what follows.

import { isConditionTrue, REASONS } from '../../api/conditions.ts';
import { ERRORS, type ErrorCode } from '../../api/errors.ts';
import { parseBytes } from '../../api/quantity.ts';
import {
  AGENT_SILENCE_MS,
  BOOT_DEADLINE_MS,
  FINALIZER,
  FROZEN_AFTER_MS,
  MESSAGE_MAX_CHARS,
  RESTART_BACKOFF_BASE_MS,
  RESTART_BACKOFF_MAX_MS,
  RESTART_BACKOFF_RESET_MS,
  RESTARTED_AT_ANNOTATION,
} from './limits.ts';
import type { Observation } from './observation.ts';
import { fatalProbe } from './probes/verdicts.ts';
import type { RunEnd, RunRecord, StopReason, Termination } from './run-record.ts';

const MEBIBYTE = 1024 * 1024;
const RECREATING_MESSAGE =
  'The spec asks for another root file system (image, driver, user, patches or a smaller disk); volumes stay.';
/** Of a run that ended badly without an exit code of its own. */
const FAILED_EXIT_CODE = 255;

/** Why a sandbox cannot begin a run, and whether it goes on by itself. */
export interface Block {
  code: ErrorCode;
  reason: string;
  message: string;
  terminal: boolean;
}

export function isDeleted(o: Observation): boolean {
  return o.object?.metadata.deletionTimestamp !== undefined;
}

export function hasFinalizer(o: Observation): boolean {
  return o.object?.metadata.finalizers?.includes(FINALIZER) ?? false;
}

export function wantsSuspension(o: Observation): boolean {
  return o.object?.spec.operatingMode === 'Suspended';
}

/** The record of a run that was not judged yet: one that runs, is about to, or has just ended. */
export function currentRun(o: Observation): RunRecord | undefined {
  return o.record?.end === undefined ? o.record : undefined;
}

/** Was the last run ended because a restart, or another root, was asked for? Such a restart counts as a new beginning. */
export function endedForRestart(record: RunRecord): boolean {
  const asked = record.stop?.reason === 'RestartRequested' || record.stop?.reason === 'Recreating';
  return record.end?.outcome === 'Restart' && asked;
}

/**
 * Since when the sandbox is active, as `activeDeadlineSeconds` counts it: over restarts by policy, but not over a
 * suspension, an end for good, or a restart that was asked for.
 */
export function activeSince(record: RunRecord | undefined): string | undefined {
  if (record === undefined) return undefined;
  if (record.end === undefined) return record.activeSince;
  return record.end.outcome === 'Restart' && !endedForRestart(record) ? record.activeSince : undefined;
}

/** What the spec asks that cannot be given, now or at all. */
export function blockedBy(o: Observation): Block | undefined {
  const [field] = o.unsupported;
  if (field !== undefined) {
    return {
      code: 'NOT_SUPPORTED',
      reason: ERRORS.NOT_SUPPORTED.reason,
      message: `${o.unsupported.join(', ')}: not supported by this release. ${ERRORS.NOT_SUPPORTED.hint}`,
      terminal: true,
    };
  }
  const memory = o.object?.spec.resources.memory;
  if (memory !== undefined && parseBytes(memory) > o.hostMemoryBytes) {
    const mebibytes = Math.floor(o.hostMemoryBytes / MEBIBYTE);
    return {
      code: 'INSUFFICIENT_RESOURCES',
      reason: ERRORS.INSUFFICIENT_RESOURCES.reason,
      message: `resources.memory asks for ${memory}, and this host has ${mebibytes}Mi. ${ERRORS.INSUFFICIENT_RESOURCES.hint}`,
      terminal: true,
    };
  }
  if (o.missing.length > 0) {
    const list = o.missing.map(
      (each) =>
        `${each.field}: ${each.kind} ${each.name}${each.key === undefined ? '' : ` key ${each.key}`} ${each.problem ?? 'does not exist'}`,
    );
    return {
      code: 'REFERENCE_NOT_FOUND',
      reason: ERRORS.REFERENCE_NOT_FOUND.reason,
      message: `${list.join('; ')}. ${ERRORS.REFERENCE_NOT_FOUND.hint}`.slice(0, MESSAGE_MAX_CHARS),
      terminal: false,
    };
  }
  return undefined;
}

/** Does the annotation ask for a restart that no run has answered? */
export function restartRequested(o: Observation): boolean {
  const asked = o.object?.metadata.annotations?.[RESTARTED_AT_ANNOTATION];
  if (asked === undefined || asked === '' || o.record === undefined) return false;
  return asked !== o.record.restartedAt;
}

/**
 * Was the root file system made from something else than the spec now says? The spec can change so only with updateStrategy
 * Recreate, so that whatever the strategy is by now, another root was asked for.
 */
export function needsNewRoot({ record, root }: Pick<Observation, 'record' | 'root'>): boolean {
  if (record?.rootDiscarded === true) return true;
  if (record?.root === undefined) return false;
  return record.root.digest !== root.digest || record.root.diskBytes > root.diskBytes;
}

/** Is something asked for that makes also a finished sandbox run again? */
export function runsAnew(o: Observation): boolean {
  return restartRequested(o) || needsNewRoot(o);
}

/** Milliseconds until `activeDeadlineSeconds` is over; `undefined` when there is none or nothing ran yet. */
export function activeDeadlineIn(o: Observation): number | undefined {
  const seconds = o.object?.spec.activeDeadlineSeconds;
  if (seconds === undefined || o.elapsed.sinceActive === undefined) return undefined;
  return seconds * 1_000 - o.elapsed.sinceActive;
}

/**
 * Milliseconds until `idleTimeoutSeconds` is over; `undefined` when there is none, or somebody uses the sandbox. A main process
 * is use; what a guest does that does not answer is none.
 */
export function idleTimeoutIn(o: Observation): number | undefined {
  const seconds = o.object?.spec.idleTimeoutSeconds;
  if (seconds === undefined) return undefined;
  const { sinceIdle } = o.elapsed;
  const unused =
    currentRun(o)?.main === false && sinceIdle !== undefined ? seconds * 1_000 - sinceIdle : Infinity;
  const next = Math.min(unused, frozenTimeoutIn(o, seconds));
  return next === Infinity ? undefined : next;
}

/** The same of a guest that was up and fell silent: at least as long as it takes to be sure that it is not the connection. */
function frozenTimeoutIn(o: Observation, seconds: number): number {
  if (o.vm === undefined || o.agent.connected || !wasUp(o)) return Infinity;
  // What the host holds is silent without its fault, and has the whole time again afterwards.
  const silent = Math.min(o.agent.silentMs, o.elapsed.sinceStall ?? Infinity);
  return Math.max(seconds * 1_000, FROZEN_AFTER_MS) - silent;
}

/** Milliseconds until `shutdownTime` by the wall clock. */
export function shutdownTimeIn(o: Observation): number | undefined {
  const at = o.object?.spec.shutdownTime;
  return at === undefined ? undefined : Date.parse(at) - o.now;
}

/** Milliseconds until the restart that the judgement over the last run asks for. */
export function backoffIn(o: Observation): number {
  // What failed is no longer what is asked for.
  if (needsNewRoot(o)) return 0;
  return (o.record?.end?.delayMs ?? 0) - (o.elapsed.sinceEnd ?? 0);
}

/** Milliseconds until the object is deleted; `undefined` when it is to stay. */
export function ttlIn(o: Observation): number | undefined {
  const seconds = o.object?.spec.ttlSecondsAfterFinished;
  if (seconds === undefined || o.elapsed.sinceFinished === undefined) return undefined;
  return seconds * 1_000 - o.elapsed.sinceFinished;
}

/**
 * Milliseconds until a guest that is not up is given up; `undefined` once it was up. One that the host made stand still has
 * the whole time again when it goes on.
 */
export function bootDeadlineIn(o: Observation): number | undefined {
  if (o.vm === undefined || wasUp(o)) return undefined;
  return BOOT_DEADLINE_MS - Math.min(o.elapsed.sinceRunStart ?? 0, o.elapsed.sinceStall ?? Infinity);
}

/** Was the guest of this run fully up at some time? */
export function wasUp(o: Observation): boolean {
  return o.guest.bootMilliseconds !== undefined || currentRun(o)?.up !== undefined;
}

/** The agent answers, or fell silent so lately that it does not count yet. */
export function isReachable(o: Observation): boolean {
  return o.agent.connected || o.agent.silentMs < AGENT_SILENCE_MS;
}

/** The limits that end a sandbox for good, whether it runs or not. */
export function overdue(o: Observation): 'DeadlineExceeded' | 'ShutdownTimeReached' | undefined {
  if ((activeDeadlineIn(o) ?? 1) <= 0) return 'DeadlineExceeded';
  if ((shutdownTimeIn(o) ?? 1) <= 0) return 'ShutdownTimeReached';
  return undefined;
}

/** Why the VM that runs is to be stopped, with a sentence; `undefined` when it is to go on. */
export function stopWanted(o: Observation): { reason: StopReason; message: string } | undefined {
  const run = currentRun(o);
  if (run?.stop !== undefined) return run.stop;
  if (o.mainExit !== undefined) {
    return { reason: 'MainExited', message: 'The main process ended.' };
  }
  const late = overdue(o);
  if (late !== undefined) return { reason: late, message: overdueMessage(o, late) };
  if (wantsSuspension(o)) return { reason: 'Suspended', message: 'operatingMode is Suspended.' };
  if ((idleTimeoutIn(o) ?? 1) <= 0) {
    const seconds = o.object?.spec.idleTimeoutSeconds ?? 0;
    const what = frozenTimeoutIn(o, seconds) <= 0 ? 'Its guest did not answer' : 'Nobody used it';
    return { reason: 'IdleTimeout', message: `${what} for idleTimeoutSeconds (${seconds}).` };
  }
  const { postStartFailure } = o.guest;
  if (postStartFailure !== undefined)
    return { reason: 'PostStartHookFailed', message: `The postStart hook failed: ${postStartFailure}.` };
  const probe = fatalProbe(o);
  if (run !== undefined && probe !== undefined) return probe;
  if (run !== undefined && restartRequested(o))
    return { reason: 'RestartRequested', message: 'A restart was asked for.' };
  // A VM that runs is not given up for a spec that cannot be met.
  if (run !== undefined && needsNewRoot(o) && blockedBy(o) === undefined)
    return { reason: 'Recreating', message: RECREATING_MESSAGE };
  if ((bootDeadlineIn(o) ?? 1) <= 0) {
    const cause = o.failure?.task === 'bring-up' ? ` Last error: ${o.failure.message}` : '';
    return {
      reason: 'BootTimedOut',
      message: `The guest was not up within ${BOOT_DEADLINE_MS / 1_000} s.${cause}`,
    };
  }
  if (o.failure?.task === 'bring-up' && o.failure.terminal && !wasUp(o)) {
    return { reason: 'BootFailed', message: o.failure.message };
  }
  return undefined;
}

/** Has the run begun and come to an end, whatever the judgement? */
export function runIsOver(o: Observation): boolean {
  const run = currentRun(o);
  if (run === undefined || o.vm !== undefined || o.task?.kind === 'start') return false;
  return o.exit !== undefined || run.stop !== undefined;
}

/**
 * The judgement over a run that is over, or, where nothing runs, over a sandbox that has to end. Success and failure are
 * the main process's; a VM that ends by itself is a failure.
 */
export function judge(o: Observation): RunEnd {
  const finishedAt = (runIsOver(o) ? o.exit?.finishedAt : undefined) ?? new Date(o.now);
  const startedAt = o.record?.vm?.startedAt ?? o.record?.startedAt ?? finishedAt.toISOString();
  const end = (outcome: RunEnd['outcome'], part: Partial<Termination> & { reason: string }): RunEnd => ({
    outcome,
    ...(outcome === 'Restart' ? backOff(o) : { delayMs: 0, failures: 0 }),
    termination: {
      exitCode: o.mainExit?.exitCode ?? 0,
      signal: o.mainExit?.signal ?? '',
      message: '',
      startedAt,
      finishedAt: finishedAt.toISOString(),
      ...part,
    },
  });
  const policy = o.object?.spec.restartPolicy ?? 'Never';
  const failed = (part: Partial<Termination> & { reason: string }): RunEnd =>
    end(policy === 'Never' ? 'Failed' : 'Restart', part);

  if (!runIsOver(o)) {
    // Nothing runs: a limit was passed, or the sandbox is suspended while it waited for its next restart.
    const late = overdue(o);
    const last = o.record?.end?.termination;
    const kept = last === undefined ? {} : { exitCode: last.exitCode, signal: last.signal };
    if (late === undefined) return end('Suspended', last ?? { reason: REASONS.Suspended });
    return end(late === 'DeadlineExceeded' ? 'Failed' : 'Succeeded', {
      ...kept,
      reason: late,
      message: overdueMessage(o, late),
    });
  }
  const stop = o.record?.stop;
  switch (stop?.reason) {
    case 'MainExited': {
      const exit = o.mainExit;
      const good = exit?.exitCode === 0 && exit.startError === undefined;
      const part = {
        reason:
          exit?.startError?.reason ??
          (good ? REASONS.Completed : exit?.oomKilled === true ? REASONS.OOMKilled : REASONS.Error),
        message: mainExitMessage(o),
        startedAt,
        ...(exit === undefined ? {} : { finishedAt: exit.finishedAt }),
      };
      if (policy === 'Always') return end('Restart', part);
      return good ? end('Succeeded', part) : failed(part);
    }
    case 'Suspended':
      return end('Suspended', { reason: REASONS.Suspended, message: stop.message });
    case 'RestartRequested':
    case 'Recreating':
      return {
        ...end('Restart', {
          reason: stop.reason === 'Recreating' ? REASONS.Recreating : REASONS.Restarting,
          message: stop.message,
        }),
        delayMs: 0,
        failures: 0,
      };
    case 'DeadlineExceeded':
      return end('Failed', { reason: REASONS.DeadlineExceeded, message: stop.message });
    case 'ShutdownTimeReached':
    case 'IdleTimeout':
      return end('Succeeded', { reason: REASONS[stop.reason], message: stop.message });
    case 'PostStartHookFailed':
    case 'StartupProbeFailed':
    case 'LivenessProbeFailed':
      // Also a main process that ended well when it was asked to: it was asked because it did not do its work.
      return failed({
        exitCode: o.mainExit?.exitCode || FAILED_EXIT_CODE,
        reason: REASONS[stop.reason],
        message: stop.message,
      });
    case 'BootTimedOut':
    case 'BootFailed':
      return failed({ exitCode: FAILED_EXIT_CODE, reason: stop.reason, message: stop.message });
    case undefined:
      return failed({
        exitCode: o.exit?.exitCode ?? FAILED_EXIT_CODE,
        signal: o.exit?.signal ?? '',
        reason:
          o.exit?.oomKilled === true
            ? REASONS.OOMKilled
            : o.exit?.kind === 'lost'
              ? REASONS.VmLost
              : REASONS.VmCrashed,
        message: (o.exit?.message ?? 'The VM is gone and left no record.').slice(0, MESSAGE_MAX_CHARS),
      });
  }
}

/** The kubelet's back-off: doubles with each failed run in a row; a run that held long enough starts it again. */
function backOff(o: Observation): { delayMs: number; failures: number } {
  const failures = wasGoodRun(o) ? 1 : (o.record?.failures ?? 0) + 1;
  const delayMs = Math.min(RESTART_BACKOFF_BASE_MS * 2 ** (failures - 1), RESTART_BACKOFF_MAX_MS);
  return { delayMs, failures };
}

function wasGoodRun(o: Observation): boolean {
  if (!wasUp(o)) return false;
  // The daemon may see the end long after it came: then the VM's own record of its end counts.
  const seen = o.elapsed.sinceRunStart ?? 0;
  const recorded =
    o.exit === undefined ? seen : o.exit.finishedAt.getTime() - Date.parse(o.record?.startedAt ?? '');
  return Math.min(seen, recorded) >= RESTART_BACKOFF_RESET_MS;
}

/** Finished for good, as the host's record says, or, where the host has none, as the status says. */
export function finishedOutcome(o: Observation): 'Succeeded' | 'Failed' | undefined {
  if (o.record !== undefined) {
    const outcome = o.record.end?.outcome;
    return outcome === 'Succeeded' || outcome === 'Failed' ? outcome : undefined;
  }
  const status = o.object?.status;
  if (!isConditionTrue(status?.conditions, 'Finished')) return undefined;
  return status?.phase === 'Failed' ? 'Failed' : 'Succeeded';
}

function mainExitMessage(o: Observation): string {
  const exit = o.mainExit;
  if (exit === undefined) return '';
  if (exit.startError !== undefined) return exit.startError.message.slice(0, MESSAGE_MAX_CHARS);
  if (exit.oomKilled) return 'The main process was killed for lack of memory.';
  if (exit.signal !== '') return `The main process was ended by ${exit.signal}.`;
  return `The main process ended with exit code ${exit.exitCode}.`;
}

function overdueMessage(o: Observation, late: 'DeadlineExceeded' | 'ShutdownTimeReached'): string {
  return late === 'DeadlineExceeded'
    ? `It was active for longer than activeDeadlineSeconds (${o.object?.spec.activeDeadlineSeconds}).`
    : `shutdownTime ${o.object?.spec.shutdownTime} has come.`;
}

/** A change of the spec that only the next start applies. */
export function restartRequired(o: Observation): boolean {
  return (
    o.vm !== undefined &&
    o.record !== undefined &&
    o.record.stop === undefined &&
    o.record.launchDigest !== o.launchDigest
  );
}

/** What the VM that runs was given and the spec no longer says, as `resources.memory (256Mi, to be 512Mi)`. */
export function otherResources({ record, object }: Observation): string[] {
  const { resources: given } = record ?? {};
  const asked = object?.spec.resources;
  if (given === undefined || asked === undefined) return [];
  return (['cpus', 'memory', 'disk'] as const)
    .filter((each) => given[each] !== asked[each])
    .map((each) => `resources.${each} (${given[each]}, to be ${asked[each]})`);
}
