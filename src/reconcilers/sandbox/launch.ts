// What a spec and an image say about a start: command line, environment, identity.
import { createHash, randomBytes } from 'node:crypto';

import { BulkheadError } from '../../api/errors.ts';
import { parseBytes } from '../../api/quantity.ts';
import type { DefaultedSandbox } from '../../api/sandbox.ts';
import type { ExecRequest, Personality } from '../../guest/agent.ts';
import type { ImageConfig } from '../../images/images.ts';
import type { GuestNetwork } from '../../network/network-plane.ts';
import { patchedHosts } from './patches.ts';
import type { RootOrigin } from './run-record.ts';
import type { ExecDefaults } from './runtime/sandbox-runtime.ts';

/** Session id of the main process in every guest. */
export const MAIN_SESSION = 'main';
/** Of the commands of hooks. */
export const HOOK_SESSIONS = { postStart: 'hook-post-start', preStop: 'hook-pre-stop' } as const;
/** They belong to a run, not to a daemon: a daemon that comes goes on with them. */
export const SESSIONS_OF_A_RUN: readonly string[] = [MAIN_SESSION, ...Object.values(HOOK_SESSIONS)];
/** Host name limit of Linux (HOST_NAME_MAX is 64) and of a DNS label. */
const HOSTNAME_MAX = 63;
const ENTROPY_BYTES = 32;

/** Digest of the parts of the spec that only a start applies; another value means that a restart is required. */
export function launchDigest(object: DefaultedSandbox): string {
  const { resources, main, env, workingDir, hostname } = object.spec;
  const parts = [resources.cpus, resources.memory, resources.disk, main, env, workingDir, hostname];
  // Not counted where there are none: VMs of releases that knew no volumes need no restart.
  const { volumes = [], volumeMounts = [] } = object.spec;
  const mounted = volumes.length === 0 ? [] : [volumes, volumeMounts];
  return createHash('sha256')
    .update(JSON.stringify([...parts.map((part) => part ?? null), ...mounted]))
    .digest('hex');
}

/** Of what a start mounts. */
export function mountsDigest({ spec: { volumes = [], volumeMounts = [] } }: DefaultedSandbox): string {
  return createHash('sha256')
    .update(JSON.stringify([volumes, volumeMounts], inOrder))
    .digest('hex');
}

/** What the spec makes a root file system from. Another one needs another root. */
export function rootOrigin({
  spec: { image, driver, user, patches, resources },
}: DefaultedSandbox): RootOrigin {
  const parts = [image, driver, user ?? null, patches ?? null];
  const digest = createHash('sha256').update(JSON.stringify(parts, inOrder)).digest('hex');
  return { digest, diskBytes: parseBytes(resources.disk) };
}

/** Equal objects are equal text, in whatever order their fields were written. */
function inOrder(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/**
 * Environment, user and directory of processes: the image's, then the spec's. `specEnv` is KEY=VALUE, resolved; `trust` are the
 * variables by which the guest trusts the gateway.
 */
export function execDefaults(
  object: DefaultedSandbox,
  image: ImageConfig,
  specEnv: readonly string[],
  trust: readonly string[] = [],
): ExecDefaults {
  const env = new Map<string, string>();
  for (const pair of [...image.env, ...trust, ...specEnv]) {
    const equals = pair.indexOf('=');
    if (equals > 0) env.set(pair.slice(0, equals), pair.slice(equals + 1));
  }
  const user = object.spec.user ?? image.user;
  return {
    env: [...env].map(([name, value]) => `${name}=${value}`),
    ...(user === '' ? {} : { user }),
    cwd: object.spec.workingDir ?? (image.workingDir === '' ? '/' : image.workingDir),
    entrypoint: image.entrypoint,
    cmd: image.cmd,
  };
}

/** The main process as in a Pod: `command` replaces ENTRYPOINT and drops CMD, `args` replaces CMD. Throws INVALID when nothing is left. */
export function mainRequest(
  object: DefaultedSandbox,
  image: ImageConfig,
  defaults: ExecDefaults,
): ExecRequest {
  const { command, args } = object.spec.main ?? {};
  const argv = [...(command ?? image.entrypoint), ...(args ?? (command === undefined ? image.cmd : []))];
  if (argv.length === 0) {
    throw new BulkheadError(
      'INVALID',
      'spec.main names no command and the image has neither ENTRYPOINT nor CMD; set spec.main.command.',
    );
  }
  return {
    sessionId: MAIN_SESSION,
    argv,
    env: [...defaults.env],
    cwd: defaults.cwd,
    createCwd: true,
    ...(defaults.user === undefined ? {} : { user: defaults.user }),
    stdin: false,
    // A host that is away must never hold up the work; what the guest's ring drops is counted in the log.
    overflow: 'drop-oldest',
  };
}

/** Who this guest is. Nothing of its network leads anywhere before a policy is in force. */
export function personality(object: DefaultedSandbox, guest: GuestNetwork): Personality {
  return {
    hostname: object.spec.hostname ?? hostnameOf(object.metadata.name),
    entropy: randomBytes(ENTROPY_BYTES),
    network: {
      ...guest.network,
      addresses: [...guest.network.addresses],
      gateways: [...guest.network.gateways],
    },
    nameservers: [...guest.nameservers],
    searchDomains: [],
    extraHosts: patchedHosts(object),
  };
}

/** An object name as a host name: its first label, as Kubernetes shortens it. */
function hostnameOf(name: string): string {
  const label = (name.split('.')[0] ?? name).slice(0, HOSTNAME_MAX);
  return label.replace(/-+$/, '');
}
