// Health of sandboxes in states that a test of a cluster would wait for long, or not come by.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { healthOf } from './health.ts';

const GENERATION = 2;

function sandbox(phase: string | undefined, observedGeneration: number, conditions: Record<string, string>) {
  const told = Object.entries(conditions).map(([type, text]) => {
    const [status = '', reason = 'Reason'] = text.split(' ');
    return { type, status, reason, message: 'said "so"\n' };
  });
  return {
    ...{ apiVersion: 'bulkhead.dev/v1alpha1', kind: 'Sandbox', spec: {} },
    metadata: { name: 'a', namespace: 'default', generation: GENERATION },
    status: { phase, observedGeneration, ...(told.length === 0 ? {} : { conditions: told }) },
  };
}

test('no state of a sandbox is taken for another one', async () => {
  const cases: [string, object, string][] = [
    ['never looked at', sandbox(undefined, -1, {}), 'InProgress Progressing InProgress'],
    ['an older spec is ready', sandbox('Running', 1, { Ready: 'True' }), 'InProgress Progressing InProgress'],
    ['ready', sandbox('Running', 2, { Ready: 'True' }), 'Current Healthy Current'],
    [
      'ready, on its way',
      sandbox('Running', 2, { Ready: 'False', Reconciling: 'True' }),
      'InProgress Progressing InProgress',
    ],
    [
      'suspended',
      sandbox('Suspended', 2, { Ready: 'False', Suspended: 'True' }),
      'InProgress Suspended Current',
    ],
    [
      'ended well',
      sandbox('Succeeded', 2, { Ready: 'False', Finished: 'True' }),
      'InProgress Healthy Current',
    ],
    ['ended badly', sandbox('Failed', 2, { Ready: 'False', Stalled: 'True' }), 'Failed Degraded Failed'],
    ['node lost', sandbox('Unknown', 2, { Ready: 'Unknown NodeLost' }), 'InProgress Unknown InProgress'],
  ];
  const told = await healthOf(cases.map(([, object]) => object));
  assert.deepEqual(
    told.map(({ kstatus, argo, flux }, at) => `${cases[at]?.[0]}: ${kstatus} ${argo} ${flux}`),
    cases.map(([name, , expected]) => `${name}: ${expected}`),
  );
});
