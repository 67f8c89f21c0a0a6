// Where the command line finds things: options over environment over defaults.
import { homedir } from 'node:os';
import { join } from 'node:path';

/** The daemon's directory: the system's for root, the user's own otherwise. */
export function defaultStateDir(): string {
  const { BULKHEAD_STATE_DIR, XDG_STATE_HOME } = process.env;
  if (BULKHEAD_STATE_DIR) return BULKHEAD_STATE_DIR;
  if (process.getuid?.() === 0) return '/var/lib/bulkhead';
  return join(XDG_STATE_HOME || join(homedir(), '.local', 'state'), 'bulkhead');
}

/** The daemon's socket. */
export function defaultSocket(stateDir = defaultStateDir()): string {
  return process.env.BULKHEAD_SOCKET || join(stateDir, 'bulkhead.sock');
}

export function defaultNamespace(): string {
  return process.env.BULKHEAD_NAMESPACE || 'default';
}
