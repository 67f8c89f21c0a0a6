// Takes the observation: reads the runtime, and the store where the spec refers to other objects.

import { findCondition } from '../../api/conditions.ts';
import { ERRORS } from '../../api/errors.ts';
import { parseBytes } from '../../api/quantity.ts';
import type { DefaultedSandbox } from '../../api/sandbox.ts';
import { unsupportedFields } from '../../api/supported.ts';
import type { Store } from '../../store/store.ts';
import { VOLUME_DISKS_MAX } from '../../vmm/driver.ts';
import { activeSince } from './decisions.ts';
import type { SandboxReconcilerDeps } from './dependencies.ts';
import { launchDigest, rootOrigin } from './launch.ts';
import type {
  MissingReference,
  Observation,
  ObservedElapsed,
  ObservedProbes,
  ObservedVm,
  ObservedVolumes,
} from './observation.ts';
import { hasReferences, resolveReferences } from './references.ts';
import type { RootOrigin } from './run-record.ts';
import type { SandboxRuntime } from './runtime/sandbox-runtime.ts';
import { wantedDisks, wantedShares } from './volumes/spec.ts';

/** An observation, and what failures of tasks depend on: the spec and what it refers to. */
export interface Observed {
  observation: Observation;
  inputs: string;
}

export async function observe(
  {
    store,
    clock,
    networks,
    hostMemoryBytes,
    room,
  }: Pick<SandboxReconcilerDeps, 'store' | 'clock' | 'networks' | 'hostMemoryBytes' | 'room'>,
  object: DefaultedSandbox,
  runtime: SandboxRuntime,
): Promise<Observed> {
  const { missing, version } = await references(store, object, runtime);
  const restart = JSON.stringify(object.metadata.annotations ?? {});
  const inputs = `${object.metadata.generation} ${version} ${restart}`;
  const { record, image, exit, guest } = runtime;
  const run = record?.end === undefined ? record : undefined;
  const launch = launchOf(object, runtime);
  const vm = vmOf(runtime);
  const mainExit = runtime.mainExit ?? run?.mainExit;
  const network = vm === undefined ? undefined : networks.stateOf(runtime.uid);
  const task = runtime.tasks.current;
  const failure = runtime.tasks.failure(inputs);
  const observation: Observation = {
    now: clock.now(),
    object,
    unsupported: [...unsupportedFields(object.spec), ...tooManyDisks(object)],
    volumes: volumesOf(object, runtime),
    room: {
      // A VM that runs has what it was started with.
      reserved:
        runtime.handle !== undefined || room.has(runtime.uid, parseBytes(object.spec.resources.memory)),
      ...(runtime.roomProblem === undefined ? {} : { problem: runtime.roomProblem }),
    },
    missing,
    hostMemoryBytes,
    launchDigest: launch.digest,
    root: launch.root,
    directory: runtime.directory,
    released: runtime.released,
    agent: { connected: runtime.agent?.connected === true, silentMs: runtime.agentSilentMs },
    guest: {
      rootMounted: guest.rootMounted,
      personalized: guest.personalized,
      mainStarted: guest.mainStarted,
      ...(guest.postStartFailure === undefined ? {} : { postStartFailure: guest.postStartFailure }),
      ...(guest.bootMilliseconds === undefined ? {} : { bootMilliseconds: guest.bootMilliseconds }),
      ...(guest.stages === undefined ? {} : { stages: guest.stages }),
    },
    probes: probesOf(object, runtime),
    elapsed: elapsedOf(object, runtime),
    ...(record === undefined ? {} : { record }),
    ...(image === undefined || runtime.imageRoot !== launch.root.digest ? {} : { image }),
    ...(vm === undefined ? {} : { vm }),
    ...(network === undefined ? {} : { network }),
    ...(vm !== undefined || exit === undefined || run === undefined ? {} : { exit }),
    ...(mainExit === undefined || run === undefined ? {} : { mainExit }),
    ...(task === undefined ? {} : { task }),
    ...(failure === undefined ? {} : { failure }),
  };
  return { observation, inputs };
}

function volumesOf(
  object: DefaultedSandbox,
  { volumes, volumeProblem, handle }: SandboxRuntime,
): ObservedVolumes {
  const { generation } = object.metadata;
  const { row, message } =
    volumeProblem === undefined
      ? { row: undefined, message: '' }
      : { row: ERRORS[volumeProblem.code], message: volumeProblem.message };
  return {
    wanted: wantedDisks(object.spec).map(({ volume }) => volume),
    // A VM that runs has what it was started with.
    claimed: handle !== undefined || volumes?.generation === generation,
    ...(row === undefined ? {} : { problem: { reason: row.reason, message, terminal: row.terminal } }),
  };
}

function tooManyDisks({ spec }: DefaultedSandbox): string[] {
  const disks = wantedDisks(spec).length;
  // All directories of the host take the place of one disk.
  const shared = wantedShares(spec).length > 0;
  const most = VOLUME_DISKS_MAX - (shared ? 1 : 0);
  const beside = shared ? ' beside directories of the host' : '';
  return disks > most
    ? [
        `spec.volumes (${disks} Volumes, of which a VM can have ${most}${beside}; use subPath to mount one in several places)`,
      ]
    : [];
}

function vmOf({ handle }: SandboxRuntime): ObservedVm | undefined {
  if (handle === undefined) return undefined;
  const { driver, pid, startedAt, limitations, stall } = handle;
  return {
    ...{ driver, pid, startedAt: startedAt.toISOString(), limitations },
    ...(stall === undefined ? {} : { stall }),
  };
}

function probesOf({ spec }: DefaultedSandbox, { probes, record }: SandboxRuntime): ObservedProbes {
  const { startupProbe, readinessProbe, livenessProbe } = spec;
  return {
    ...(startupProbe === undefined
      ? {}
      : { startup: record?.started === true ? { passed: true, message: '' } : probes.result('startup') }),
    ...(readinessProbe === undefined ? {} : { readiness: probes.result('readiness') }),
    ...(livenessProbe === undefined ? {} : { liveness: probes.result('liveness') }),
  };
}

/** Looked up only while they can matter: before a start, and where there are any. */
async function references(
  store: Store,
  object: DefaultedSandbox,
  runtime: SandboxRuntime,
): Promise<{ missing: MissingReference[]; version: string }> {
  if (runtime.handle !== undefined || !hasReferences(object)) return { missing: [], version: '' };
  const { missing, version } = await resolveReferences(store, object);
  return { missing, version };
}

function launchOf(object: DefaultedSandbox, runtime: SandboxRuntime): { digest: string; root: RootOrigin } {
  const { generation } = object.metadata;
  if (runtime.launch?.generation !== generation) {
    runtime.launch = { generation, digest: launchDigest(object), root: rootOrigin(object) };
  }
  return runtime.launch;
}

function elapsedOf(object: DefaultedSandbox, runtime: SandboxRuntime): ObservedElapsed {
  const { record, elapsed } = runtime;
  if (object.spec.idleTimeoutSeconds !== undefined) runtime.use.keep();
  const since = (name: keyof ObservedElapsed, recorded: string | undefined): ObservedElapsed =>
    recorded === undefined ? {} : { [name]: elapsed.since(name, recorded) };
  const finished = findCondition(object.status?.conditions, 'Finished');
  return {
    ...since('sinceActive', activeSince(record)),
    ...since('sinceRunStart', record?.end === undefined ? record?.startedAt : undefined),
    ...since('sinceIdle', runtime.use.idleSince),
    ...(runtime.sinceStallMs === undefined ? {} : { sinceStall: runtime.sinceStallMs }),
    ...since(
      'sinceStop',
      (record?.end === undefined ? record?.stop?.at : undefined) ?? object.metadata.deletionTimestamp,
    ),
    ...since('sinceEnd', record?.end?.termination.finishedAt),
    ...since('sinceFinished', finished?.status === 'True' ? finished.lastTransitionTime : undefined),
  };
}
