// What a spec wants done at the two ends of a run. A hook that is a command has one name in the guest for all of the run, so that a
// daemon that comes after a killed one waits for the command that runs already instead of beginning it a second time.
import { BulkheadError } from '../../../api/errors.ts';
import type { SandboxHook } from '../../../api/sandbox-probes.ts';
import { sleep } from '../../../controller/clock.ts';
import type { GuestAgent } from '../../../guest/agent.ts';
import { within } from '../../elapsed.ts';
import { HOOK_SESSIONS } from '../launch.ts';
import { type Complaint, perform } from '../probes/actions.ts';
import { postStartPending } from '../probes/verdicts.ts';
import { emit } from '../recorder.ts';
import { type EffectContext, known } from './context.ts';
import { targetOf } from './probes.ts';

/** Once for each run. Its failure is noted for the machine, which ends the run. */
export async function postStart(
  context: EffectContext,
  agent: GuestAgent,
  signal: AbortSignal,
): Promise<void> {
  const { deps, runtime, object, observation } = context;
  if (runtime.record?.postStart !== 'pending') return;
  const hook = object.spec.lifecycle?.postStart;
  const { record } = runtime;
  if (hook !== undefined && postStartPending({ ...observation, record })) {
    // Whoever has its sandbox at work wants it to stay.
    const endUse = runtime.use.begin();
    try {
      const complaint = await run(context, 'postStart', hook, agent, signal);
      signal.throwIfAborted();
      if (complaint !== undefined) {
        runtime.guest.postStartFailure = complaint;
        emit(deps.recorder, object, 'FailedPostStartHook', complaint);
        return;
      }
    } finally {
      endUse();
    }
  }
  await runtime.changeRecord((former) => ({ ...known(former), postStart: 'done' }));
}

/** Takes no longer than `graceMs`; however it ends, the stop goes on. */
export async function preStop(
  context: EffectContext,
  agent: GuestAgent,
  graceMs: number,
  signal: AbortSignal,
): Promise<void> {
  const { deps, runtime, object } = context;
  const hook = object.spec.lifecycle?.preStop;
  if (hook === undefined || graceMs <= 0 || runtime.record?.stop?.reason === 'MainExited') return;
  const late = new AbortController();
  const either = AbortSignal.any([signal, late.signal]);
  const done = run(context, 'preStop', hook, agent, either).catch((error: unknown) => String(error));
  const ended = await within(
    deps.clock,
    graceMs,
    done.then((complaint) => ({ complaint })),
  );
  late.abort();
  signal.throwIfAborted();
  const complaint = ended === undefined ? 'the grace period is over' : ended.complaint;
  if (complaint !== undefined) emit(deps.recorder, object, 'FailedPreStopHook', complaint);
}

async function run(
  context: EffectContext,
  name: keyof typeof HOOK_SESSIONS,
  hook: SandboxHook,
  agent: GuestAgent,
  signal: AbortSignal,
): Promise<Complaint> {
  if (hook.sleep !== undefined) {
    await sleep(context.deps.clock, hook.sleep.seconds * 1_000, signal);
    return undefined;
  }
  const target = targetOf(context);
  if (target === undefined) throw new BulkheadError('AGENT_UNREACHABLE', 'The guest does not answer.');
  return perform({ ...target, agent }, hook, HOOK_SESSIONS[name], signal);
}
