// Label values come from lists: what a guest or a registry says can never make a new series.
import { REASONS } from '../api/conditions.ts';
import { ERRORS } from '../api/errors.ts';

/** For what no list names. */
export const OTHER = 'Other';

const KNOWN_REASONS = new Set<string>([
  ...Object.values(REASONS),
  ...Object.values(ERRORS).map(({ reason }) => reason),
  // Why a run that was not the guest's own doing ended.
  'Deleted',
  'Killed',
]);

/** The reason itself where the product defines it, otherwise `Other`. */
export function reasonLabel(reason: string): string {
  return KNOWN_REASONS.has(reason) ? reason : OTHER;
}

/** Stages of a start: the driver's, then those of the guest's bring-up. */
const START_STAGES = [
  'image',
  'queue',
  'disk',
  'template',
  'spawn',
  'restore',
  'kernel',
  'connect',
  'root',
  'personalize',
  'patches',
  'volumes',
  'network',
  'trust',
  'main',
] as const;

export type StartStage = (typeof START_STAGES)[number];

/** The stage itself where it is known, otherwise `other`. */
export function stageLabel(stage: string): string {
  return (START_STAGES as readonly string[]).includes(stage) ? stage : 'other';
}
