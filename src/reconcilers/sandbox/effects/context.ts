// What every effect works with.
import { BulkheadError } from '../../../api/errors.ts';
import type { DefaultedSandbox } from '../../../api/sandbox.ts';
import type { SandboxReconcilerDeps } from '../dependencies.ts';
import type { SandboxLogs } from '../logs/logs.ts';
import type { Observation } from '../observation.ts';
import type { RunRecord } from '../run-record.ts';
import type { SandboxRuntime } from '../runtime/sandbox-runtime.ts';

export interface EffectContext {
  deps: SandboxReconcilerDeps;
  logs: SandboxLogs;
  runtime: SandboxRuntime;
  object: DefaultedSandbox;
  observation: Observation;
  /** What failures depend on: a failure is void when this changes. */
  inputs: string;
}

/** The record that an effect changes must be there: a change without one is a fault of ours. */
export function known(record: RunRecord | undefined): RunRecord {
  if (record === undefined) throw new BulkheadError('INTERNAL', 'The record of the run is missing.');
  return record;
}
