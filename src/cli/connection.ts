// The options that every command with a daemon has, and the client they lead to.
import type { Command } from 'commander';
import type { BulkheadClient } from '../client/client.ts';
import { defaultNamespace, defaultSocket } from '../client/settings.ts';

export interface ConnectionOptions {
  socket: string;
  namespace: string;
}

/** Adds -n and --socket. */
export function connectionOptions(command: Command): Command {
  return command
    .option('-n, --namespace <name>', 'namespace of the objects', defaultNamespace())
    .option('--socket <path>', "the daemon's socket", defaultSocket());
}

/** Runs with a client that is closed afterwards. Loaded here: what needs no daemon starts without it. */
export async function withClient<T>(
  options: ConnectionOptions,
  run: (client: BulkheadClient) => Promise<T>,
): Promise<T> {
  const { BulkheadClient } = await import('../client/client.ts');
  const client = new BulkheadClient({ socketPath: options.socket });
  try {
    return await run(client);
  } finally {
    client.close();
  }
}
