// Names of commands in a guest. How long a command waits for a client that went away stands in its name, so that a daemon
// that finds it later, of an earlier one's, knows that without a record.

/** Longer nobody waits: until then it holds its place among the commands of its sandbox. */
export const RESUME_SECONDS_MAX = 3600;
/** Ids come from clients: a UUID, as nobody can guess those of others. */
const ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const RESUMABLE = /^exec-r(\d{1,4})-([0-9a-f-]{36})$/;

export function isExecId(text: string): boolean {
  return ID.test(text);
}

/** Of a command that ends with its connection. */
export function execSessionId(id: string): string {
  return `exec-${id}`;
}

/** Of one that waits `seconds` for its client to come back. */
export function resumableSessionId(id: string, seconds: number): string {
  return `exec-r${seconds}-${id}`;
}

/** What the name of a session says; undefined where nobody can come back for it. */
export function resumableOf(sessionId: string): { id: string; seconds: number } | undefined {
  const [, seconds, id] = RESUMABLE.exec(sessionId) ?? [];
  if (seconds === undefined || id === undefined || !isExecId(id)) return undefined;
  return { id, seconds: Math.min(Number(seconds), RESUME_SECONDS_MAX) };
}
