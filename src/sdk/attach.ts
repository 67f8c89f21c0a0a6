// This process's terminal, connected to a command in a sandbox.
import { RESUME_SECONDS_MAX } from '../api/exec-sessions.ts';
import type { ExecQuery } from '../api/wire.ts';
import type { ResumableConnection } from '../client/resumable.ts';
import { parseDetachKeys, runSession, windowSize } from '../client/terminal/session.ts';
import { failure } from './errors.ts';
import { newExecId } from './exec.ts';

export interface AttachOptions {
  cwd?: string;
  user?: string;
  env?: Record<string, string>;
  /** Keys that leave the command running, such as `ctrl-p,ctrl-q`. Default: `ctrl-]`. */
  detachKeys?: string;
  /**
   * Told at the detach keys, with what `Sandbox.resumeExec` takes. The command goes on for an hour, or until it has put out
   * 256 KiB that nobody reads, which holds it back.
   */
  onDetach?: (command: DetachedExec) => void;
}

/** A command that somebody let go of. */
export interface DetachedExec {
  id: string;
  /** Bytes of its output that have arrived. */
  stdoutOffset: number;
  stderrOffset: number;
}

export interface AttachConfig extends AttachOptions {
  cmd: string;
  args?: readonly string[];
}

const DEFAULT_DETACH_KEYS = 'ctrl-]';
/** Who sits at a terminal waits for a daemon that restarts, and not for one that is gone. */
const RETRY_SECONDS = 15;

export async function attachTerminal(
  open: (
    query: ExecQuery & { id: string; resumeSeconds: number },
    retrySeconds: number,
  ) => Promise<ResumableConnection>,
  config: AttachConfig,
): Promise<number> {
  const { cmd, args = [], cwd, user, env = {}, detachKeys: keys = DEFAULT_DETACH_KEYS } = config;
  const detachKeys = parseDetachKeys(keys);
  if (detachKeys === undefined)
    throw failure('INVALID', `detachKeys "${keys}": expected keys such as ctrl-] or ctrl-p,ctrl-q`);
  const { TERM } = process.env;
  const variables = { ...(TERM === undefined ? {} : { TERM }), ...env };
  const id = newExecId();
  const query = {
    ...{ command: [cmd, ...args], stdin: true, stdout: true, stderr: true, tty: true, ...windowSize() },
    ...{ id, resumeSeconds: RESUME_SECONDS_MAX },
    env: Object.entries(variables).map(([name, value]) => `${name}=${value}`),
    ...(cwd === undefined ? {} : { workingDir: cwd }),
    ...(user === undefined ? {} : { user }),
  };
  const connection = await open(query, RETRY_SECONDS);
  const leave = (): void => connection.leave();
  const session = { stdin: true, tty: true, forwardSignals: false, detachKeys, leave };
  const end = await runSession(connection, session);
  if (end.type === 'exited') return end.exit.exitCode;
  config.onDetach?.({ id, stdoutOffset: connection.offsets.stdout, stderrOffset: connection.offsets.stderr });
  return 0;
}
