// From a VM that runs to a guest that is this sandbox: connect, mount, personalise, start the main process. Goes on from
// wherever the guest says it is, so that it serves a first start, a restored template and a return after a restart of
// the daemon alike.
import { asBulkheadError, BulkheadError } from '../../../api/errors.ts';
import type { AgentHello, GuestAgent, GuestProcess } from '../../../guest/agent.ts';
import type { BootableImage } from '../../../images/images.ts';
import type { StartStage } from '../../../metrics/reasons.ts';
import type { VmHandle } from '../../../vmm/driver.ts';
import { within } from '../../elapsed.ts';
import { currentRun } from '../decisions.ts';
import { execDefaults, MAIN_SESSION, mainRequest, personality } from '../launch.ts';
import { AGENT_REPLACE_MS, NETWORK_WAIT_MS } from '../limits.ts';
import { emit } from '../recorder.ts';
import { resolveReferences } from '../references.ts';
import { watchMain } from '../runtime/main-process.ts';
import type { ExecDefaults } from '../runtime/sandbox-runtime.ts';
import { writeFiles } from '../volumes/files.ts';
import { guestVolumes } from '../volumes/spec.ts';
import { type EffectContext, known } from './context.ts';
import { endEarlierSessions } from './earlier-sessions.ts';
import { postStart } from './hooks.ts';
import { applyPatches } from './patches.ts';
import { establishTrust, trustVariables } from './trust.ts';

/** Disks in the order in which drivers attach them. */
const ROOT = { imageDevice: 'vda', upperDevice: 'vdb' };

/** Failures of an exec that are the command's own: they end the run as an exit of the main process would. */
const COMMAND_FAILURES = new Set(['COMMAND_NOT_FOUND', 'COMMAND_NOT_EXECUTABLE']);

export async function bringUpGuest(context: EffectContext, signal: AbortSignal): Promise<void> {
  const { deps, runtime, object } = context;
  const { handle } = runtime;
  if (handle === undefined) return;
  const recorded = recordVm(context, handle);
  // Awaited below, where it has to be there; until then a failure must not count as unhandled.
  recorded.catch(() => {});
  try {
    const agent = await connect(context, handle, signal);
    await prepareGuest(context, agent, signal);
    await recorded;
    if (!runtime.guest.mainStarted) {
      await timed(context, 'network', () => waitForNetwork(context));
      signal.throwIfAborted();
    }
    await timed(context, 'trust', () => establishTrust(context, agent, signal));
    const { image, defaults } = await takeExecDefaults(context);
    if (!runtime.guest.mainStarted) {
      if (runtime.record?.main === true) {
        await timed(context, 'main', () => startMain(context, agent, image, defaults, signal));
      }
    }
    await markUp(context, handle);
    await postStart(context, agent, signal);
    runtime.guest.mainStarted = true;
  } catch (error) {
    if (!signal.aborted) emit(deps.recorder, object, 'FailedBoot', asBulkheadError(error).message);
    throw error;
  }
}

/** What processes of the guest get from now on. */
export async function takeExecDefaults(
  context: EffectContext,
): Promise<{ image: BootableImage; defaults: ExecDefaults }> {
  const { deps, runtime, object } = context;
  const image = await imageOf(context);
  const { env } = await resolveReferences(deps.store, object);
  const defaults = execDefaults(object, image.config, env, trustVariables(runtime.guest.trust));
  runtime.execDefaults = defaults;
  return { image, defaults };
}

/** That the VM was seen running; before the main process, so that it never runs a second time unnoticed. */
async function recordVm({ runtime, observation }: EffectContext, handle: VmHandle): Promise<void> {
  if (currentRun(observation)?.vm !== undefined) return;
  await runtime.changeRecord((record) => ({
    ...known(record),
    vm: { pid: handle.pid, startedAt: handle.startedAt.toISOString() },
  }));
}

export async function connect(
  context: EffectContext,
  handle: VmHandle,
  signal: AbortSignal,
): Promise<GuestAgent> {
  const { deps, runtime } = context;
  if (runtime.agent !== undefined && runtime.agentSilentMs < AGENT_REPLACE_MS) return runtime.agent;
  await runtime.dropAgent();
  const agent = await timed(context, 'connect', () => deps.connectGuest(handle, signal));
  if (signal.aborted || runtime.handle !== handle) {
    await agent.close();
    throw new BulkheadError('AGENT_UNREACHABLE', 'The VM ended while its guest was being reached.');
  }
  runtime.guest.rootMounted = agent.hello.rootMounted;
  runtime.guest.personalized = agent.hello.personalized;
  runtime.takeAgent(agent);
  runtime.whileAgent(endEarlierSessions(agent, deps.clock));
  if (agent.hello.personalized && !runtime.frozen) await thawForgotten(agent, signal);
  return agent;
}

/** A daemon that is killed while it copies the disk of a guest leaves it frozen: nothing of it could be written until its time is over. */
async function thawForgotten(agent: GuestAgent, signal: AbortSignal): Promise<void> {
  try {
    await agent.thawRoot(signal);
  } catch (error) {
    // As nearly always: it is not frozen.
    if (asBulkheadError(error).code !== 'INVALID') throw error;
  }
}

async function prepareGuest(context: EffectContext, agent: GuestAgent, signal: AbortSignal): Promise<void> {
  const { deps, runtime, object } = context;
  const { rootMounted, personalized } = runtime.guest;
  const mounted = rootMounted ? undefined : timed(context, 'root', () => agent.mountRoot(ROOT, signal));
  // Asked at once: the agent does one after the other, so both cost one way there and back.
  const named = personalized
    ? undefined
    : agent.personalize(personality(object, deps.networks.guest), signal);
  named?.catch(() => {}); // the failure of the mount, which comes first, is the one to tell
  await mounted;
  runtime.guest.rootMounted = true;
  if (named !== undefined) await timed(context, 'personalize', () => named);
  runtime.guest.personalized = true;
  await timed(context, 'patches', () => applyPatches(context, agent, signal));
  if (!runtime.guest.volumesMounted) {
    await timed(context, 'volumes', () => mountVolumes(context, agent, signal));
    runtime.guest.volumesMounted = true;
  }
}

/**
 * The main process finds its network as its policies have it. Where that cannot be had, or not for long, it finds it closed:
 * the sandbox is of use without, and its condition says so.
 */
async function waitForNetwork({ deps, runtime, object }: EffectContext): Promise<void> {
  if (runtime.record?.up !== undefined || deps.networks.stateOf(runtime.uid) === undefined) return;
  await within(deps.clock, NETWORK_WAIT_MS, deps.networks.whenTried(runtime.uid));
  const state = deps.networks.stateOf(runtime.uid);
  if (state === undefined || state.acknowledged !== undefined) return;
  const why = state.problem ?? 'No policy came into force in time.';
  emit(deps.recorder, object, 'NetworkUnavailable', `The guest starts with its network closed. ${why}`);
}

/** Once for each daemon and guest: what is mounted stays, disks that became larger are filled, files are brought up to date. */
async function mountVolumes(context: EffectContext, agent: GuestAgent, signal: AbortSignal): Promise<void> {
  const { runtime, object } = context;
  const { volumes, mounts } = guestVolumes(
    object.spec,
    runtime.record?.volumes ?? [],
    runtime.record?.shares ?? [],
  );
  if (volumes.length === 0) return;
  // A mount of a single file wants the file there.
  await agent.mountVolumes(volumes, [], signal);
  await writeFiles(context, agent, signal);
  await agent.mountVolumes(volumes, mounts, signal);
}

/** Starts the main process, or takes up the one that this guest runs or has run already. */
async function startMain(
  { deps, logs, runtime, object, observation }: EffectContext,
  agent: GuestAgent,
  image: BootableImage,
  defaults: ReturnType<typeof execDefaults>,
  signal: AbortSignal,
): Promise<void> {
  const run = runtime.record?.run ?? 1;
  const writer = await logs.writer(runtime.uid, run);
  let process: GuestProcess;
  try {
    process = hasMain(agent.hello)
      ? await agent.attach(MAIN_SESSION, writer.offsets)
      : await agent.exec(mainRequest(object, image.config, defaults), signal);
  } catch (error) {
    await writer.close();
    logs.finish(runtime.uid, run);
    const { code, row, message } = asBulkheadError(error);
    if (!COMMAND_FAILURES.has(code)) throw error;
    runtime.mainExit = {
      exitCode: row.exitCode,
      signal: '',
      timedOut: false,
      oomKilled: false,
      finishedAt: new Date(deps.clock.now()).toISOString(),
      startError: { reason: row.reason, message },
    };
    return;
  }
  const main = watchMain(process, writer, deps.clock, (exit) => {
    if (runtime.main !== main) return;
    runtime.mainExit ??= exit;
    deps.enqueuer.enqueue(runtime.key);
  });
  runtime.main = main;
  void main.settled.then(() => logs.finish(runtime.uid, run));
  // The end that an earlier process recorded stands.
  runtime.mainExit ??= currentRun(observation)?.mainExit;
}

function hasMain(hello: AgentHello): boolean {
  return hello.sessions.some((session) => session.sessionId === MAIN_SESSION);
}

async function markUp({ deps, runtime, object }: EffectContext, handle: VmHandle): Promise<void> {
  const first = runtime.record?.up === undefined;
  const bootMilliseconds = first
    ? Math.max(0, deps.clock.now() - handle.startedAt.getTime())
    : (runtime.record?.up?.bootMilliseconds ?? 0);
  const stages = first ? { ...runtime.stages } : runtime.record?.up?.stages;
  runtime.guest = { ...runtime.guest, bootMilliseconds, stages };
  runtime.use.up(first);
  runtime.markTakenUp();
  deps.enqueuer.enqueue(runtime.key);
  if (!first) {
    emit(deps.recorder, object, 'Adopted', 'The running VM was found again; it had gone on by itself.');
    return;
  }
  const { run, driver } = runtime.record ?? {};
  deps.metrics.started(
    {
      sandbox: object,
      stages: runtime.stages,
      ...(driver === undefined ? {} : { driver }),
      ...(run === undefined ? {} : { run }),
    },
    handle,
  );
  emit(
    deps.recorder,
    object,
    'Running',
    `The guest was up ${bootMilliseconds} ms after the start of its VM.`,
  );
  const at = new Date(deps.clock.now()).toISOString();
  const up = { at, bootMilliseconds, ...(stages === undefined ? {} : { stages }) };
  await runtime.changeRecord((record) => ({ ...known(record), up }));
}

async function imageOf({ deps, runtime, observation }: EffectContext): Promise<BootableImage> {
  if (runtime.image !== undefined) return runtime.image;
  const digest = runtime.record?.imageDigest ?? '';
  const image = await deps.images.lookupDigest(digest);
  if (image === undefined)
    throw new BulkheadError('IMAGE_NOT_PRESENT', `Image ${digest} is not in the cache.`);
  runtime.image = image;
  runtime.imageRoot = runtime.record?.root?.digest ?? observation.root.digest;
  return image;
}

async function timed<T>(
  { deps, runtime }: EffectContext,
  stage: StartStage,
  work: () => Promise<T>,
): Promise<T> {
  const began = deps.clock.monotonic();
  const result = await work();
  runtime.stages[stage] = deps.clock.monotonic() - began;
  return result;
}
