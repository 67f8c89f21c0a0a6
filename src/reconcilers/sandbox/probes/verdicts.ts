// What probes mean for a sandbox, as pure functions of an observation.
import { REASONS } from '../../../api/conditions.ts';
import type { SandboxProbe } from '../../../api/sandbox-probes.ts';
import type { Observation, ProbeKind } from '../observation.ts';

const NONE: ReadonlyMap<ProbeKind, SandboxProbe> = new Map();

/** The probes that are to be under way in a guest that is up: the startup probe holds the others back. */
export function wantedProbes({ object, probes }: Observation): ReadonlyMap<ProbeKind, SandboxProbe> {
  const { startupProbe, readinessProbe, livenessProbe } = object?.spec ?? {};
  if (startupProbe === undefined && readinessProbe === undefined && livenessProbe === undefined) return NONE;
  const wanted = new Map<ProbeKind, SandboxProbe>();
  if (startupProbe !== undefined && probes.startup?.passed !== true) wanted.set('startup', startupProbe);
  else {
    if (readinessProbe !== undefined) wanted.set('readiness', readinessProbe);
    if (livenessProbe !== undefined) wanted.set('liveness', livenessProbe);
  }
  // One that has failed has said all: its VM is stopped.
  for (const kind of ['startup', 'liveness'] as const)
    if (probes[kind]?.passed === false) wanted.delete(kind);
  return wanted;
}

/** The probe for whose failure the VM is stopped. */
export function fatalProbe({
  probes,
}: Observation): { reason: 'StartupProbeFailed' | 'LivenessProbeFailed'; message: string } | undefined {
  if (probes.startup?.passed === false)
    return { reason: 'StartupProbeFailed', message: probes.startup.message };
  if (probes.liveness?.passed === false)
    return { reason: 'LivenessProbeFailed', message: probes.liveness.message };
  return undefined;
}

/** Is the hook after the start of the main process still to be done, or under way? */
export function postStartPending({ object, record }: Observation): boolean {
  return object?.spec.lifecycle?.postStart !== undefined && record?.postStart === 'pending';
}

/** Why a guest that is up is not Ready. The words do not change from try to try, so that they cost no writes. */
export function notReady(o: Observation): { reason: string; message: string } | undefined {
  const { startup, readiness } = o.probes;
  if (postStartPending(o))
    return { reason: REASONS.PostStartHookRunning, message: 'The postStart hook is under way.' };
  if (startup !== undefined && startup.passed !== true)
    return { reason: REASONS.StartupProbePending, message: 'The startup probe has not succeeded yet.' };
  if (readiness === undefined || readiness.passed === true) return undefined;
  if (readiness.passed === false) return { reason: REASONS.ReadinessProbeFailed, message: readiness.message };
  return { reason: REASONS.ReadinessProbePending, message: 'The readiness probe has not succeeded yet.' };
}
