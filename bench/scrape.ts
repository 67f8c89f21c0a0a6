// A scrape of many sandboxes: how long it takes, how large it is, and how long it keeps the event loop busy in one go.
// Collectors, registry, informer and store are the daemon's own; sandboxes are objects, and their VMs and guests figures of
// this process. Reading the figures of a VM from /proc is measured on processes that stand for VMMs.
// Usage: node --expose-gc bench/scrape.ts [COUNT] [--json].
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { SANDBOX_CONDITIONS } from '../src/api/conditions.ts';
import type { VmFigures } from '../src/api/wire.ts';
import { guestFigures } from '../src/daemon/guest-figures.ts';
import { VmSamples } from '../src/daemon/vm-samples.ts';
import { Metrics } from '../src/metrics/registry.ts';
import { collectSandboxes, type SandboxFigures } from '../src/metrics/sandbox-collector.ts';
import { parseIdentity, readVmStats } from '../src/vmm/stats.ts';
import { countArgument, Report } from './report.ts';

const COUNT = countArgument(1_000);
const ROUNDS = 20;
/** Rests between scrapes, so that each is measured alone. */
const REST_MS = 100;
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

function* figures(samples: VmSamples): Generator<SandboxFigures> {
  // As of a sandbox that runs: the others are there only while they apply.
  const conditions = Object.entries(SANDBOX_CONDITIONS)
    .filter(([, lifetime]) => lifetime === 'persistent')
    .map(([type]) => ({ type, status: 'True' as const }));
  const bounds = { memoryBytes: GIB, diskBytes: GIB };
  for (let index = 0; index < COUNT; index += 1) {
    const vm = samples.get(String(index));
    const guest = guestFigures({ at: new Date(), stats: SAID }, bounds, Date.now());
    yield {
      ...{
        namespace: 'default',
        name: `sandbox-${index}`,
        node: 'node-1',
        image: 'docker.io/library/python:3.13',
      },
      ...{ driver: 'software', phase: 'Running', conditions, restarts: 0, vmStartSeconds: 1_767_225_600 },
      ...(vm === undefined ? {} : { vm }),
      ...(guest === undefined ? {} : { guest }),
    };
  }
}

async function scrapes(report: Report, detail: boolean): Promise<void> {
  const metrics = new Metrics();
  const samples = new VmSamples();
  const live = Array.from({ length: COUNT }, (_, index) => ({
    uid: String(index),
    handle: { stats: async () => VM },
  }));
  collectSandboxes(metrics, () => figures(samples), { detail });
  const [times, blocked]: [number[], number[]] = [[], []];
  let bytes = 0;
  let series = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    await sleep(REST_MS);
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    await sleep(10);
    delay.reset();
    const began = performance.now();
    await samples.read(live);
    const text = await metrics.scrape();
    times.push(performance.now() - began);
    await sleep(10);
    delay.disable();
    blocked.push(delay.max / 1e6);
    bytes = Buffer.byteLength(text);
    series = text.split('\n').filter((line) => line.startsWith('sandbox_') && line.includes('name=')).length;
  }
  const name = detail ? 'with detail' : 'by default';
  // The first rounds are of code that was not compiled yet.
  report.series(`scrape ${name}`, 'ms', times.slice(3), detail ? undefined : AIM.milliseconds);
  report.series(`text ${name}`, 'MiB', [bytes / 2 ** 20], detail ? undefined : AIM.mebibytes);
  report.series(
    `event loop blocked ${name}`,
    'ms',
    blocked.slice(3),
    detail ? undefined : AIM.blockedMilliseconds,
  );
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
    const live = Array.from({ length: COUNT }, (_, index) => ({
      uid: String(index),
      handle: { stats: () => readVmStats(vmms[index % PROCESSES] ?? { pid: 0, startTime: 0 }, GIB) },
    }));
    const [times, cpu]: [number[], number[]] = [[], []];
    for (let round = 0; round < READ_ROUNDS; round += 1) {
      const [began, used] = [performance.now(), process.cpuUsage()];
      await samples.read(live);
      times.push(performance.now() - began);
      const { user, system } = process.cpuUsage(used);
      cpu.push((user + system) / COUNT);
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
