// Sandboxes that come and go, and a daemon that is killed while they go: the host has afterwards what it had before.
import assert from 'node:assert/strict';
import { existsSync, globSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as passTime } from 'node:timers/promises';
import { BulkheadError } from '../../src/api/errors.ts';
import { SANDBOX_KIND, VOLUME_KIND } from '../../src/api/kinds.ts';
import { BulkheadClient } from '../../src/client/client.ts';
import { campaign, rounds } from '../fixtures/campaign.ts';
import {
  hostResources,
  openFilesOf,
  type SandboxStatusView,
  sandboxYaml,
  TestDaemon,
} from './daemon-harness.ts';
import { condition, eventually } from './daemon-observations.ts';
import { volumeYaml, withVolumes } from './volume-harness.ts';

const CYCLES = rounds('BULKHEAD_CYCLES', { short: 30, soak: 2_000 });
/** By then caches, templates and the heap are what they stay. */
const WARM_UP = 5;
const KILLS = rounds('BULKHEAD_DELETION_KILLS', { short: 6, soak: 60 });
/** A deletion of an idle VM takes about so long: from the mark on the object to the removed directory. */
const DELETION_MS = 400;
/** The heap breathes between collections; a leak of a sandbox's state in each cycle is far more over a soak. */
const MEMORY_GROWTH_MAX_KIB = CYCLES > 100 ? 150 * 1024 : 80 * 1024;
/** Cycles between two lines about memory: a leak is a slope. */
const MEMORY_TOLD_EVERY = 50;
/** Long campaigns run beside other work, as what is least urgent. */
const OBSERVATION_TIMEOUT_MS = 900_000;

interface Held {
  descriptors: number;
  /** Of the gateway, which serves every sandbox of the daemon. */
  gatewayDescriptors: number;
  children: number;
  namespaces: number;
  users: string[];
  files: string[];
  processes: string[];
  mounts: string[];
  loopDevices: string[];
}

/** Files of the state directory that come and go without a sandbox: the store's own, and templates, which have bounds of their own. */
const OWN_FILES = /^store\.db|^vmm\/(disk-)?templates\/|^volumes\/\.templates/;

function filesUnder(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => !OWN_FILES.test(name))
    .sort();
}

/** Network namespaces in which a process of this daemon or its VMs lives, its own excluded. */
function namespacesOf(pids: readonly string[], own: string): number {
  const found = pids.map((pid) => {
    try {
      return readlinkSync(`/proc/${pid}/ns/net`);
    } catch {
      return own; // it has ended
    }
  });
  return new Set(found.filter((each) => each !== own)).size;
}

function held(daemon: TestDaemon): Held {
  const { processes, mounts } = hostResources(daemon.stateDir);
  const pid = String(daemon.pid);
  const gateway = String(daemon.gatewayPid);
  return {
    descriptors: openFilesOf(pid).length,
    gatewayDescriptors: openFilesOf(gateway).length,
    children: readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
      .split(' ')
      // It is the child of the daemon that started it, and of none after that.
      .filter((child) => child !== '' && child !== gateway).length,
    namespaces: namespacesOf(
      processes.map((line) => line.split(' ')[0] ?? ''),
      readlinkSync(`/proc/${pid}/ns/net`),
    ),
    users: readdirSync(join(daemon.stateDir, 'vmm', 'host-users')).sort(),
    files: filesUnder(daemon.stateDir),
    processes,
    mounts,
    loopDevices: globSync('/sys/block/loop*/loop/backing_file')
      .map((file) => readFileSync(file, 'utf8').trim())
      .filter((backing) => backing.startsWith(daemon.stateDir)),
  };
}

function residentKiB(pid: number | string): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

/** What is left of these sandboxes in the hierarchies of cgroups; other daemons of this host have theirs beside them. */
function cgroupsOf(uids: ReadonlySet<string>): string[] {
  const roots = [
    '/sys/fs/cgroup',
    ...readdirSync('/sys/fs/cgroup').map((name) => join('/sys/fs/cgroup', name)),
  ];
  return roots
    .map((root) => join(root, 'bulkhead'))
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)))
    .filter((path) => uids.has(basename(path)));
}

const GONE: SandboxStatusView = { phase: 'gone', conditions: [] };

async function untilStatus(
  client: BulkheadClient,
  name: string,
  holds: (status: SandboxStatusView) => boolean,
): Promise<void> {
  let last: unknown;
  await eventually(
    `the status of ${name} that ${holds}`,
    async () => {
      const object = await client.get(SANDBOX_KIND, 'default', name).catch((error: unknown) => {
        if (error instanceof BulkheadError && error.code === 'NOT_FOUND') return { status: GONE };
        throw error;
      });
      last = object.status;
      const status = object.status as SandboxStatusView | undefined;
      return status?.conditions !== undefined && holds(status) ? true : undefined;
    },
    () => JSON.stringify(last),
    OBSERVATION_TIMEOUT_MS,
  );
}

/** Made, used, stopped and deleted. Gives the uid that the sandbox had. */
async function cycle(daemon: TestDaemon, client: BulkheadClient, name: string): Promise<string> {
  const { metadata } = await client.create(SANDBOX_KIND, 'default', JSON.parse(withVolumes(name, ['data'])));
  await untilStatus(client, name, ({ conditions }) => condition(conditions, 'Ready')?.status === 'True');
  assert.equal(
    await daemon.ok('exec', name, '--', 'sh', '-c', `echo ${name} > /data/x; cat /data/x`),
    `${name}\n`,
  );
  assert.ok(cgroupsOf(new Set([metadata.uid])).length > 0, 'while it runs it has a cgroup');
  await client.patch(SANDBOX_KIND, 'default', name, { spec: { operatingMode: 'Suspended' } });
  await untilStatus(client, name, ({ phase }) => phase === 'Suspended');
  await client.delete(SANDBOX_KIND, 'default', name);
  await untilStatus(client, name, (status) => status === GONE);
  return metadata.uid;
}

/** With the volume that the sandboxes use one after the other, and all that is made once made. */
async function warmed(daemon: TestDaemon, client: BulkheadClient, cycles: number): Promise<void> {
  await client.create(VOLUME_KIND, 'default', JSON.parse(volumeYaml('data')));
  for (let i = 0; i < cycles; i++) await cycle(daemon, client, `warm-${i}`);
}

test(`${CYCLES} sandboxes made, used, stopped and deleted leave nothing behind`, async (t) => {
  await using daemon = await TestDaemon.start();
  const client = new BulkheadClient({ socketPath: daemon.socket });
  await warmed(daemon, client, WARM_UP);
  const before = held(daemon);
  const memory = () => ({ daemon: residentKiB(daemon.pid), gateway: residentKiB(daemon.gatewayPid) });
  const first = memory();
  const uids = new Set<string>();
  const done = await campaign(t, CYCLES, async (index) => {
    uids.add(await cycle(daemon, client, `cycle-${index}`));
    if (index % MEMORY_TOLD_EVERY === 0)
      console.log(`after ${index + 1} cycles: ${JSON.stringify({ ...memory(), ...counts(held(daemon)) })}`);
  });
  assert.equal(uids.size, done);
  const last = memory();
  await eventually(
    'what was held before',
    // Connections of the last commands close in their own time.
    async () => (held(daemon).descriptors <= before.descriptors ? true : undefined),
    () => `${openFilesOf(String(daemon.pid)).sort().join('\n')}`,
  );
  const after = held(daemon);
  t.diagnostic(`before: ${JSON.stringify({ ...first, ...counts(before) })}`);
  t.diagnostic(`after ${done} cycles: ${JSON.stringify({ ...last, ...counts(after) })}`);
  assert.deepEqual({ ...after, descriptors: 0 }, { ...before, descriptors: 0 });
  assert.deepEqual(cgroupsOf(uids), []);
  for (const process of ['daemon', 'gateway'] as const) {
    const growth = last[process] - first[process];
    assert.ok(growth < MEMORY_GROWTH_MAX_KIB, `${growth} KiB more in the ${process}`);
  }
});

/** Lists as their lengths. */
function counts(all: Held): Record<string, number> {
  return Object.fromEntries(
    Object.entries(all).map(([name, value]) => [name, typeof value === 'number' ? value : value.length]),
  );
}

test(`${KILLS} daemons killed in the middle of a deletion: the next one ends it, and nothing is left`, async (t) => {
  await using daemon = await TestDaemon.start();
  const client = new BulkheadClient({ socketPath: daemon.socket });
  await warmed(daemon, client, 1);
  const before = { ...held(daemon), descriptors: 0 };
  let unfinished = 0;
  const uids = new Set<string>();
  for (let kill = 0; kill < KILLS; kill++) {
    const name = `doomed-${kill}`;
    assert.equal((await daemon.cliWithInput(sandboxYaml(name), 'apply', '-f', '-')).code, 0);
    await daemon.waitReady(name);
    const { metadata } = await daemon.get(name);
    uids.add(metadata.uid);
    const marked = await client.delete(SANDBOX_KIND, 'default', name);
    assert.ok('metadata' in marked && 'deletionTimestamp' in marked.metadata, 'the deletion has begun');
    // From the first moment to one at which it may be over; the last ones at random.
    const moment = kill < KILLS / 2 ? kill / (KILLS / 2) : Math.random();
    await passTime(moment * DELETION_MS);
    await daemon.crash();
    if (readdirSync(join(daemon.stateDir, 'sandboxes')).includes(metadata.uid)) unfinished++;
    await daemon.launch();
    await daemon.waitGone(name);
  }
  t.diagnostic(`${unfinished} of ${KILLS} deletions were under way when the daemon was killed`);
  assert.deepEqual(cgroupsOf(uids), []);
  assert.ok(unfinished > 0, 'a deletion was cut short at least once');
  await eventually(
    'what the gateway held before',
    async () => (held(daemon).gatewayDescriptors <= before.gatewayDescriptors ? true : undefined),
    () => openFilesOf(String(daemon.gatewayPid)).sort().join('\n'),
  );
  assert.deepEqual(
    { ...held(daemon), descriptors: 0, gatewayDescriptors: 0 },
    { ...before, gatewayDescriptors: 0 },
  );
});
