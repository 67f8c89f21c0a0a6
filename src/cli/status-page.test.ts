import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StoredObject } from '../api/meta.ts';
import { parseSamples } from '../client/samples.ts';
import { type Facts, statusPage } from './status-page.ts';

const NOW = Date.parse('2026-01-01T01:00:00Z');

function sandbox(name: string, phase: string, ready: [string, string, string]): StoredObject {
  const [status, reason, message] = ready;
  return {
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Sandbox',
    metadata: { name, namespace: 'default' },
    status: { phase, conditions: [{ type: 'Ready', status, reason, message }] },
  } as unknown as StoredObject;
}

const NODE = [
  'process_start_time_seconds 1767225600',
  'node_sandbox_capacity_memory_bytes 2147483648',
  'node_sandbox_allocatable_memory_bytes 1073741824',
  'node_sandbox_allocated_memory_bytes 536870912',
  'node_sandbox_allocatable_vcpus 4',
  'node_sandbox_allocated_vcpus 6',
  'node_sandbox_storage_size_bytes{store="state"} 1000',
  'node_sandbox_storage_available_bytes{store="state"} 500',
  'sandbox_memory_resident_bytes{namespace="default",name="a",node="n"} 1048576',
];

const calm: Facts = {
  version: '1.2.3',
  sandboxes: [
    sandbox('a', 'Running', ['True', 'Ready', '']),
    sandbox('b', 'Suspended', ['False', 'Suspended', '']),
  ],
  volumes: [],
  warnings: [],
  samples: parseSamples(NODE.join('\n')),
  checks: [{ name: 'driver', status: 'ok', message: 'works' }],
};

test('where all is well the page says so, and what there is', () => {
  const page = statusPage(calm, NOW);
  for (const expected of [
    /Daemon +version 1\.2\.3, up 60m/,
    /Sandboxes +2: 1 Running, 1 Suspended/,
    /Volumes +none/,
    /Memory +512MiB of 1GiB given to sandboxes; they use 1MiB of the host's 2GiB/,
    /CPUs +6 virtual ones given to sandboxes, the host has 4/,
    /Disk \(state\) +500B of 1000B left/,
    /Everything that should run runs\./,
    /Nothing is near a limit\./,
    /No warnings\./,
  ]) {
    assert.match(page, expected);
  }
});

test('what does not run has its reason and what to do, and control characters are only shown', () => {
  const page = statusPage(
    {
      ...calm,
      sandboxes: [
        sandbox('broken', 'Pending', ['False', 'ImageNotFound', 'no image x\u001b[31m']),
        sandbox('slow', 'Starting', ['False', 'Booting', 'The VM is being started.']),
      ],
      checks: [{ name: 'folder', status: 'warn', message: 'two documents are broken', fix: 'Mend them.' }],
    },
    NOW,
  );
  assert.match(page, /Not as it should be \(3\):/);
  assert.match(page, /folder: two documents are broken\n +-> Mend them\./);
  assert.match(page, /sandbox default\/broken: Pending, ImageNotFound: no image x.*\n +-> \S/);
  assert.match(page, /slow: Starting, Booting: .*\n +-> bulkhead describe sandbox slow -n default/);
  assert.ok(!page.includes('\u001b'));
});

test('a sandbox that does not run and waits for a restart has both told', () => {
  const object = sandbox('both', 'Failed', ['False', 'Failed', 'It ended with 1.']);
  const { conditions } = object.status as { conditions: object[] };
  conditions.push({ type: 'RestartRequired', status: 'True', message: 'A change waits.' });
  const page = statusPage({ ...calm, sandboxes: [object] }, NOW);
  assert.match(page, /both: Failed, Failed: It ended with 1\./);
  assert.match(page, /both: A change waits\.\n +-> bulkhead restart both -n default/);
});

test('what is near a limit is named with how near', () => {
  const labels = '{namespace="default",name="a",node="n"}';
  const samples = parseSamples(
    [
      ...NODE.filter((line) => !/allocated_memory|resident|storage_available/.test(line)),
      'sandbox_memory_resident_bytes{namespace="default",name="a",node="n"} 2000000000',
      'node_sandbox_allocated_memory_bytes 1000000000',
      'node_sandbox_storage_available_bytes{store="state"} 100',
      `sandbox_memory_guest_used_bytes${labels} 95`,
      `sandbox_memory_guest_available_bytes${labels} 5`,
      `sandbox_fs_guest_used_bytes${labels} 10`,
      `sandbox_fs_guest_limit_bytes${labels} 100`,
      `volume_used_bytes${labels} 90`,
      `volume_available_bytes${labels} 10`,
    ].join('\n'),
  );
  const page = statusPage({ ...calm, samples }, NOW);
  assert.match(page, /Near a limit \(5\):/);
  assert.match(page, /sandbox default\/a: its guest uses 95 % of 100B of memory/);
  assert.match(page, /volume default\/a: its 100B are 90 % full/);
  assert.match(page, /node: sandboxes were given 93 % of the memory that they may be given/);
  assert.match(page, /node: sandboxes use 93 % of the host's memory/);
  assert.match(page, /node: the file system of the state has 100B left/);
  assert.doesNotMatch(page, /root disk/);
});
