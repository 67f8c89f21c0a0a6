// This process's terminal, connected to a command in a sandbox.
import type { ExecQuery } from '../api/wire.ts';
import type { StreamConnection } from '../client/stream.ts';
import { parseDetachKeys, runSession, windowSize } from '../client/terminal/session.ts';
import { failure } from './errors.ts';

export interface AttachOptions {
  cwd?: string;
  user?: string;
  env?: Record<string, string>;
  /** Keys that leave the command running, such as `ctrl-p,ctrl-q`. Default: `ctrl-]`. */
  detachKeys?: string;
}

export interface AttachConfig extends AttachOptions {
  cmd: string;
  args?: readonly string[];
}

const DEFAULT_DETACH_KEYS = 'ctrl-]';

export async function attachTerminal(
  open: (query: ExecQuery) => Promise<StreamConnection>,
  config: AttachConfig,
): Promise<number> {
  const { cmd, args = [], cwd, user, env = {}, detachKeys: keys = DEFAULT_DETACH_KEYS } = config;
  const detachKeys = parseDetachKeys(keys);
  if (detachKeys === undefined)
    throw failure('INVALID', `detachKeys "${keys}": expected keys such as ctrl-] or ctrl-p,ctrl-q`);
  const { TERM } = process.env;
  const variables = { ...(TERM === undefined ? {} : { TERM }), ...env };
  const connection = await open({
    ...{ command: [cmd, ...args], stdin: true, stdout: true, stderr: true, tty: true, ...windowSize() },
    env: Object.entries(variables).map(([name, value]) => `${name}=${value}`),
    ...(cwd === undefined ? {} : { workingDir: cwd }),
    ...(user === undefined ? {} : { user }),
  });
  const end = await runSession(connection, { stdin: true, tty: true, forwardSignals: false, detachKeys });
  return end.type === 'exited' ? end.exit.exitCode : 0;
}
