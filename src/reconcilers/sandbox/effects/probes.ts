// Keeps the probes of a guest that is up under way. They are no task: nothing waits for them, and they wait for nothing.
import { UNHEALTHY_EVENT_INTERVAL_MS } from '../limits.ts';
import type { ProbeKind } from '../observation.ts';
import type { ActionTarget } from '../probes/actions.ts';
import { wantedProbes } from '../probes/verdicts.ts';
import type { ProbeEnvironment } from '../probes/worker.ts';
import { emit } from '../recorder.ts';
import { type EffectContext, known } from './context.ts';

const NAMES: Record<ProbeKind, string> = { startup: 'Startup', readiness: 'Readiness', liveness: 'Liveness' };

export async function runProbes(context: EffectContext): Promise<'again' | 'waiting'> {
  const { deps, runtime, observation } = context;
  // At its start, or not taken up by this process yet: that it does not answer now is no fault of the guest. Probes that are under
  // way go on, also where it is dialled anew because it fell silent.
  if (!runtime.guest.mainStarted) return 'waiting';
  if (observation.probes.startup?.passed === true && runtime.record?.started !== true) {
    // Once for each run: a daemon that comes later does not hold the other probes back again.
    await runtime.changeRecord((record) => ({ ...known(record), started: true }));
    return 'again';
  }
  const wanted = wantedProbes(observation);
  const up = runtime.record?.up?.at;
  const sinceUpMs = up === undefined ? 0 : runtime.elapsed.since('sinceUp', up);
  runtime.probes.run(wanted, environmentOf(context), sinceUpMs, deps.random);
  return 'waiting';
}

function environmentOf(context: EffectContext): ProbeEnvironment {
  const { deps, runtime, object } = context;
  const { clock } = deps;
  const toldAt = new Map<ProbeKind, number>();
  return {
    clock,
    target: () => targetOf(context),
    stalled: () => runtime.handle?.stall !== undefined || runtime.frozen,
    failed: (kind, complaint, inARow) => {
      const last = toldAt.get(kind);
      const soon = last !== undefined && clock.monotonic() - last < UNHEALTHY_EVENT_INTERVAL_MS;
      if (inARow > 1 || soon) return;
      toldAt.set(kind, clock.monotonic());
      emit(deps.recorder, object, 'Unhealthy', `${NAMES[kind]} probe failed: ${complaint}`);
    },
    changed: () => deps.enqueuer.enqueue(runtime.key),
  };
}

/** The guest as probes and hooks reach it; `undefined` while it does not answer. */
export function targetOf({ deps, runtime }: EffectContext): ActionTarget | undefined {
  const { agent, execDefaults } = runtime;
  if (agent?.connected !== true || execDefaults === undefined) return undefined;
  const [first = ''] = deps.networks.guest.network.addresses;
  const [address = ''] = first.split('/');
  return { agent, defaults: execDefaults, address, clock: deps.clock };
}
