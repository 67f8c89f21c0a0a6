// The machine and the status over many thousand observations, likely and unlikely ones: every transition is taken, and
// what must hold holds in all of them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AnyTransitionDefinition, getMicrosteps, getNextTransitions } from 'xstate';
import { randomFrom } from '../../../test/fixtures/chance.ts';

import { setCondition } from '../../api/conditions.ts';
import type { DefaultedSandbox, DefaultedSandboxSpec } from '../../api/sandbox.ts';
import { FAKE_IMAGE_CONFIG } from '../testing/fake-images.ts';
import { IMAGE, sandboxManifest } from '../testing/world.ts';
import { FINALIZER, RESTARTED_AT_ANNOTATION } from './limits.ts';
import { COMMANDS, deriveState, leaves, sandboxMachine, step } from './machine.ts';
import type { Observation, ProbeKind, TaskKind } from './observation.ts';
import type { RunRecord, StopReason } from './run-record.ts';
import { computeStatus, isSameStatus } from './status/status.ts';

const NOW = Date.parse('2026-06-01T00:00:00Z');
const AT = new Date(NOW - 60_000).toISOString();
const DIGEST = 'sha256:0';

const STOPS: StopReason[] = [
  'MainExited',
  'Suspended',
  'RestartRequested',
  'Recreating',
  'DeadlineExceeded',
  'ShutdownTimeReached',
  'IdleTimeout',
  'BootTimedOut',
  'BootFailed',
  'PostStartHookFailed',
  'StartupProbeFailed',
  'LivenessProbeFailed',
];
const PROBES: ProbeKind[] = ['startup', 'readiness', 'liveness'];
const TASKS: TaskKind[] = ['pull', 'start', 'bring-up', 'files', 'stop', 'release'];

function observationOf(next: () => number): Observation & { object: DefaultedSandbox } {
  const chance = (probability: number): boolean => next() < probability;
  const pick = <T>(values: readonly T[]): T => {
    const value = values[Math.floor(next() * values.length)];
    if (value === undefined) throw new Error('nothing to pick from');
    return value;
  };
  const maybe = <T extends object>(probability: number, part: () => T): T | Record<string, never> =>
    chance(probability) ? part() : {};

  const spec: Partial<DefaultedSandboxSpec> = {
    operatingMode: pick(['Running', 'Running', 'Suspended']),
    restartPolicy: pick(['Always', 'OnFailure', 'Never']),
    ...maybe(0.2, () => ({ idleTimeoutSeconds: pick([1, 100_000]) })),
    ...maybe(0.2, () => ({ activeDeadlineSeconds: pick([1, 100_000]) })),
    ...maybe(0.2, () => ({ shutdownTime: new Date(NOW + pick([-1, 1]) * 3_600_000).toISOString() })),
    ...maybe(0.3, () => ({ ttlSecondsAfterFinished: pick([0, 100_000]) })),
  };
  const termination = {
    exitCode: 1,
    signal: '',
    reason: 'Error',
    message: '',
    startedAt: AT,
    finishedAt: AT,
  };
  const record: RunRecord | undefined = chance(0.7)
    ? {
        version: 1,
        run: 1,
        restarts: 0,
        failures: 0,
        startedAt: AT,
        activeSince: AT,
        restartedAt: '',
        imageDigest: DIGEST,
        driver: 'software',
        driverReason: '',
        launchDigest: pick(['a', 'b']),
        main: chance(0.5),
        previousExit: '',
        ...maybe(0.5, () => ({ root: { digest: pick(['a', 'a', 'b']), diskBytes: pick([1, 1, 2]) } })),
        ...maybe(0.5, () => ({ vm: { pid: 1, startedAt: AT } })),
        ...maybe(0.5, () => ({ up: { at: AT, bootMilliseconds: 5 } })),
        ...maybe(0.3, () => ({ stop: { reason: pick(STOPS), at: AT, message: 'why' } })),
        ...maybe(0.4, () => ({
          end: {
            outcome: pick(['Succeeded', 'Failed', 'Restart', 'Suspended'] as const),
            delayMs: pick([0, 10_000, 300_000]),
            failures: 1,
            termination,
          },
        })),
      }
    : undefined;
  const manifest = sandboxManifest('x', spec);
  const finished = setCondition(
    [],
    { type: 'Finished', status: 'True', reason: 'Completed', message: '' },
    { observedGeneration: 1, now: new Date(NOW - 5_000) },
  );
  const object: DefaultedSandbox = {
    apiVersion: manifest.apiVersion,
    kind: manifest.kind,
    spec: manifest.spec,
    metadata: {
      name: 'x',
      namespace: 'default',
      uid: 'u',
      resourceVersion: '1',
      generation: 2,
      creationTimestamp: AT,
      ...maybe(0.2, () => ({ deletionTimestamp: AT })),
      ...maybe(0.7, () => ({ finalizers: [FINALIZER] })),
      ...maybe(0.2, () => ({ annotations: { [RESTARTED_AT_ANNOTATION]: 'now' } })),
    },
    ...maybe(0.2, () => ({
      status: { phase: pick(['Failed', 'Succeeded'] as const), conditions: [...finished] },
    })),
  };
  const alive = record !== undefined && record.end === undefined && chance(0.6);
  return {
    now: NOW,
    object,
    unsupported: chance(0.1) ? ['spec.ports'] : [],
    missing: chance(0.1) ? [{ kind: 'Secret', name: 's', field: 'spec.env[0]' }] : [],
    hostMemoryBytes: chance(0.1) ? 0 : 2 ** 40,
    launchDigest: 'a',
    root: { digest: 'a', diskBytes: 1 },
    directory: record !== undefined || chance(0.5),
    released: chance(0.3),
    agent: chance(0.5)
      ? { connected: true, silentMs: 0 }
      : { connected: false, silentMs: pick([0, 5_000, 20_000]) },
    room: pick([
      { reserved: true },
      { reserved: false },
      { reserved: false, problem: { code: 'INSUFFICIENT_MEMORY', message: 'full' } as const },
    ]),
    volumes: chance(0.5)
      ? { wanted: [], claimed: false }
      : {
          wanted: ['data'],
          claimed: chance(0.5),
          ...maybe(0.3, () => ({ problem: { reason: 'r', message: 'm', terminal: chance(0.3) } })),
        },
    guest: {
      rootMounted: chance(0.6),
      personalized: chance(0.6),
      mainStarted: chance(0.5),
      ...maybe(0.05, () => ({ postStartFailure: 'why' })),
      ...maybe(0.3, () => ({ bootMilliseconds: 5 })),
    },
    probes: Object.fromEntries(
      PROBES.flatMap((kind) =>
        chance(0.2) ? [[kind, { message: 'm', ...maybe(0.7, () => ({ passed: chance(0.7) })) }]] : [],
      ),
    ),
    elapsed: {
      ...maybe(0.8, () => ({ sinceActive: 60_000 })),
      ...maybe(0.8, () => ({ sinceRunStart: pick([60_000, 10_000_000]) })),
      sinceStop: 1_000,
      sinceEnd: pick([1_000, 60_000]),
      sinceFinished: 5_000,
      ...maybe(0.2, () => ({ sinceIdle: 60_000 })),
    },
    ...(record === undefined ? {} : { record }),
    ...maybe(0.6, () => ({
      image: { reference: IMAGE, digest: DIGEST, diskPath: '/i', sizeBytes: 1, config: FAKE_IMAGE_CONFIG },
    })),
    ...(alive ? { vm: { driver: 'software', pid: 1, startedAt: AT, limitations: [] } } : {}),
    ...(!alive && record !== undefined && record.end === undefined && chance(0.6)
      ? {
          exit: {
            kind: pick(['clean', 'crashed', 'killed', 'lost'] as const),
            message: '',
            finishedAt: new Date(AT),
          },
        }
      : {}),
    ...maybe(0.2, () => ({
      mainExit: {
        exitCode: pick([0, 1]),
        signal: '',
        timedOut: false,
        oomKilled: false,
        finishedAt: AT,
      },
    })),
    ...maybe(0.3, () => ({ task: { kind: pick(TASKS) } })),
    ...maybe(0.3, () => ({
      failure: {
        task: pick(TASKS),
        code: 'INTERNAL' as const,
        reason: 'InternalError',
        message: 'm',
        terminal: chance(0.3),
        attempts: 1,
        retryInMs: pick([-1, 500]),
      },
    })),
  };
}

function observations(count: number): (Observation & { object: DefaultedSandbox })[] {
  const next = randomFrom(20_260_601);
  return Array.from({ length: count }, () => observationOf(next));
}

const SAMPLE = observations(20_000);

type Snapshot = ReturnType<typeof sandboxMachine.resolveState>;

function idOf(transition: AnyTransitionDefinition): string {
  const source = transition.source.id;
  const targets = (transition.target ?? []).map((each) => each.id).join(',');
  return `${source} -[${guardName(transition)}]-> ${targets}`;
}

function guardName({ guard }: AnyTransitionDefinition): string {
  return typeof guard === 'string' ? guard : '';
}

/** The transition that each state of a snapshot takes: the first whose guard holds. */
function takenFrom(snapshot: Snapshot, eventType: string, observation: Observation): string[] {
  const taken = new Map<string, string>();
  for (const transition of getNextTransitions(snapshot)) {
    if (transition.eventType !== eventType || taken.has(transition.source.id)) continue;
    const name = guardName(transition);
    const guards = sandboxMachine.implementations.guards as Record<
      string,
      (args: { context: { observation: Observation } }) => boolean
    >;
    if (name === '' || guards[name]?.({ context: { observation } })) {
      taken.set(transition.source.id, idOf(transition));
    }
  }
  return [...taken.values()];
}

test('every transition of the machine is taken', () => {
  const all = new Set<string>();
  const collect = (node: typeof sandboxMachine.root): void => {
    for (const transitions of node.transitions.values()) for (const each of transitions) all.add(idOf(each));
    for (const each of node.always ?? []) all.add(idOf(each));
    for (const child of Object.values(node.states)) collect(child as typeof sandboxMachine.root);
  };
  collect(sandboxMachine.root);
  assert.ok(all.size > 60, `${all.size} transitions`);

  const taken = new Set<string>();
  for (const observation of SAMPLE) {
    const from = deriveState(observation);
    let snapshot = sandboxMachine.resolveState({ value: from, context: { observation } });
    let eventType = 'OBSERVE';
    for (const [next] of getMicrosteps(sandboxMachine, snapshot, { type: 'OBSERVE' })) {
      for (const id of takenFrom(snapshot, eventType, observation)) taken.add(id);
      snapshot = next;
      eventType = '';
    }
    if (leaves(snapshot.value)[0]?.startsWith('Starting') && from !== 'Starting') {
      taken.add('sandbox.Preparing -[]-> sandbox.Starting');
    }
  }
  assert.deepEqual([...all].filter((id) => !taken.has(id)).sort(), []);
});

test('every command is given by some observation', () => {
  const given = new Set(SAMPLE.flatMap((observation) => step(observation).commands));
  assert.deepEqual([...given].sort(), [...COMMANDS].sort());
});

test('a VM is started only where none runs, and none is unwanted', () => {
  for (const o of SAMPLE) {
    const { commands } = step(o);
    if (!commands.includes('startVm')) continue;
    assert.equal(o.vm, undefined);
    assert.equal(o.object.metadata.deletionTimestamp, undefined);
    assert.ok(!commands.includes('stopVm') && !commands.includes('releaseHost'));
    if (o.task?.kind !== 'start') {
      assert.equal(o.object.spec.operatingMode, 'Running');
      assert.deepEqual(o.unsupported, []);
      assert.deepEqual(o.missing, []);
      assert.ok(commands.includes('addFinalizer'), 'the finalizer comes before the first outside effect');
      assert.ok(commands.indexOf('addFinalizer') < commands.indexOf('startVm'));
    }
  }
});

test('a VM gets disks only when they are claimed, and they are given back only without a VM', () => {
  for (const o of SAMPLE) {
    const { commands } = step(o);
    if (commands.includes('startVm') && deriveState(o) !== 'Starting' && o.volumes.wanted.length > 0)
      assert.ok(o.volumes.claimed);
    if (commands.includes('restVolumes') || commands.includes('releaseVolumes')) {
      assert.equal(o.vm, undefined);
      assert.notEqual(o.task?.kind, 'start');
    }
  }
});

test('the finalizer comes off only when nothing is left', () => {
  for (const o of SAMPLE) {
    if (!step(o).commands.includes('removeFinalizer')) continue;
    assert.equal(o.vm, undefined);
    assert.equal(o.task, undefined);
    assert.equal(o.directory, false);
    assert.equal(o.released, true);
  }
});

test('a step leads to the same place when nothing changes: no state swings', () => {
  for (const o of SAMPLE) {
    const first = step(o);
    assert.deepEqual(step(o), first);
    // What the machine only names in passing is never where a sandbox stays.
    assert.ok(!first.states.some((state) => state.endsWith('Checking') || state.endsWith('Guest')));
  }
});

test('tools never see a sandbox as current too early, nor as two things at once', () => {
  for (const o of SAMPLE) {
    const next = step(o);
    if (next.state === 'Gone') continue;
    const status = computeStatus(o, next, 'node-a');
    const of = (type: string) => status.conditions?.find((each) => each.type === type);
    const [ready, reconciling, stalled] = [of('Ready'), of('Reconciling'), of('Stalled')];
    assert.ok(ready !== undefined, 'Ready is there from the first write');
    assert.equal(status.observedGeneration, o.object.metadata.generation);
    for (const each of status.conditions ?? []) assert.equal(each.observedGeneration, 2, each.type);
    assert.ok(reconciling === undefined || reconciling.status === 'True', 'abnormal-true');
    assert.ok(stalled === undefined || stalled.status === 'True', 'abnormal-true');
    assert.ok(reconciling === undefined || stalled === undefined, 'working or stuck, not both');
    if (ready.status === 'True') {
      assert.equal(next.state, 'Running');
      assert.notEqual(o.vm, undefined);
      assert.equal(reconciling, undefined);
      assert.equal(stalled, undefined);
      assert.equal(o.object.metadata.deletionTimestamp, undefined);
    } else if (reconciling === undefined && stalled === undefined) {
      assert.ok(['Suspended', 'Succeeded'].includes(next.state), next.states.join(', '));
    }
    if (o.object.metadata.deletionTimestamp !== undefined) assert.equal(ready.reason, 'Terminating');
    assert.equal(of('Finished') !== undefined, next.state === 'Succeeded' || next.state === 'Failed');
    assert.equal(of('Suspended')?.status === 'True', next.state === 'Suspended');
  }
});

test('a status that is computed again is the same: no write without a change', () => {
  for (const o of SAMPLE.slice(0, 5_000)) {
    const next = step(o);
    if (next.state === 'Gone') continue;
    const status = computeStatus(o, next, 'node-a');
    const later = { ...o, now: NOW + 60_000, object: { ...o.object, status } };
    if (step(later).state !== next.state) continue;
    assert.ok(isSameStatus(status, computeStatus(later, next, 'node-a')));
  }
});
