// Options that a daemon has wherever its objects come from.
import { join, resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { parseBytes } from '../api/quantity.ts';
import { defaultSocket, defaultStateDir } from '../client/settings.ts';
import { logLevelOption } from './cluster-options.ts';
import { usage } from './failure.ts';
import { type RegistryFlags, registryOptions, registrySettings } from './registry-options.ts';

export interface HostFlags extends RegistryFlags {
  stateDir: string;
  volumeDir?: string;
  hostPathRoot: string[];
  socket?: string;
  metricsAddress: string;
  metricsDetail?: true;
  traceEndpoint?: URL;
  gatewayAuthority?: string;
  memoryOvercommit: number;
  minFreeDisk?: number;
  driver: (typeof DRIVERS)[number];
  logLevel: string;
}

const DRIVERS = ['auto', 'libkrun', 'software'] as const;
/** Guests take their memory as they need it and give it back, and most are idle: twice as many fit as would all at once. */
const MEMORY_OVERCOMMIT = 2;
const MEMORY_OVERCOMMIT_MIN = 0.1;
/** What idle guests use at least is about a hundredth of what they usually ask for. */
const MEMORY_OVERCOMMIT_MAX = 100;
/** For `--metrics-address`: no listener on TCP. */
const NO_METRICS = 'none';

export function hostOptions(command: Command): Command {
  return registryOptions(command)
    .option('--state-dir <dir>', 'where everything is kept', defaultStateDir())
    .option(
      '--volume-dir <dir>',
      'where the disks of volumes are kept (default: volumes in the state directory)',
    )
    .option(
      '--host-path-root <dir>',
      'directory of this host below which sandboxes may mount hostPath volumes; may be repeated (default: none)',
      (dir: string, dirs: string[]) => [...dirs, resolve(dir)],
      [] as string[],
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
    .option(
      '--memory-overcommit <factor>',
      'how much memory sandboxes may be given in all, as a multiple of what the host has',
      overcommit,
      MEMORY_OVERCOMMIT,
    )
    .option(
      '--min-free-disk <size>',
      'start nothing when less would be free on the disk of the state directory, and fetch no image below twice of it (default: 1Gi, at most a twentieth of the disk)',
      size,
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

function overcommit(text: string): number {
  const factor = Number(text);
  if (!(factor >= MEMORY_OVERCOMMIT_MIN && factor <= MEMORY_OVERCOMMIT_MAX))
    throw usage(
      `--memory-overcommit "${text}": expected a number from ${MEMORY_OVERCOMMIT_MIN} to ${MEMORY_OVERCOMMIT_MAX}`,
    );
  return factor;
}

function size(text: string): number {
  try {
    return parseBytes(text);
  } catch {
    throw usage(`--min-free-disk "${text}": expected a size such as 1Gi`);
  }
}

/** As the daemon takes them. */
export async function hostSettings(options: HostFlags) {
  const { metricsAddress, driver, logLevel, gatewayAuthority, traceEndpoint: endpoint } = options;
  const { memoryOvercommit, minFreeDisk } = options;
  const stateDir = resolve(options.stateDir);
  return {
    stateDir,
    volumeDir: resolve(options.volumeDir ?? join(stateDir, 'volumes')),
    hostPathRoots: options.hostPathRoot,
    socketPath: resolve(options.socket ?? defaultSocket(stateDir)),
    driver,
    memoryOvercommit,
    ...(minFreeDisk === undefined ? {} : { minFreeDiskBytes: minFreeDisk }),
    metricsDetail: options.metricsDetail === true,
    logLevel,
    registries: await registrySettings(options),
    ...(gatewayAuthority === undefined ? {} : { gatewayAuthority: resolve(gatewayAuthority) }),
    ...(endpoint === undefined ? {} : { traceEndpoint: endpoint }),
    ...(metricsAddress === NO_METRICS ? {} : { metricsAddress }),
  };
}
