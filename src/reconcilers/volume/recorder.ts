// Events of a Volume, with reasons that programs may match on.
import type { DefaultedVolume } from '../../api/volume.ts';
import type { EventRecord } from '../../store/store.ts';
import { MESSAGE_MAX_CHARS } from './limits.ts';

/** Reason and type of every event; `Warning` only where a person may have to act. */
export const EVENTS = {
  Provisioned: 'Normal',
  TakenUp: 'Normal',
  FailedProvision: 'Warning',
  Checked: 'Normal',
  Repaired: 'Warning',
  Damaged: 'Warning',
  FailedCheck: 'Warning',
  Resized: 'Normal',
  FailedResize: 'Warning',
  ShrinkRefused: 'Warning',
  NearlyFull: 'Warning',
  QuotaExceeded: 'Warning',
  Retained: 'Normal',
  Removed: 'Normal',
  FailedReclaim: 'Warning',
} as const satisfies Record<string, EventRecord['type']>;
export type EventReason = keyof typeof EVENTS;

/** Writes events; never fails and never waits. The runtime's `EventRecorder` is one. */
export interface VolumeEventRecorder {
  event(object: DefaultedVolume, type: EventRecord['type'], reason: string, message: string): void;
}

export function emit(
  recorder: VolumeEventRecorder,
  object: DefaultedVolume,
  reason: EventReason,
  message: string,
): void {
  recorder.event(object, EVENTS[reason], reason, message.slice(0, MESSAGE_MAX_CHARS));
}
