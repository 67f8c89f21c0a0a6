// How `run` clears away sandboxes: that of a command that has ended, and an older one of the same name.
import { asBulkheadError } from '../api/errors.ts';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { StoredObject } from '../api/meta.ts';
import type { BulkheadClient } from '../client/client.ts';
import { CommandFailure, EXIT, report } from './failure.ts';
import { isFromFolder } from './folder-warning.ts';
import { goneGoal, waitFor } from './waiting.ts';

/** A command that has ended needs no more time than this to be cleared away. */
const REMOVE_TIMEOUT_MS = 60_000;

/** Never fails: the command's exit code is what counts. What is left then is said on standard error. */
export async function removeEnded(
  client: BulkheadClient,
  { metadata: { namespace, name, uid } }: StoredObject,
  timeoutMs = REMOVE_TIMEOUT_MS,
): Promise<void> {
  const deadline = AbortSignal.timeout(timeoutMs);
  try {
    const preconditions = { uid };
    await client.delete(SANDBOX_KIND, namespace, name, {
      ...{ gracePeriodSeconds: 0, preconditions, signal: deadline },
    });
    await waitFor(client, { kind: SANDBOX_KIND, namespace, name }, goneGoal(uid), deadline);
  } catch (error) {
    // The latter: another of the same name came after it.
    if (['NOT_FOUND', 'CONFLICT'].includes(asBulkheadError(error).code)) return;
    process.stderr.write(`warning: sandbox ${name} is not removed yet\n`);
    const late = `it was not removed within ${timeoutMs / 1_000} s; \`bulkhead describe\` says why`;
    report(deadline.aborted ? new CommandFailure(EXIT.bulkhead, late) : error);
  }
}

/**
 * Stops the sandbox of this name, within its own grace period, and waits until it is gone. Does nothing where there is none; fails where
 * a manifest folder would bring it back, or the deadline comes first.
 */
export async function removeOlder(
  client: BulkheadClient,
  namespace: string,
  name: string,
  deadline: AbortSignal,
): Promise<void> {
  try {
    const older = await client.get(SANDBOX_KIND, namespace, name);
    if (isFromFolder(older)) {
      throw new CommandFailure(
        EXIT.bulkhead,
        `sandbox ${name} comes from the manifest folder, which would bring it back: choose another name, or remove its manifest`,
      );
    }
    const { uid } = older.metadata;
    await client.delete(SANDBOX_KIND, namespace, name, { preconditions: { uid }, signal: deadline });
    await waitFor(client, { kind: SANDBOX_KIND, namespace, name }, goneGoal(uid), deadline);
  } catch (error) {
    // Another command was faster; whether the name is free now shows when it is taken.
    if (['NOT_FOUND', 'CONFLICT'].includes(asBulkheadError(error).code)) return;
    throw error;
  }
}
