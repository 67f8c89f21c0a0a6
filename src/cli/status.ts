// bulkhead status
import type { Command } from 'commander';
import { SANDBOX_KIND, VOLUME_KIND } from '../api/kinds.ts';
import { type ConnectionOptions, connectionOptions, withClient } from './connection.ts';
import { byTime } from './events.ts';
import { statusPage } from './status-page.ts';

export function define(command: Command): void {
  connectionOptions(command)
    .addHelpText('after', '\nShows all namespaces. Exit codes: 0 the daemon answers, 1 it does not.')
    .action(status);
}

async function status(options: ConnectionOptions): Promise<void> {
  const facts = await withClient(options, async (client) => {
    const [version, sandboxes, volumes, events, samples, { checks }] = await Promise.all([
      client.version(),
      client.list(SANDBOX_KIND),
      client.list(VOLUME_KIND),
      client.events({}),
      // Of one host.
      client.isCluster ? [] : client.metrics(),
      client.isCluster ? { checks: [] } : client.doctor(),
    ]);
    return {
      version: version.gitVersion,
      sandboxes: sandboxes.items,
      volumes: volumes.items,
      warnings: events.filter(({ type }) => type === 'Warning').sort(byTime),
      samples,
      checks,
    };
  });
  process.stdout.write(statusPage(facts, Date.now()));
}
