// A scrape of many sandboxes: how long it takes, how large it is, and how long it keeps the event loop busy in one go.
// The daemon's own metrics look at sandboxes that are objects, and at VMs, guests and a gateway that are figures of this process.
// Reading the figures of a VM from /proc is measured on processes that stand for VMMs.
// Usage: node --expose-gc bench/scrape.ts [COUNT] [--json].
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { SANDBOX_CONDITIONS } from '../src/api/conditions.ts';
import type { VmFigures } from '../src/api/wire.ts';
import { DaemonMetrics, type MeasuredParts } from '../src/daemon/metrics.ts';
import { VmSamples } from '../src/daemon/vm-samples.ts';
import { parseIdentity, readVmStats } from '../src/vmm/stats.ts';
import { countArgument, Report } from './report.ts';

const COUNT = countArgument(1_000);
const ROUNDS = 20;
/** Rests between scrapes, so that none is served from the one before. */
const REST_MS = 300;
/** Stand-ins for VMMs; the figures of each are read as often as it takes to make COUNT. */
const PROCESSES = 50;
const READ_ROUNDS = 5;
const AIM = { milliseconds: { max: 50 }, mebibytes: { max: 2 }, blockedMilliseconds: { max: 10 } };
const GIB = 2 ** 30;

const VM: VmFigures = {
  cpuSeconds: 1234.56,
  memoryBytes: 234_567_890,
  memoryLimitBytes: 671_088_640,
  diskReadBytes: 123_456_789,
  diskWriteBytes: 987_654_321,
  networkReceiveBytes: 123_456,
  networkTransmitBytes: 654_321,
  networkReceivePackets: 1234,
  networkTransmitPackets: 4321,
};

const SAID = {
  uptimeSeconds: 1000,
  cpu: { userSeconds: 1, systemSeconds: 2, idleSeconds: 3, iowaitSeconds: 4, stealSeconds: 5 },
  memory: { totalBytes: 500_000_000, availableBytes: 300_000_000, cachedBytes: 100_000_000 },
  load: [0.1, 0.2, 0.3] as [number, number, number],
  pressure: { cpuSomeAvg10: 1, memorySomeAvg10: 2, ioSomeAvg10: 3 },
  fileSystems: [
    {
      ...{ mountPath: '/', totalBytes: GIB, usedBytes: 123_456_789, availableBytes: 900_000_000 },
      ...{ totalInodes: 65_536, usedInodes: 1234 },
    },
  ],
  interfaces: [],
  processes: 12,
};

/** What the daemon's metrics look at: COUNT sandboxes as its informer and its reconciler have them. */
function parts(): MeasuredParts {
  // As of a sandbox that runs: the others are there only while they apply.
  const conditions = Object.entries(SANDBOX_CONDITIONS)
    .filter(([, lifetime]) => lifetime === 'persistent')
    .map(([type]) => ({ type, status: 'True' as const }));
  const spec = {
    image: 'docker.io/library/python:3.13',
    resources: { cpus: 1, memory: '512Mi', disk: '1Gi' },
  };
  const status = { phase: 'Running', conditions, restarts: 0, vm: { driver: 'software' } };
  const objects = Array.from({ length: COUNT }, (_, index) => ({
    metadata: { namespace: 'default', name: `sandbox-${index}`, uid: `uid-${index}` },
    spec,
    status,
  }));
  const live = new Map(
    objects.map(({ metadata: { uid } }) => [
      uid,
      {
        uid,
        handle: { stats: async () => VM },
        startedAt: new Date(1_767_225_600_000),
        get lastGuestStats() {
          return { at: new Date(), stats: SAID };
        },
      },
    ]),
  );
  const counters = {
    decisions: { 'Flow/Allowed': 4, 'Flow/Denied': 9 },
    egressBytes: 1,
    ingressBytes: 2,
    connections: 3,
  };
  const sandboxes = Object.fromEntries(objects.map(({ metadata: { uid } }) => [uid, counters]));
  return {
    live: {
      list: () => [...live.values()],
      get: (uid: string) => live.get(uid),
      has: (uid: string) => live.has(uid),
    },
    sandboxes: { list: () => objects },
    images: { list: async () => [] },
    gateway: async () => ({ total: counters, sandboxes }),
    node: { memoryOvercommit: 2, storage: { state: '/tmp' } },
  } as unknown as MeasuredParts;
}

/** Milliseconds of this thread's processor time so far. */
function threadMs(since?: NodeJS.CpuUsage): number {
  const { user, system } = process.threadCpuUsage(since);
  return (user + system) / 1000;
}

/** The most processor time that went into one turn of the event loop until `stop`: what it is blocked for on a machine without load. */
function longestTurn(): { stop(): number } {
  let [longest, before] = [0, threadMs()];
  let stopped = false;
  const turn = (): void => {
    const now = threadMs();
    longest = Math.max(longest, now - before);
    before = now;
    if (!stopped) setImmediate(turn);
  };
  setImmediate(turn);
  return {
    stop() {
      stopped = true;
      return longest;
    },
  };
}

async function scrapes(report: Report, detail: boolean): Promise<void> {
  const metrics = new DaemonMetrics('node-1', { detail });
  metrics.observe(parts());
  const [times, cpu, blocked]: [number[], number[], number[]] = [[], [], []];
  const turns: number[] = [];
  let bytes = 0;
  let series = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    await sleep(REST_MS);
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    await sleep(10);
    delay.reset();
    const [began, used] = [performance.now(), process.threadCpuUsage()];
    const { body } = await metrics.scrape();
    times.push(performance.now() - began);
    cpu.push(threadMs(used));
    await sleep(10);
    delay.disable();
    blocked.push(delay.max / 1e6);
    await sleep(REST_MS);
    const turn = longestTurn();
    await metrics.scrape();
    turns.push(turn.stop());
    bytes = Buffer.byteLength(body);
    series = body
      .toString()
      .split('\n')
      .filter((line) => line.startsWith('sandbox_') && line.includes('name=')).length;
  }
  const name = detail ? 'with detail' : 'by default';
  // The first rounds are of code that was not compiled yet.
  report.series(`scrape ${name}`, 'ms', times.slice(3), detail ? undefined : AIM.milliseconds);
  // Unlike the time, load hardly changes it.
  report.series(`- CPU time of the event loop's thread`, 'ms', cpu.slice(3));
  report.series(`text ${name}`, 'MiB', [bytes / 2 ** 20], detail ? undefined : AIM.mebibytes);
  report.series(
    `event loop blocked ${name}`,
    'ms',
    blocked.slice(3),
    detail ? undefined : AIM.blockedMilliseconds,
  );
  report.series('- processor time of the longest turn', 'ms', turns.slice(3));
  report.series(`series of a sandbox ${name}`, 'number', [series / COUNT]);
}

async function readings(report: Report): Promise<void> {
  const children: ChildProcess[] = [];
  try {
    for (let index = 0; index < PROCESSES; index += 1) children.push(spawn('sleep', ['1000']));
    await Promise.all(children.map((child) => once(child, 'spawn')));
    const vmms = children.map(({ pid = 0 }) => ({
      pid,
      startTime: parseIdentity(readFileSync(`/proc/${pid}/stat`, 'utf8')).startTime,
    }));
    const samples = new VmSamples();
    let read = 0;
    const live = Array.from({ length: COUNT }, (_, index) => ({
      uid: String(index),
      handle: {
        stats: async () => {
          const stats = await readVmStats(vmms[index % PROCESSES] ?? { pid: 0, startTime: 0 }, GIB);
          read += 1;
          return stats;
        },
      },
    }));
    const [times, cpu]: [number[], number[]] = [[], []];
    for (let round = 0; round < READ_ROUNDS; round += 1) {
      const [began, used] = [performance.now(), process.cpuUsage()];
      read = 0;
      await samples.read(live);
      times.push(performance.now() - began);
      const { user, system } = process.cpuUsage(used);
      // On a crowded machine not all are read in the time that there is.
      cpu.push((user + system) / read);
    }
    report.series(`reading /proc of ${COUNT} processes`, 'ms', times);
    report.series('CPU time of one reading', 'us', cpu);
  } finally {
    for (const child of children) child.kill('SIGKILL');
  }
}

const report = new Report(`a scrape of ${COUNT} sandboxes`);
await scrapes(report, false);
await scrapes(report, true);
await readings(report);
report.note(
  'The processes that are read are small; the page tables of a real VMM take the kernel longer to sum up.',
);
report.print();
