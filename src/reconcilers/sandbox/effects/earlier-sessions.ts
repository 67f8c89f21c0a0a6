// What an earlier daemon began in a guest beside main process and hooks: commands and transfers whose clients are gone with it.
import { resumableOf } from '../../../api/exec-sessions.ts';
import type { Clock } from '../../../controller/clock.ts';
import type { GuestAgent } from '../../../guest/agent.ts';
import { SESSIONS_OF_A_RUN } from '../launch.ts';

/**
 * Ends them, so that they take no place in the guest's table: those whose clients may come back once that time is over,
 * unless one has come. Returns what gives the waiting up.
 */
export function endEarlierSessions(agent: GuestAgent, clock: Clock): () => void {
  const cancel: (() => void)[] = [];
  for (const { sessionId } of agent.hello.sessions) {
    if (SESSIONS_OF_A_RUN.includes(sessionId)) continue;
    // Where it fails the guest is not reached; the next daemon or connection finds the same.
    const end = (): void => void agent.endSession(sessionId).catch(() => {});
    const { seconds = 0 } = resumableOf(sessionId) ?? {};
    if (seconds === 0) end();
    else cancel.push(clock.after(seconds * 1000, end));
  }
  return () => {
    for (const each of cancel) each();
  };
}
