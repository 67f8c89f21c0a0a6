// Ends a VM: gracefully within the grace period that is left, then by force. Disks are kept.
import type { GuestAgent } from '../../../guest/agent.ts';
import type { VmHandle } from '../../../vmm/driver.ts';
import { within } from '../../elapsed.ts';
import { AFTER_PRE_STOP_MS, STOP_MARGIN_MS } from '../limits.ts';
import { emit } from '../recorder.ts';
import { connect, takeExecDefaults } from './bring-up.ts';
import type { EffectContext } from './context.ts';
import { preStop } from './hooks.ts';

const DEFAULT_STOP_SIGNAL = 'SIGTERM';

/** Ends that leave nothing to ask a guest for, or nothing that could. */
const UNASKED: ReadonlySet<string> = new Set(['BootTimedOut', 'BootFailed']);

export async function stopVm(context: EffectContext, signal: AbortSignal): Promise<void> {
  const { deps, runtime, object } = context;
  const { handle } = runtime;
  if (handle === undefined) return;
  runtime.probes.stop();
  const graceMs = graceLeft(context);
  const began = deps.clock.monotonic();
  const agent = await agentOf(context, handle, graceMs, signal);
  // A guest that never was up has nothing to lose; one that does not answer cannot be asked.
  if (agent?.connected === true && runtime.guest.rootMounted) {
    await preStop(context, agent, graceMs, signal);
    const spentMs = deps.clock.monotonic() - began;
    const leftMs = Math.max(graceMs - spentMs, Math.min(graceMs, AFTER_PRE_STOP_MS));
    const asked = agent.shutdown({
      graceMs: leftMs,
      signal: object.spec.lifecycle?.stopSignal ?? (runtime.image?.config.stopSignal || DEFAULT_STOP_SIGNAL),
    });
    // Whether or not the guest acknowledges, what counts is that the VM ends.
    asked.catch(() => {});
    const exit = await within(deps.clock, leftMs + STOP_MARGIN_MS, handle.exited);
    if (exit !== undefined) return;
    signal.throwIfAborted();
    emit(
      deps.recorder,
      object,
      'Killing',
      'The guest did not stop within its grace period; its VM is killed.',
    );
  }
  await handle.kill();
}

/** What is left of the grace period, counted from the recorded decision: a restart of the daemon does not begin it anew. */
function graceLeft({ object: { spec, metadata }, observation, runtime }: EffectContext): number {
  const probes = { StartupProbeFailed: spec.startupProbe, LivenessProbeFailed: spec.livenessProbe };
  // Who deletes it meanwhile says how long that may take.
  const reason = metadata.deletionTimestamp === undefined ? runtime.record?.stop?.reason : undefined;
  const probe =
    reason === 'StartupProbeFailed' || reason === 'LivenessProbeFailed' ? probes[reason] : undefined;
  const seconds = probe?.terminationGracePeriodSeconds ?? spec.terminationGracePeriodSeconds;
  return Math.max(0, seconds * 1_000 - (observation.elapsed.sinceStop ?? 0));
}

/** A daemon that comes after one that was killed while it stopped the VM asks the guest as that one did. */
async function agentOf(
  context: EffectContext,
  handle: VmHandle,
  graceMs: number,
  signal: AbortSignal,
): Promise<GuestAgent | undefined> {
  const { deps, runtime } = context;
  const known = runtime.agent !== undefined || runtime.record?.up === undefined;
  if (known || graceMs <= 0 || UNASKED.has(runtime.record?.stop?.reason ?? '')) return runtime.agent;
  const late = new AbortController();
  const reached = connect(context, handle, AbortSignal.any([signal, late.signal])).then(async (agent) => {
    await takeExecDefaults(context);
    return agent;
  });
  const agent = await within(
    deps.clock,
    graceMs,
    reached.catch(() => undefined),
  );
  late.abort();
  signal.throwIfAborted();
  return agent;
}
