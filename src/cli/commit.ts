// bulkhead commit
import type { Command } from 'commander';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';

export function define(command: Command): void {
  connectionOptions(command)
    .argument('<sandbox>')
    .argument('<image>', 'name of the new image, e.g. tools:1')
    .addHelpText(
      'after',
      '\nVolumes are not part of it. A sandbox that runs stands still while its disk is copied, for a minute at most.',
    )
    .action(commit);
}

async function commit(sandbox: string, image: string, options: ConnectionOptions): Promise<void> {
  const made = await withClient(options, (client) => client.commit(options.namespace, sandbox, image));
  process.stdout.write(`${made.reference}@${made.digest}\n`);
}
