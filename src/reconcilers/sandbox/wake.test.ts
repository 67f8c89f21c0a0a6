// When a sandbox is looked at again: never at once, for that would be a loop that starves the whole process.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sandboxManifest } from '../testing/world.ts';
import { FINALIZER } from './limits.ts';
import { step } from './machine.ts';
import type { Observation } from './observation.ts';
import { nextWake } from './wake.ts';

const NOW = Date.parse('2026-06-01T00:00:00Z');
const AT = new Date(NOW - 300_000).toISOString();

function observation(spec: Record<string, unknown>, part: Partial<Observation>): Observation {
  const manifest = sandboxManifest('app', spec);
  const metadata = { ...manifest.metadata, uid: 'u', generation: 1, finalizers: [FINALIZER] };
  return {
    now: NOW,
    object: { ...manifest, metadata } as unknown as NonNullable<Observation['object']>,
    unsupported: [],
    missing: [],
    hostMemoryBytes: 2 ** 40,
    launchDigest: 'same',
    root: { digest: 'same', diskBytes: 1 },
    directory: true,
    released: false,
    agent: { connected: false, silentMs: 1_000 },
    volumes: { wanted: [], claimed: false },
    probes: {},
    room: { reserved: false },
    guest: { rootMounted: false, personalized: false, mainStarted: false },
    elapsed: {},
    ...part,
  };
}

const LAUNCHED: Partial<Observation> = {
  vm: { driver: 'software', pid: 1, startedAt: AT, limitations: [] },
  record: {
    version: 1,
    run: 1,
    restarts: 0,
    failures: 0,
    startedAt: AT,
    activeSince: AT,
    restartedAt: '',
    launchDigest: 'same',
    main: false,
    imageDigest: 'sha256:0',
    driver: 'software',
    driverReason: 'test',
    previousExit: '',
    stop: { reason: 'DeadlineExceeded', message: 'late', at: AT },
  },
  task: { kind: 'stop' },
};

const CASES: { what: string; observed: Observation }[] = [
  {
    what: 'a pull that is tried again is under way',
    observed: observation(
      {},
      {
        task: { kind: 'pull' },
        failure: {
          task: 'pull',
          code: 'REGISTRY_UNAVAILABLE',
          reason: 'RegistryUnavailable',
          message: 'away',
          terminal: false,
          attempts: 1,
          retryInMs: -50,
        },
      },
    ),
  },
  {
    what: 'a sandbox stops because its time was up',
    observed: observation(
      { activeDeadlineSeconds: 10 },
      { ...LAUNCHED, elapsed: { sinceActive: 300_000, sinceRunStart: 300_000, sinceStop: 5_000 } },
    ),
  },
  {
    what: 'a sandbox stops because it did not come up',
    observed: observation({}, { ...LAUNCHED, elapsed: { sinceRunStart: 300_000, sinceStop: 5_000 } }),
  },
  {
    what: 'a sandbox stops because its shutdownTime has come',
    observed: observation({ shutdownTime: AT }, { ...LAUNCHED, elapsed: { sinceStop: 5_000 } }),
  },
];

for (const { what, observed } of CASES) {
  test(`while ${what}, it is not looked at again and again`, () => {
    const wait = nextWake(observed, step(observed));
    assert.ok(wait === undefined || wait > 0, `would be looked at again after ${wait} ms`);
  });
}
