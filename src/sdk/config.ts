// What a program asks of a sandbox, and the Sandbox object that says the same.
import { UNHELD_ANNOTATION } from '../api/annotations.ts';
import { SANDBOX_KIND } from '../api/kinds.ts';
import { GROUP_VERSION, type ObjectManifest } from '../api/meta.ts';
import { LogLevel, type PullPolicy } from './enums.ts';
import { failure } from './errors.ts';
import { type MountConfig, volumesOf } from './mounts.ts';
import { type NetworkConfig, policySpecOf } from './network.ts';
import { hasOwned, OWN_LABEL } from './owned.ts';
import { type PatchConfig, type PatchDigests, patchesOf } from './patches.ts';
import { type SecretEntry, secretsOf } from './secrets.ts';

export interface RegistryCredentials {
  username: string;
  password: string;
  /** Host of the registry; default: that of the image. */
  registry?: string;
}

export interface SandboxConfig {
  /** Made up when absent; an attached sandbox without a name is removed when it ends. */
  name?: string;
  image: string;
  /** Default: 512. */
  memoryMib?: number;
  /** Default: 1. */
  cpus?: number;
  /** Size of the writable disk in MiB. Default: 4096. */
  diskMib?: number;
  workdir?: string;
  /** What `shell` and `attachShell` run. Default: /bin/sh. */
  shell?: string;
  /** With `cmd`: the sandbox's own program, which runs from the start and ends the sandbox with itself. */
  entrypoint?: readonly string[];
  cmd?: readonly string[];
  hostname?: string;
  user?: string;
  env?: Record<string, string>;
  /** Programs by name, put into /usr/local/bin before `create` resolves. */
  scripts?: Record<string, string>;
  /** Mounts by their path in the sandbox. */
  volumes?: Record<string, MountConfig>;
  /** Changes to the root file system before the sandbox is used, in order. */
  patches?: readonly PatchConfig[];
  /** Default: `if-missing`. */
  pullPolicy?: PullPolicy;
  /** Used for this pull only, and kept nowhere; in a cluster in a Secret that goes with the sandbox. */
  registryAuth?: RegistryCredentials;
  /** Stops and removes an older sandbox of this name first. */
  replace?: boolean;
  labels?: Record<string, string>;
  /** Asks the sandbox's own program to end. Default: the image's, else SIGTERM. */
  stopSignal?: string;
  /** Ends the sandbox after it has run for so long. */
  maxDurationSecs?: number;
  /** Ends the sandbox after so long without use. */
  idleTimeoutSecs?: number;
  /** Guest ports by host port; 127.0.0.1 alone can reach them. */
  ports?: Record<number, number>;
  /** What it may reach, beside what policies of the namespace say. Default: public addresses. */
  network?: NetworkConfig;
  /** Values that its requests carry and its program never sees. */
  secrets?: readonly SecretEntry[];
  /** What runs the VM. Default: `auto`. */
  driver?: 'auto' | 'libkrun' | 'software';
  /**
   * Taken so that programs that say it run, and without effect: one daemon logs for all its sandboxes, with the level that it
   * was started with.
   */
  logLevel?: LogLevel;
  /** The same. */
  quietLogs?: boolean;
}

/** Every field, so that one that is left out here does not compile. */
const FIELDS: Readonly<Record<keyof SandboxConfig, true>> = {
  ...{ name: true, image: true, memoryMib: true, cpus: true, diskMib: true, workdir: true, shell: true },
  ...{ entrypoint: true, cmd: true, hostname: true, user: true, env: true, scripts: true, volumes: true },
  ...{ patches: true, pullPolicy: true, registryAuth: true, replace: true, labels: true },
  ...{ maxDurationSecs: true, idleTimeoutSecs: true, ports: true, driver: true },
  ...{ network: true, secrets: true, logLevel: true, quietLogs: true, stopSignal: true },
};
/** What is not acted on is refused, never ignored: a program in JavaScript has no compiler to tell it. */
function requireKnown(config: SandboxConfig): void {
  for (const [field, value] of Object.entries(config)) {
    if (Object.hasOwn(FIELDS, field) || value === undefined) continue;
    throw failure('INVALID', `${field}: a sandbox has no such setting`);
  }
}

const PULL_POLICIES: Record<PullPolicy, string> = {
  always: 'Always',
  'if-missing': 'IfNotPresent',
  never: 'Never',
};
const DRIVERS = { auto: 'Auto', libkrun: 'Libkrun', software: 'Software' } as const;
const MADE_UP_PREFIX = 'sandbox-';
/** A sandbox's own program ends with the sandbox, so that nothing restarts what a program started once. */
const RESTART_POLICY = 'Never';
/** Annotation with what the object cannot say; read when a handle connects again. */
export const SHELL_ANNOTATION = 'bulkhead.dev/sdk-shell';

export function madeUpName(): string {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(5));
  return `${MADE_UP_PREFIX}${Buffer.from(bytes).toString('hex')}`;
}

const optional = <T>(name: string, value: T | undefined) => (value === undefined ? {} : { [name]: value });

/**
 * The object to create. `attached`: it ends when nobody holds it any more. `mark` names what it has for itself alone; with
 * any of that it is suspended until that is there. `digests` are of what its patches copy.
 */
export function manifestOf(
  config: SandboxConfig,
  namespace: string,
  attached: boolean,
  mark = '',
  digests?: PatchDigests,
): ObjectManifest<Record<string, unknown>> {
  const { image, memoryMib, cpus, diskMib, pullPolicy = 'if-missing', driver } = config;
  requireKnown(config);
  const { logLevel } = config;
  if (logLevel !== undefined && !Object.values(LogLevel).includes(logLevel))
    throw failure('INVALID', `logLevel: there is no "${String(logLevel)}"`);
  if (typeof image !== 'string' || image === '')
    throw failure('INVALID', 'image is missing: say which image the sandbox boots');
  const resources = {
    ...optional('cpus', cpus),
    ...optional('memory', memoryMib === undefined ? undefined : `${memoryMib}Mi`),
    ...optional('disk', diskMib === undefined ? undefined : `${diskMib}Mi`),
  };
  const { entrypoint, cmd, shell, stopSignal } = config;
  const main =
    entrypoint === undefined && cmd === undefined
      ? undefined
      : { ...optional('command', entrypoint), ...optional('args', cmd) };
  const env = Object.entries(config.env ?? {}).map(([name, value]) => ({ name, value }));
  const ports = Object.entries(config.ports ?? {}).map(([hostPort, port]) => ({
    ...{ name: `port-${hostPort}`, port, hostPort: Number(hostPort) },
  }));
  const { network, secrets = [] } = config;
  // Here and now, so that what is wrong with it leaves nothing behind.
  if (network !== undefined) policySpecOf(network, mark);
  const owned = hasOwned(config);
  const labels = { ...config.labels, ...(owned ? { [OWN_LABEL]: mark } : {}) };
  const unheld = config.name === undefined ? 'Delete' : 'Suspend';
  const annotations = {
    ...(attached ? { [UNHELD_ANNOTATION]: unheld } : {}),
    ...optional(SHELL_ANNOTATION, shell),
  };
  return {
    apiVersion: GROUP_VERSION,
    kind: SANDBOX_KIND.kind,
    metadata: {
      ...{ name: config.name ?? madeUpName(), namespace, annotations },
      ...(config.labels === undefined && !owned ? {} : { labels }),
    },
    spec: {
      ...{ image, imagePullPolicy: PULL_POLICIES[pullPolicy], restartPolicy: RESTART_POLICY },
      ...(Object.keys(resources).length > 0 ? { resources } : {}),
      ...optional('main', main),
      ...(env.length > 0 ? { env } : {}),
      ...optional('workingDir', config.workdir),
      ...optional('hostname', config.hostname),
      ...optional('user', config.user),
      ...optional('lifecycle', stopSignal === undefined ? undefined : { stopSignal }),
      ...optional('activeDeadlineSeconds', config.maxDurationSecs),
      ...optional('idleTimeoutSeconds', config.idleTimeoutSecs),
      ...optional('driver', driver === undefined ? undefined : DRIVERS[driver]),
      ...(ports.length > 0 ? { ports } : {}),
      ...(owned ? { operatingMode: 'Suspended' } : {}),
      ...(secrets.length === 0 ? {} : { secrets: secretsOf(secrets, mark) }),
      ...volumesOf(config.volumes),
      ...patchesOf(config.patches, digests),
    },
  };
}
