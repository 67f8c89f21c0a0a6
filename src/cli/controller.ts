// bulkhead controller
import type { Command } from 'commander';
import {
  type ClusterFlags,
  clusterOptions,
  clusterSettings,
  logLevelOption,
  untilStopped,
} from './cluster-options.ts';

interface Options extends ClusterFlags {
  reservationImage: string;
  logLevel: string;
}

/** Kubernetes' own image for a container that does nothing. */
const PAUSE_IMAGE = 'registry.k8s.io/pause:3.10';

export function define(command: Command): void {
  clusterOptions(command)
    .option(
      '--reservation-image <image>',
      'of the Pods that hold the places of sandboxes: a container that does nothing until it is ended',
      PAUSE_IMAGE,
    )
    .addOption(logLevelOption())
    .action(controller);
}

async function controller(options: Options): Promise<void> {
  const { reservationImage, logLevel } = options;
  const signal = untilStopped();
  const { runController } = await import('../daemon/controller.ts');
  await runController({ ...clusterSettings(options), reservationImage, logLevel }, signal);
}
