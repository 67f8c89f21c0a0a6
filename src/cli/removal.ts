// How `run` clears away the sandbox of a command that has ended.
import { asBulkheadError } from '../api/errors.ts';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { StoredObject } from '../api/meta.ts';
import type { BulkheadClient } from '../client/client.ts';
import { CommandFailure, EXIT, report } from './failure.ts';
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
