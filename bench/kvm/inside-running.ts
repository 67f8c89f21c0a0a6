// Inside the lab: what a running sandbox costs and how fast it answers. Usage: node bench/kvm/inside-running.ts ROUNDS
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { FloorVm, Ours, Peer } from './contenders.ts';
import { printFigure } from './figures.ts';
import { memoryOf, processesOf, processorSeconds } from './processes.ts';

const rounds = Number(process.argv[2]);
const NAME = 'running';
/** The first commands fill the guest's page cache. */
const WARM_UP_ROUNDS = 3;
/** Guests settle after their boot; then idle time is counted for as long. */
const SETTLE_MS = 10_000;
const IDLE_MS = 10_000;
/** What the guest's work takes and gives back; half of the guest's memory is what /dev/shm holds. */
const USED_MIB = 200;
/** The guest's kernel reports free pages every two seconds. */
const RETURN_MS = 15_000;
const COPY_BYTES = 16 * 1024 * 1024;
const COPY_FILE = '/tmp/copied';

async function measureIdle(label: string, pids: readonly number[]): Promise<void> {
  await sleep(SETTLE_MS);
  const before = processorSeconds(pids);
  await sleep(IDLE_MS);
  const seconds = processorSeconds(pids) - before;
  const memory = memoryOf(pids);
  printFigure(`idle: ${label}, processor`, (100 * seconds * 1000) / IDLE_MS);
  printFigure(`idle: ${label}, PSS`, memory.all);
  printFigure(`idle: ${label}, PSS beyond the guest's memory`, memory.beyondGuest);
}

/** What of the memory that a sandbox has used comes back to the host. */
async function measureReturn(ours: Ours): Promise<void> {
  const pids = processesOf('bulkhead-vmm');
  const file = '/dev/shm/used';
  await ours.exec(NAME, ['/bin/busybox', 'dd', 'if=/dev/zero', `of=${file}`, 'bs=1M', `count=${USED_MIB}`]);
  printFigure('used: ours, PSS', memoryOf(pids).all);
  await ours.exec(NAME, ['/bin/busybox', 'rm', file]);
  await sleep(RETURN_MS);
  printFigure('used and freed: ours, PSS', memoryOf(pids).all);
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

const OWNER = { namespace: 'default', name: NAME };

function copyIn(ours: Ours, bytes: Buffer): Promise<void> {
  return ours.client.files.write(OWNER, COPY_FILE, Readable.from(bytes, { objectMode: false }));
}

async function copyOut(ours: Ours): Promise<Buffer> {
  return buffer(await ours.client.files.read(OWNER, COPY_FILE));
}

// One after another, alone: idle guests would share the processor and their pages.
const floor = await FloorVm.start();
await measureIdle('floor', processesOf('floor-launcher'));
await floor.kill();

const peer = Peer.install();
peer.create(NAME);
await measureIdle('peer', processesOf('msb'));
peer.remove(NAME);

await using ours = await Ours.open();
await ours.create(NAME);
await measureIdle('ours', processesOf('bulkhead-vmm'));
await measureReturn(ours);

peer.create(NAME);
const channel = await FloorVm.start();
const bytes = randomBytes(COPY_BYTES);
writeFileSync('/tmp/source', bytes);
for (let round = -WARM_UP_ROUNDS; round < rounds; round++) {
  const own = await timed(() => ours.exec(NAME, ['/bin/busybox', 'true']));
  const [bare, program] = [await channel.roundTrip('p'), await channel.roundTrip('x')];
  if (round < 0) continue;
  printFigure('exec: bare channel, one byte', bare);
  printFigure('exec: bare channel, a program run', program);
  printFigure('exec: ours, open client', own);
  printFigure("exec: the peer's command", peer.timed('exec', '--no-tty', NAME, '--', '/bin/true'));
  printFigure('copy in: ours', await timed(() => copyIn(ours, bytes)));
  printFigure('copy in: peer', peer.timed('cp', '-q', '/tmp/source', `${NAME}:${COPY_FILE}`));
  const began = performance.now();
  const copied = await copyOut(ours);
  printFigure('copy out: ours', performance.now() - began);
  assert.ok(copied.equals(bytes));
  printFigure('copy out: peer', peer.timed('cp', '-q', `${NAME}:${COPY_FILE}`, '/tmp/returned'));
  assert.ok(readFileSync('/tmp/returned').equals(bytes));
}
await channel.kill();
peer.remove(NAME);
