// Sandboxes that come and go, and a daemon that is killed while they go: the host has afterwards what it had before.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as passTime } from 'node:timers/promises';
import { SANDBOX_KIND } from '../../src/api/kinds.ts';
import { BulkheadClient } from '../../src/client/client.ts';
import { rounds } from '../fixtures/campaign.ts';
import { cmdlineOf, hostResources, openFilesOf, sandboxYaml, TestDaemon } from './daemon-harness.ts';
import { eventually } from './daemon-observations.ts';

const CYCLES = rounds('BULKHEAD_CYCLES', { short: 30, soak: 2_000 });
/** By then caches, templates and the heap are what they stay. */
const WARM_UP = 5;
const KILLS = rounds('BULKHEAD_DELETION_KILLS', { short: 6, soak: 60 });
/** A deletion of an idle VM takes about so long: from the mark on the object to the removed directory. */
const DELETION_MS = 400;
/** The heap breathes between collections; a leak of a sandbox's state in each cycle is far more over a soak. */
const MEMORY_GROWTH_MAX_KIB = CYCLES > 100 ? 150 * 1024 : 80 * 1024;

interface Held {
  descriptors: number;
  children: number;
  namespaces: number;
  users: string[];
  files: string[];
  processes: string[];
  mounts: string[];
}

/** Files of the state directory that come and go without a sandbox: the store's own. */
const OWN_FILES = /^store\.db/;

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
  return {
    descriptors: openFilesOf(pid).length,
    children: readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
      .split(' ')
      // The gateway outlives daemons: it is the child of the one that started it, and of none after that.
      .filter((child) => child !== '' && !isGateway(child)).length,
    namespaces: namespacesOf(
      processes.map((line) => line.split(' ')[0] ?? ''),
      readlinkSync(`/proc/${pid}/ns/net`),
    ),
    users: readdirSync(join(daemon.stateDir, 'vmm', 'host-users')).sort(),
    files: filesUnder(daemon.stateDir),
    processes,
    mounts,
  };
}

function residentKiB(daemon: TestDaemon): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${daemon.pid}/status`, 'utf8'))?.[1]);
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

/** The uid that the sandbox had. */
async function cycle(daemon: TestDaemon, name: string): Promise<string> {
  const { code, stderr } = await daemon.cliWithInput(sandboxYaml(name), 'apply', '-f', '-');
  assert.equal(code, 0, stderr);
  await daemon.waitReady(name);
  assert.equal(await daemon.ok('exec', name, '--', 'echo', name), `${name}\n`);
  const { metadata } = await daemon.get(name);
  assert.ok(cgroupsOf(new Set([metadata.uid])).length > 0, 'while it runs it has a cgroup');
  await daemon.ok('delete', 'sandbox', name);
  return metadata.uid;
}

test(`${CYCLES} sandboxes made, used and deleted leave nothing behind`, async (t) => {
  await using daemon = await TestDaemon.start();
  for (let i = 0; i < WARM_UP; i++) await cycle(daemon, `warm-${i}`);
  const before = held(daemon);
  const memory = residentKiB(daemon);
  const uids = new Set<string>();
  for (let i = 0; i < CYCLES; i++) uids.add(await cycle(daemon, `cycle-${i}`));
  assert.equal(uids.size, CYCLES);
  const growth = residentKiB(daemon) - memory;
  t.diagnostic(`${JSON.stringify({ ...before, files: before.files.length })}`);
  t.diagnostic(`memory: ${memory >> 10} MiB before, ${growth} KiB more after ${CYCLES} cycles`);
  await eventually(
    'what was held before',
    // Connections of the last commands close in their own time.
    async () => (held(daemon).descriptors <= before.descriptors ? true : undefined),
    () => `${openFilesOf(String(daemon.pid)).sort().join('\n')}`,
  );
  assert.deepEqual({ ...held(daemon), descriptors: 0 }, { ...before, descriptors: 0 });
  assert.deepEqual(cgroupsOf(uids), []);
  assert.ok(growth < MEMORY_GROWTH_MAX_KIB, `${growth} KiB more`);
});

/** By the program that it runs: its name is not set from its first moment. */
function isGateway(pid: string): boolean {
  return cmdlineOf(pid).some(
    (word) => word.endsWith('/network/gateway/main.ts') || word.startsWith('bulkhead-gateway'),
  );
}

test(`${KILLS} daemons killed in the middle of a deletion: the next one ends it, and nothing is left`, async (t) => {
  await using daemon = await TestDaemon.start();
  const client = new BulkheadClient({ socketPath: daemon.socket });
  await cycle(daemon, 'first');
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
  assert.deepEqual({ ...held(daemon), descriptors: 0 }, before);
});
