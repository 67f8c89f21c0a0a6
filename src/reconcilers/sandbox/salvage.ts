// What the status still tells of a run whose record on the host is damaged: enough to judge it, and never to run again
// what must run once.
import { isConditionTrue } from '../../api/conditions.ts';
import type { DefaultedSandbox } from '../../api/sandbox.ts';
import { RESTARTED_AT_ANNOTATION } from './limits.ts';
import { listSegments } from './logs/segments.ts';
import type { RunEnd, RunRecord } from './run-record.ts';

/**
 * A record in place of a damaged one. A sandbox that was finished or suspended stays so; any other run is left without
 * an end, for its caller to count as lost.
 */
export async function salvageRecord(
  object: DefaultedSandbox,
  logsDir: string,
  patched: boolean,
  now: Date,
): Promise<RunRecord> {
  const { status = {}, spec, metadata } = object;
  const { vm, lastTermination } = status;
  const startedAt = vm?.startedAt ?? status.startTime ?? now.toISOString();
  const end = salvagedEnd(object, startedAt, now);
  return {
    version: 1,
    // Its log must not be written over by the next run.
    run: Math.max(1, ...(await listSegments(logsDir)).map((segment) => segment.run)),
    restarts: status.restarts ?? 0,
    failures: 0,
    startedAt,
    activeSince: status.startTime ?? startedAt,
    restartedAt: metadata.annotations?.[RESTARTED_AT_ANNOTATION] ?? '',
    imageDigest: status.image?.digest ?? '',
    driver: vm?.driver ?? 'software',
    driverReason: vm?.reason ?? '',
    launchDigest: '',
    main: spec.main !== undefined,
    previousExit: '',
    // What its work changed since must not be undone. Without it the root is made anew.
    ...(patched ? { patched: true as const } : {}),
    ...(vm?.bootMilliseconds === undefined
      ? {}
      : { up: { at: startedAt, bootMilliseconds: vm.bootMilliseconds } }),
    ...(end === undefined ? {} : { end }),
    ...(end !== undefined || lastTermination === undefined
      ? {}
      : { former: terminationOf(lastTermination, startedAt, now) }),
  };
}

function salvagedEnd({ status }: DefaultedSandbox, startedAt: string, now: Date): RunEnd | undefined {
  const finished = isConditionTrue(status?.conditions, 'Finished');
  if (!finished && !isConditionTrue(status?.conditions, 'Suspended')) return undefined;
  const outcome = finished ? (status?.phase === 'Failed' ? 'Failed' : 'Succeeded') : 'Suspended';
  const told = status?.lastTermination ?? { reason: outcome };
  return { outcome, delayMs: 0, failures: 0, termination: terminationOf(told, startedAt, now) };
}

function terminationOf(
  told: NonNullable<NonNullable<DefaultedSandbox['status']>['lastTermination']>,
  startedAt: string,
  now: Date,
): RunEnd['termination'] {
  return { exitCode: 0, signal: '', message: '', startedAt, finishedAt: now.toISOString(), ...told };
}
