// Events of a Sandbox, with reasons that programs may match on. Messages never carry values of Secrets or variables.
import type { DefaultedSandbox } from '../../api/sandbox.ts';
import type { EventRecord } from '../../store/store.ts';
import { MESSAGE_MAX_CHARS } from './limits.ts';

/** Reason and type of every event; `Warning` only where a person may have to act. */
export const EVENTS = {
  Pulling: 'Normal',
  Pulled: 'Normal',
  FailedPull: 'Warning',
  WaitsForVolume: 'Normal',
  FailedUpdate: 'Warning',
  FailedScheduling: 'Warning',
  DriverSelected: 'Normal',
  Started: 'Normal',
  Adopted: 'Normal',
  FailedStart: 'Warning',
  FailedBoot: 'Warning',
  NetworkUnavailable: 'Warning',
  Limited: 'Warning',
  Recreated: 'Normal',
  Running: 'Normal',
  DiskFull: 'Warning',
  Resumed: 'Normal',
  Unhealthy: 'Warning',
  FailedPostStartHook: 'Warning',
  FailedPreStopHook: 'Warning',
  Stopping: 'Normal',
  Killing: 'Warning',
  Suspended: 'Normal',
  Completed: 'Normal',
  Failed: 'Warning',
  BackOff: 'Warning',
  Restarting: 'Normal',
  LogLost: 'Warning',
  FailedRelease: 'Warning',
  Expired: 'Normal',
} as const satisfies Record<string, EventRecord['type']>;
export type EventReason = keyof typeof EVENTS;

/** Writes events; never fails and never waits. The runtime's `EventRecorder` is one. */
export interface SandboxEventRecorder {
  event(object: DefaultedSandbox, type: EventRecord['type'], reason: string, message: string): void;
}

export function emit(
  recorder: SandboxEventRecorder,
  object: DefaultedSandbox,
  reason: EventReason,
  message: string,
): void {
  recorder.event(object, EVENTS[reason], reason, message.slice(0, MESSAGE_MAX_CHARS));
}
