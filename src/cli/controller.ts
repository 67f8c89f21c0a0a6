// bulkhead controller
import type { Command } from 'commander';
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
}

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
    .addOption(logLevelOption())
    .action(controller);
}

async function controller(options: Options): Promise<void> {
  const { reservationImage, logLevel } = options;
  const leaseDurationMs = parseDuration(options.leaderElectLeaseDuration);
  if (leaseDurationMs < MIN_LEASE_MS) throw usage('--leader-elect-lease-duration: at least 1s');
  const signal = untilStopped();
  const { runController } = await import('../daemon/controller.ts');
  await runController({ ...clusterSettings(options), reservationImage, logLevel, leaseDurationMs }, signal);
}
