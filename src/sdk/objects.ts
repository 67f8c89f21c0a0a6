// A Sandbox object as the SDK sees it, and waiting until it is as wanted.
import { BulkheadError } from '../api/errors.ts';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { Condition, StoredObject } from '../api/meta.ts';
import { codeOfReason } from '../api/status.ts';
import { isUnreachable } from '../client/endpoint.ts';
import { followObjects } from '../client/follow.ts';
import type { Connection } from './connection.ts';
import type { SandboxStatus } from './enums.ts';
import type { ExitStatus } from './exec-output.ts';

const STATUS_BY_PHASE: Record<string, SandboxStatus> = {
  Pending: 'starting',
  Starting: 'starting',
  Running: 'running',
  Stopping: 'draining',
  Suspended: 'stopped',
  Succeeded: 'stopped',
  Failed: 'crashed',
};

export interface SandboxInfo {
  name: string;
  status: SandboxStatus;
  /** The spec of the Sandbox object as JSON. */
  configJson: string;
  createdAt: Date;
  updatedAt: Date;
}

/** The parts of a status that are read here. */
interface StatusView {
  phase?: string;
  conditions?: readonly Condition[];
  nodeName?: string;
  lastTermination?: { exitCode?: number; reason?: string };
}

export function statusViewOf(object: StoredObject): StatusView {
  return (object.status ?? {}) as StatusView;
}

export function sandboxStatusOf(object: StoredObject): SandboxStatus {
  return STATUS_BY_PHASE[statusViewOf(object).phase ?? 'Pending'] ?? 'crashed';
}

/** A condition that speaks of the present spec. */
export function conditionOf(object: StoredObject, type: string): Condition | undefined {
  return statusViewOf(object).conditions?.find(
    (each) =>
      each.type === type &&
      (each.observedGeneration ?? object.metadata.generation) >= object.metadata.generation,
  );
}

export function isTrue(object: StoredObject, type: string): boolean {
  return conditionOf(object, type)?.status === 'True';
}

export function infoOf(object: StoredObject): SandboxInfo {
  const { name, creationTimestamp } = object.metadata;
  const ready = conditionOf(object, 'Ready');
  return {
    ...{ name, status: sandboxStatusOf(object), configJson: JSON.stringify(object.spec) },
    createdAt: new Date(creationTimestamp),
    updatedAt: new Date(ready?.lastTransitionTime ?? creationTimestamp),
  };
}

/** It has a node, and so an agent that answers for it. */
export function isPlaced(object: StoredObject): boolean {
  return statusViewOf(object).nodeName !== undefined;
}

/** How the sandbox's own program, or else its VM, ended last. */
export function exitOf(object: StoredObject | undefined): ExitStatus {
  const code = object === undefined ? 0 : (statusViewOf(object).lastTermination?.exitCode ?? 0);
  return { code, success: code === 0 };
}

/** Why a sandbox will not get Ready, as a failure with the code of its reason. */
export function refusalOf(object: StoredObject): BulkheadError | undefined {
  const stalled = conditionOf(object, 'Stalled');
  if (stalled?.status === 'True') return new BulkheadError(codeOfReason(stalled.reason), stalled.message);
  const finished = conditionOf(object, 'Finished');
  if (finished?.status !== 'True') return undefined;
  return new BulkheadError(
    'SANDBOX_NOT_RUNNING',
    `the sandbox ended: ${finished.reason}: ${finished.message}`,
  );
}

/**
 * Resolves with the first state of the object that is wanted (`undefined`: it is gone). A daemon that restarts meanwhile is
 * waited for. Rejects with the signal's reason.
 */
export async function waitUntil(
  { client, namespace }: Connection,
  name: string,
  wanted: (object: StoredObject | undefined) => boolean,
  signal: AbortSignal,
): Promise<StoredObject | undefined> {
  const query = { namespace, fieldSelector: `metadata.name=${name}` };
  let hasAnswered = false;
  for (;;) {
    signal.throwIfAborted();
    const stop = new AbortController();
    try {
      for await (const change of followObjects(
        client,
        SANDBOX_KIND,
        query,
        AbortSignal.any([signal, stop.signal]),
      )) {
        hasAnswered = true;
        const object =
          change.type === 'SYNCED'
            ? change.objects[0]
            : change.type === 'DELETED'
              ? undefined
              : change.object;
        if (wanted(object)) return object;
      }
    } catch (error) {
      signal.throwIfAborted();
      const isRestart = isUnreachable(error) && hasAnswered;
      if (!isRestart) throw error;
      await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
    } finally {
      stop.abort();
    }
  }
}

/** How soon to ask again for a daemon that is being restarted. */
export const RECONNECT_MS = 300;
