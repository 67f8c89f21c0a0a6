// When a sandbox has to be looked at again although nothing may happen to it.
import {
  activeDeadlineIn,
  backoffIn,
  bootDeadlineIn,
  idleTimeoutIn,
  isDeleted,
  shutdownTimeIn,
  ttlIn,
} from './decisions.ts';
import {
  AGENT_REPLACE_MS,
  AGENT_SILENCE_MS,
  PROGRESS_WRITE_INTERVAL_MS,
  REFERENCE_RETRY_MS,
  ROOM_RETRY_MS,
  WALL_CLOCK_RECHECK_MS,
} from './limits.ts';
import type { Step } from './machine.ts';
import type { Observation } from './observation.ts';

/**
 * Milliseconds until the next moment that matters; `undefined` when only a change does. A moment that has come already is
 * none: this very step acted on it, and what it began wakes the key at its end. To look again at once would be a loop
 * that lets nothing else of the process run.
 */
export function nextWake(o: Observation, { state }: Step): number | undefined {
  const times: (number | undefined)[] = [o.failure?.retryInMs];
  const finished = state === 'Succeeded' || state === 'Failed';
  if (finished) times.push(ttlIn(o));
  if (!finished && !isDeleted(o)) {
    const shutdown = shutdownTimeIn(o);
    times.push(activeDeadlineIn(o), bootDeadlineIn(o));
    // The wall clock may jump while a timer runs.
    if (shutdown !== undefined) times.push(Math.min(shutdown, WALL_CLOCK_RECHECK_MS));
  }
  if (state === 'Running') times.push(idleTimeoutIn(o));
  if (state === 'BackingOff') times.push(backoffIn(o));
  if (state === 'Running' && !o.agent.connected && o.agent.silentMs < AGENT_SILENCE_MS) {
    times.push(AGENT_SILENCE_MS - o.agent.silentMs);
  }
  if (state === 'Running' && !o.agent.connected && o.agent.silentMs < AGENT_REPLACE_MS) {
    times.push(AGENT_REPLACE_MS - o.agent.silentMs);
  }
  if (o.missing.length > 0 || (state === 'Preparing' && o.volumes.problem !== undefined))
    times.push(REFERENCE_RETRY_MS);
  if (state === 'Preparing' && o.room.problem !== undefined) times.push(ROOM_RETRY_MS);
  if (state === 'Preparing' && o.image === undefined) times.push(PROGRESS_WRITE_INTERVAL_MS);
  const ahead = times.filter((time) => time !== undefined && time > 0 && Number.isFinite(time)) as number[];
  return ahead.length === 0 ? undefined : Math.min(...ahead);
}
