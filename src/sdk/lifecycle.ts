// Bringing sandboxes up and taking them down, as far as that is work on their objects.
import { UNHELD_ANNOTATION } from '../api/annotations.ts';
import { asBulkheadError, BulkheadError } from '../api/errors.ts';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { StoredObject } from '../api/meta.ts';
import { madeUpName, manifestOf, type SandboxConfig } from './config.ts';
import { type Connection, type ConnectionOptions, connectionOf } from './connection.ts';
import { withDaemon } from './daemon.ts';
import { SandboxStillRunningError } from './errors.ts';
import { Hold } from './hold.ts';
import { conditionOf, isTrue, refusalOf, sandboxStatusOf, waitUntil } from './objects.ts';
import { createOwned, type PullCredentials, pullSecretName } from './owned.ts';
import { bringCopies } from './patches.ts';
import { bringScripts } from './scripts.ts';

export interface StartOptions extends ConnectionOptions {
  /** Gives up; what was created is removed. */
  signal?: AbortSignal;
  /** How long the start may take, pull included. Default: 10 minutes. */
  timeoutMs?: number;
  /** Told what the start waits for, e.g. how far the pull is. */
  onProgress?: (message: string) => void;
}

/** A sandbox that runs. */
export interface Started {
  readonly connection: Connection;
  readonly object: StoredObject;
  /** Where it ends with this program. */
  readonly hold: Hold | undefined;
}

/** A pull of a large image over a slow line. */
const START_TIMEOUT_MS = 600_000;
/** A graceful stop within the longest usual grace, and the removal of what the sandbox had. */
const STOP_TIMEOUT_MS = 180_000;

function deadline(ms: number, signal?: AbortSignal): AbortSignal {
  return signal === undefined ? AbortSignal.timeout(ms) : AbortSignal.any([AbortSignal.timeout(ms), signal]);
}

export async function createSandbox(
  config: SandboxConfig,
  options: StartOptions,
  attached: boolean,
): Promise<Started> {
  const connection = await connectionOf(options);
  const { client, namespace } = connection;
  const mark = madeUpName();
  // What is wrong with it is told before anything is sent.
  manifestOf(config, namespace, attached, mark);
  await withDaemon(connection, () => client.version(), options.signal);
  const digests = await bringCopies(config.patches, (copy) => client.copies.put(copy, options.signal));
  const manifest = manifestOf(config, namespace, attached, mark, digests);
  const { name } = manifest.metadata;
  if (config.replace) await removeSandbox(connection, name, undefined, options.signal);
  const pull = pullCredentialsOf(config);
  if (pull !== undefined && client.isCluster) {
    // Its nodes pull, with a Secret that goes with the sandbox, and so cannot be there before it.
    manifest.spec.imagePullSecrets = [{ name: pullSecretName(mark) }];
    manifest.spec.operatingMode = 'Suspended';
  } else if (pull !== undefined) {
    const policy = manifest.spec.imagePullPolicy as 'Always' | 'IfNotPresent' | 'Never';
    const request = { reference: config.image, policy, credentials: [pull] };
    await client.images.pull(request, undefined, options.signal);
    manifest.spec.imagePullPolicy = 'IfNotPresent';
  }
  // One that nobody needed may have ended since.
  const create = () => client.create(SANDBOX_KIND, namespace, manifest);
  const created = await withDaemon(connection, create, options.signal);
  let hold: Hold | undefined;
  try {
    if (attached) hold = await Hold.take(connection, name);
    if (manifest.spec.operatingMode === 'Suspended') {
      await createOwned(connection, created, config, mark, client.isCluster ? pull : undefined);
      await client.patch(SANDBOX_KIND, namespace, name, { spec: { operatingMode: 'Running' } });
    }
    const object = await waitReady(connection, name, options);
    await bringScripts(client.files, { namespace, name }, config, options.signal);
    return { connection, object, hold };
  } catch (error) {
    hold?.release();
    // The reason counts; the daemon ends what cannot be removed now, as nobody holds it.
    await removeSandbox(connection, name, created.metadata.uid).catch(() => {});
    throw error;
  }
}

function pullCredentialsOf({ registryAuth, image }: SandboxConfig): PullCredentials | undefined {
  if (registryAuth === undefined) return undefined;
  const { registry = registryOf(image), username, password } = registryAuth;
  return { registry, username, password };
}

/** The host of a reference, as the registries of images are named. */
function registryOf(image: string): string {
  const [first = '', ...rest] = image.split('/');
  return rest.length > 0 && /[.:]|^localhost$/.test(first) ? first : 'docker.io';
}

export async function startSandbox(name: string, options: StartOptions, attached: boolean): Promise<Started> {
  const connection = await connectionOf(options);
  const { client, namespace } = connection;
  const annotation = attached ? 'Suspend' : null;
  const patch = {
    metadata: { annotations: { [UNHELD_ANNOTATION]: annotation } },
    spec: { operatingMode: 'Running' },
  };
  await withDaemon(connection, () => client.patch(SANDBOX_KIND, namespace, name, patch), options.signal);
  // Where that fails the daemon suspends the sandbox again, as nobody holds it.
  const hold = attached ? await Hold.take(connection, name) : undefined;
  try {
    return { connection, object: await waitReady(connection, name, options), hold };
  } catch (error) {
    hold?.release();
    throw error;
  }
}

/** Ready, or a refusal. */
async function waitReady(connection: Connection, name: string, options: StartOptions): Promise<StoredObject> {
  const { timeoutMs = START_TIMEOUT_MS, signal, onProgress } = options;
  let told = '';
  let last: StoredObject | undefined;
  const settled = (object: StoredObject | undefined): boolean => {
    last = object;
    if (object === undefined) return true;
    const { message = '' } = conditionOf(object, 'Ready') ?? {};
    if (message !== '' && message !== told) onProgress?.(message);
    told = message;
    return isTrue(object, 'Ready') || refusalOf(object) !== undefined;
  };
  try {
    await waitUntil(connection, name, settled, deadline(timeoutMs, signal));
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof DOMException)) throw error;
    throw new BulkheadError('TIMEOUT', `sandbox "${name}" was not ready within ${timeoutMs} ms: ${told}`);
  }
  if (last === undefined)
    throw new BulkheadError('NOT_FOUND', `sandbox "${name}" was deleted while it started`);
  const refusal = refusalOf(last);
  if (refusal !== undefined) throw refusal;
  return last;
}

/** Deletes it and waits until nothing of it is left. With `uid` only the one that has it. */
export async function removeSandbox(
  connection: Connection,
  name: string,
  uid?: string,
  signal?: AbortSignal,
): Promise<void> {
  const { client, namespace } = connection;
  const request = {
    ...(uid === undefined ? {} : { preconditions: { uid } }),
    ...(signal === undefined ? {} : { signal }),
  };
  try {
    await client.delete(SANDBOX_KIND, namespace, name, request);
  } catch (error) {
    const { code } = asBulkheadError(error);
    // Gone already, or another one has the name by now.
    if (code === 'NOT_FOUND' || (code === 'CONFLICT' && uid !== undefined)) return;
    throw error;
  }
  await waitUntil(
    connection,
    name,
    (object) => object === undefined || (uid !== undefined && object.metadata.uid !== uid),
    deadline(STOP_TIMEOUT_MS, signal),
  );
}

/** The same of one that does not run. Fails with SandboxStillRunningError while it does. */
export async function removeStopped(
  connection: Connection,
  name: string,
  signal?: AbortSignal,
): Promise<void> {
  const { client, namespace } = connection;
  const object = await client.get(SANDBOX_KIND, namespace, name, signal);
  const status = sandboxStatusOf(object);
  if (status !== 'stopped' && status !== 'crashed')
    throw new SandboxStillRunningError('CONFLICT', `sandbox "${name}" is ${status}: stop it first`);
  await removeSandbox(connection, name, object.metadata.uid, signal);
}

/** Asks for its end; its disks are kept. */
export async function suspendSandbox(
  { client, namespace }: Connection,
  name: string,
  uid: string,
  { spec = {}, signal }: { spec?: Record<string, unknown>; signal?: AbortSignal | undefined } = {},
): Promise<void> {
  const patch = {
    metadata: { uid, annotations: { [UNHELD_ANNOTATION]: null } },
    spec: { operatingMode: 'Suspended', ...spec },
  };
  await client.patch(SANDBOX_KIND, namespace, name, patch, signal);
}

/** Ends it without grace, and resolves when its VM is gone. */
export async function killSandbox(
  connection: Connection,
  name: string,
  uid: string,
  signal?: AbortSignal,
): Promise<void> {
  const { client, namespace } = connection;
  const { spec } = await client.get(SANDBOX_KIND, namespace, name, signal);
  const { terminationGracePeriodSeconds } = spec as { terminationGracePeriodSeconds?: number };
  await suspendSandbox(connection, name, uid, { spec: { terminationGracePeriodSeconds: 0 }, signal });
  await waitEnded(connection, name, uid, deadline(STOP_TIMEOUT_MS, signal));
  // For its next start.
  const patch = { metadata: { uid }, spec: { terminationGracePeriodSeconds } };
  await client.patch(SANDBOX_KIND, namespace, name, patch);
}

/** Resolves with the object when its VM is gone; with nothing, or another object, where it is gone itself. */
export function waitEnded(
  connection: Connection,
  name: string,
  uid: string,
  signal: AbortSignal,
): Promise<StoredObject | undefined> {
  const isOver = (object: StoredObject | undefined): boolean =>
    object === undefined ||
    object.metadata.uid !== uid ||
    isTrue(object, 'Finished') ||
    isTrue(object, 'Suspended');
  return waitUntil(connection, name, isOver, signal);
}

/** It lives on without this program. */
export async function letGo(
  { client, namespace }: Connection,
  name: string,
  uid: string,
  signal?: AbortSignal,
): Promise<void> {
  const patch = { metadata: { uid, annotations: { [UNHELD_ANNOTATION]: null } } };
  await client.patch(SANDBOX_KIND, namespace, name, patch, signal);
}
