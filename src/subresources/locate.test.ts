import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StoredObject } from '../api/meta.ts';
import { locateIn } from './locate.ts';

function object(kind: string, status: unknown): StoredObject {
  const metadata = { name: 'x', namespace: '', uid: 'u', resourceVersion: '1', generation: 1 };
  const apiVersion = 'bulkhead.dev/v1alpha1';
  return { apiVersion, kind, metadata: { ...metadata, creationTimestamp: '' }, spec: {}, status };
}

/** Of a cluster with this sandbox and this node. */
function locate(sandbox: unknown, node?: unknown) {
  const objects: Record<string, unknown> = { Sandbox: sandbox, Node: node };
  return locateIn({
    get: async ({ kind }) => (objects[kind] === undefined ? undefined : object(kind, objects[kind])),
  })('default', 'box');
}

const NODE = {
  addresses: [
    { type: 'Hostname', address: 'n' },
    { type: 'InternalIP', address: '10.0.0.7' },
  ],
};
const condition = (type: string, reason: string, message: string) => ({
  type,
  status: 'Unknown',
  reason,
  message,
});

test('a sandbox is where its status says', async () => {
  assert.deepEqual(await locate({ nodeName: 'n' }, NODE), { nodeName: 'n', host: '10.0.0.7' });
});

test('says why it cannot be reached', async () => {
  await assert.rejects(locate(undefined), {
    code: 'NOT_FOUND',
    message: 'sandboxes.bulkhead.dev "box" not found',
  });
  const waits = { conditions: [condition('Scheduled', 'Unschedulable', 'Insufficient memory.')] };
  await assert.rejects(locate(waits), {
    code: 'SANDBOX_NOT_RUNNING',
    message: 'The sandbox has no running VM. Insufficient memory.',
  });
  await assert.rejects(locate({}), { code: 'SANDBOX_NOT_RUNNING' });
  const lost = { nodeName: 'n', conditions: [condition('Ready', 'NodeLost', 'Node n is silent.')] };
  await assert.rejects(locate(lost, NODE), { code: 'NODE_LOST', message: 'Node n is silent.' });
  await assert.rejects(locate({ nodeName: 'n' }), { code: 'NODE_LOST' });
  await assert.rejects(locate({ nodeName: 'n' }, { addresses: [] }), { code: 'NODE_UNREACHABLE' });
});
