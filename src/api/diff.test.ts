import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diffManifests, formatDiff } from './diff.ts';

function sandbox(spec: Record<string, unknown>, metadata: Record<string, unknown> = {}) {
  return {
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Sandbox',
    metadata: { name: 'agent', namespace: 'default', ...metadata },
    spec: { image: 'a', ...spec },
  };
}

test('equal manifests differ in nothing, whatever the order of their fields', () => {
  const one = sandbox({ resources: { cpus: 1, disk: '1Gi' } });
  const other = { ...sandbox({}), spec: { resources: { disk: '1Gi', cpus: 1 }, image: 'a' } };
  assert.equal(formatDiff(one, other), '');
});

test('changes, additions and removals are one line each, in a stable order', () => {
  const before = sandbox({ user: 'app', resources: { cpus: 1 }, main: { args: ['a', 'b'] } });
  const after = sandbox({
    image: 'b',
    resources: { cpus: 2 },
    main: { args: ['a', 'c', 'd'] },
    hostname: 'h',
  });
  assert.equal(
    formatDiff(before, after),
    `Sandbox default/agent differs:
  + spec.hostname: "h"
  ~ spec.image: "a" -> "b"
  ~ spec.main.args[1]: "b" -> "c"
  + spec.main.args[2]: "d"
  ~ spec.resources.cpus: 1 -> 2
  - spec.user: "app"
`,
  );
});

test('list items are told apart by their names, not their places', () => {
  const before = sandbox({
    env: [
      { name: 'A', value: '1' },
      { name: 'B', value: '2' },
    ],
  });
  const after = sandbox({
    env: [
      { name: 'NEW', value: '0' },
      { name: 'A', value: '1' },
      { name: 'B', value: '3' },
    ],
  });
  assert.equal(
    formatDiff(before, after),
    `Sandbox default/agent differs:
  ~ spec.env.B.value: "2" -> "3"
  + spec.env.NEW.name: "NEW"
  + spec.env.NEW.value: "0"
`,
  );
});

test('another order of named items is a difference of its own', () => {
  const before = sandbox({ env: [{ name: 'A' }, { name: 'B' }] });
  const after = sandbox({ env: [{ name: 'B' }, { name: 'A' }] });
  assert.equal(
    formatDiff(before, after),
    'Sandbox default/agent differs:\n  ~ spec.env: ["A","B"] -> ["B","A"]\n',
  );
});

test('a new object and one that goes are shown field by field', () => {
  assert.equal(
    formatDiff(undefined, sandbox({ resources: { cpus: 1 }, main: {} })),
    `Sandbox default/agent would be created:
  + apiVersion: "bulkhead.dev/v1alpha1"
  + kind: "Sandbox"
  + metadata.name: "agent"
  + metadata.namespace: "default"
  + spec.image: "a"
  + spec.main: {}
  + spec.resources.cpus: 1
`,
  );
  assert.match(formatDiff(sandbox({}), undefined), /would be deleted:\n {2}- apiVersion/);
});

test('metadata that the server decides is no difference, labels are', () => {
  const before = sandbox({}, { uid: 'u', resourceVersion: '1', labels: { team: 'a' } });
  const after = sandbox({}, { labels: { team: 'b' }, annotations: {} });
  assert.equal(
    formatDiff(before, after),
    'Sandbox default/agent differs:\n  ~ metadata.labels.team: "a" -> "b"\n',
  );
});

test('values of a Secret are never shown', () => {
  const secret = (data: Record<string, string>) => ({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 's' },
    data,
  });
  assert.equal(
    formatDiff(secret({ a: 'aHVudGVy', b: 'Yg==' }), secret({ a: 'aHVudGVz', c: 'Yw==' })),
    'Secret default/s differs:\n  ~ data.a: (changed)\n  - data.b: (hidden)\n  + data.c: (hidden)\n',
  );
});

test('differences are also there for programs', () => {
  assert.deepEqual(diffManifests(sandbox({}), sandbox({ image: 'b' })), [
    { path: ['spec', 'image'], before: 'a', after: 'b' },
  ]);
});
