// bulkhead controller
import { type Command, InvalidArgumentError } from 'commander';
import {
  type ClusterFlags,
  clusterOptions,
  clusterSettings,
  logLevelOption,
  untilStopped,
} from './cluster-options.ts';
import { parseDuration } from './duration.ts';
import { usage } from './failure.ts';

interface Options extends ClusterFlags {
  reservationImage: string;
  logLevel: string;
  leaderElectLeaseDuration: string;
  subresourcesAddress?: string;
  subresourcesService: string;
  agentPort: number;
  agentAccount: string;
}

/** Of agents, where nothing else is said. */
const AGENT_PORT = 9466;

/** A Lease counts in whole seconds, and renewing is three requests or so in that time. */
const MIN_LEASE_MS = 1_000;
/** Kubernetes' own image for a container that does nothing. */
const PAUSE_IMAGE = 'registry.k8s.io/pause:3.10';

export function define(command: Command): void {
  clusterOptions(command)
    .option(
      '--reservation-image <image>',
      'of the Pods that hold the places of sandboxes: a container that does nothing until it is ended',
      PAUSE_IMAGE,
    )
    .option(
      '--leader-elect-lease-duration <duration>',
      'how long another controller waits for one that leads and is silent; the same for all of them',
      '15s',
    )
    .option(
      '--subresources-address <host:port>',
      "where exec, logs and the like of sandboxes are served to the cluster's API server (default: nowhere)",
    )
    .option(
      '--subresources-service <name>',
      'Service by which the API server reaches that address',
      'bulkhead-controller',
    )
    .option('--agent-port <port>', 'of agents, on each node', portOf, AGENT_PORT)
    .option('--agent-account <name>', 'service account of agents', 'bulkhead-node')
    .addOption(logLevelOption())
    .action(controller);
}

function portOf(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port < 1 || port > 65_535)
    throw new InvalidArgumentError('expected a port from 1 to 65535');
  return port;
}

async function controller(options: Options): Promise<void> {
  const { reservationImage, logLevel, subresourcesAddress: address } = options;
  const { subresourcesService: service, agentPort, agentAccount } = options;
  const leaseDurationMs = parseDuration(options.leaderElectLeaseDuration);
  if (leaseDurationMs < MIN_LEASE_MS) throw usage('--leader-elect-lease-duration: at least 1s');
  const signal = untilStopped();
  const { runController } = await import('../daemon/controller.ts');
  const subresources =
    address === undefined ? {} : { subresources: { address, service, agentPort, agentAccount } };
  const settings = { ...clusterSettings(options), reservationImage, logLevel, leaseDurationMs };
  await runController({ ...settings, ...subresources }, signal);
}
