// bulkhead node
import { hostname } from 'node:os';
import { type Command, Option } from 'commander';
import { type ClusterFlags, clusterOptions, clusterSettings, untilStopped } from './cluster-options.ts';
import { type HostFlags, hostOptions, hostSettings } from './host-options.ts';

interface Options extends HostFlags, ClusterFlags {
  nodeName: string;
  subresourcesAddress?: string;
}

export function define(command: Command): void {
  clusterOptions(hostOptions(command))
    .addOption(
      new Option('--node-name <name>', 'the Node that this machine is')
        .default(hostname())
        .env('BULKHEAD_NODE_NAME'),
    )
    .option(
      '--subresources-address <host:port>',
      'where the controllers of the cluster reach sandboxes (default: nowhere)',
    )
    .action(node);
}

async function node(options: Options): Promise<void> {
  const settings = await hostSettings(options);
  const signal = untilStopped();
  const { runDaemon } = await import('../daemon/daemon.ts');
  const { nodeName, subresourcesAddress } = options;
  const node = {
    ...{ ...clusterSettings(options), nodeName },
    ...(subresourcesAddress === undefined ? {} : { subresourcesAddress }),
  };
  await runDaemon({ ...settings, node }, signal);
}
