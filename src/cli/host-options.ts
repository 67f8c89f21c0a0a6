// Options that a daemon has wherever its objects come from.
import { join, resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { defaultSocket, defaultStateDir } from '../client/settings.ts';
import { logLevelOption } from './cluster-options.ts';
import { type RegistryFlags, registryOptions, registrySettings } from './registry-options.ts';

export interface HostFlags extends RegistryFlags {
  stateDir: string;
  volumeDir?: string;
  socket?: string;
  metricsAddress: string;
  metricsDetail?: true;
  traceEndpoint?: URL;
  gatewayAuthority?: string;
  driver: (typeof DRIVERS)[number];
  logLevel: string;
}

const DRIVERS = ['auto', 'libkrun', 'software'] as const;
/** For `--metrics-address`: no listener on TCP. */
const NO_METRICS = 'none';

export function hostOptions(command: Command): Command {
  return registryOptions(command)
    .option('--state-dir <dir>', 'where everything is kept', defaultStateDir())
    .option(
      '--volume-dir <dir>',
      'where the disks of volumes are kept (default: volumes in the state directory)',
    )
    .option('--socket <path>', 'socket of the API (default: bulkhead.sock in the state directory)')
    .option(
      '--metrics-address <host:port>',
      `where /metrics, /healthz and /readyz are served, or ${NO_METRICS}`,
      '127.0.0.1:9464',
    )
    .option('--metrics-detail', 'more series of each sandbox: every condition, and all that guests tell')
    .option(
      '--trace-endpoint <url>',
      'OpenTelemetry collector (OTLP over HTTP) that gets a trace of each start',
      traceEndpoint,
    )
    .option(
      '--gateway-authority <file>',
      'PEM file with the certificate and the ECDSA P-256 key of the authority that opened TLS is vouched for by (default: one is made)',
    )
    .addOption(
      new Option(
        '--driver <driver>',
        'what may run VMs; auto: libkrun where a trial VM answers, else the software driver',
      )
        .choices(DRIVERS)
        .default('auto')
        .env('BULKHEAD_DRIVER'),
    )
    .addOption(logLevelOption());
}

/** Refused with a reason where it cannot be one. */
function traceEndpoint(text: string): URL {
  const url = URL.parse(text);
  if (url === null || !['http:', 'https:'].includes(url.protocol))
    throw new InvalidArgumentError('It has to be a URL with http or https.');
  // Everybody on the host sees arguments.
  if (url.username !== '' || url.password !== '')
    throw new InvalidArgumentError('Give credentials in OTEL_EXPORTER_OTLP_HEADERS, not in the URL.');
  return url;
}

/** As the daemon takes them. */
export async function hostSettings(options: HostFlags) {
  const { metricsAddress, driver, logLevel, gatewayAuthority, traceEndpoint: endpoint } = options;
  const stateDir = resolve(options.stateDir);
  return {
    stateDir,
    volumeDir: resolve(options.volumeDir ?? join(stateDir, 'volumes')),
    socketPath: resolve(options.socket ?? defaultSocket(stateDir)),
    driver,
    metricsDetail: options.metricsDetail === true,
    logLevel,
    registries: await registrySettings(options),
    ...(gatewayAuthority === undefined ? {} : { gatewayAuthority: resolve(gatewayAuthority) }),
    ...(endpoint === undefined ? {} : { traceEndpoint: endpoint }),
    ...(metricsAddress === NO_METRICS ? {} : { metricsAddress }),
  };
}
