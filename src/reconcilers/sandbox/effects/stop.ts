// Ends a VM: gracefully within the grace period that is left, then by force. Disks are kept.

import { within } from '../../elapsed.ts';
import { STOP_MARGIN_MS } from '../limits.ts';
import { emit } from '../recorder.ts';
import type { EffectContext } from './context.ts';

const DEFAULT_STOP_SIGNAL = 'SIGTERM';

export async function stopVm(context: EffectContext, signal: AbortSignal): Promise<void> {
  const { deps, runtime, object } = context;
  const { handle, agent } = runtime;
  if (handle === undefined) return;
  const graceMs = graceLeft(context);
  // A guest that never was up has nothing to lose; one that does not answer cannot be asked.
  if (agent?.connected === true && runtime.guest.rootMounted) {
    const asked = agent.shutdown({
      graceMs,
      signal: runtime.image?.config.stopSignal || DEFAULT_STOP_SIGNAL,
    });
    // Whether or not the guest acknowledges, what counts is that the VM ends.
    asked.catch(() => {});
    const exit = await within(deps.clock, graceMs + STOP_MARGIN_MS, handle.exited);
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
function graceLeft({ object, observation }: EffectContext): number {
  const graceMs = object.spec.terminationGracePeriodSeconds * 1_000;
  return Math.max(0, graceMs - (observation.elapsed.sinceStop ?? 0));
}
