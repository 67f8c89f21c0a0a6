// What a program waits for that uses the SDK, beside the bare agent channel of a second, equal VM. Alternating, same run.
// Usage: node bench/sdk.ts [ROUNDS] [--json]; ROUNDS counts the execs. Needs root. Each part is printed when it is done: a GiB
// takes minutes where machines are emulated.
import assert from 'node:assert/strict';
import { finished } from 'node:stream/promises';
import { Sandbox } from '../src/sdk/index.ts';
import { BUILTIN_IMAGE, TestDaemon } from '../test/e2e/daemon-harness.ts';
import { type BareVm, BareVms } from './bare-vm.ts';
import { countArgument, percentile, Report } from './report.ts';

const ROUNDS = countArgument(200);
/** The first commands of a guest fill its page and translation caches. */
const WARM_UP_ROUNDS = 20;
const STARTS = 5;
/** What the project wants to reach. */
const EXEC_AIM = { max: 1.5 };
const LARGE_FILE_AIM = { min: 0.7 };
const KIB = 1024;
const MIB = 1024 * KIB;
/** Sizes of files and how often each is carried; from `large` on the time is that of the bytes. */
const FILES = [
  { name: '1 KiB', bytes: KIB, rounds: 40, large: false },
  { name: '64 KiB', bytes: 64 * KIB, rounds: 40, large: false },
  { name: '1 MiB', bytes: MIB, rounds: 15, large: false },
  { name: '64 MiB', bytes: 64 * MIB, rounds: 3, large: true },
  { name: '1 GiB', bytes: 1024 * MIB, rounds: 1, large: true },
] as const;
/** Files of a small project, and how often they are carried. */
const MANY_FILES = 20;
const MANY_ROUNDS = 5;
const COMMAND = ['/bin/busybox', 'echo', 'done'] as const;
const OUTPUT = 'done\n';
const SIZE = { memoryMib: 256, diskMib: 3072 };
const SMALL = { memoryMib: 128, diskMib: 256 };
/** One piece of what is written; its content does not matter to anybody on the way. */
const PIECE = Buffer.alloc(MIB, 'bulkhead');

async function* contentOf(bytes: number): AsyncGenerator<Buffer> {
  for (let left = bytes; left > 0; left -= PIECE.length)
    yield PIECE.subarray(0, Math.min(left, PIECE.length));
}

async function timed(work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

async function countBytes(pieces: AsyncIterable<Uint8Array>, expected: number): Promise<void> {
  let bytes = 0;
  for await (const piece of pieces) bytes += piece.length;
  assert.equal(bytes, expected);
}

async function execBySdk(sandbox: Sandbox): Promise<number> {
  const [cmd, ...args] = COMMAND;
  return timed(async () => {
    const output = await sandbox.exec(cmd, args);
    assert.deepEqual([output.stdout(), output.code], [OUTPUT, 0]);
  });
}

async function measureStarts(vms: BareVms): Promise<void> {
  const report = new Report('SDK: create to first exec result');
  const own: number[] = [];
  const bare: number[] = [];
  for (let round = 0; round < STARTS; round++) {
    let sandbox: Sandbox | undefined;
    own.push(
      await timed(async () => {
        sandbox = await Sandbox.create({ image: BUILTIN_IMAGE, ...SMALL });
        await execBySdk(sandbox);
      }),
    );
    await sandbox?.removePersisted();
    let vm: BareVm | undefined;
    bare.push(
      await timed(async () => {
        vm = await vms.start(`start-${round}`, SMALL);
        await vm.exec(COMMAND, OUTPUT);
      }),
    );
    await vm?.end();
  }
  report.series('SDK', 'ms', own);
  report.series('driver and channel', 'ms', bare);
  report.ratio('SDK to driver and channel', own, bare);
  report.print();
}

async function measureExec(sandbox: Sandbox, vm: BareVm): Promise<void> {
  const report = new Report('SDK: exec round trip');
  const own: number[] = [];
  const bare: number[] = [];
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
    const [bySdk, byChannel] = [await execBySdk(sandbox), await vm.exec(COMMAND, OUTPUT)];
    if (round < 0) continue;
    own.push(bySdk);
    bare.push(byChannel);
  }
  report.series('SDK', 'ms', own);
  report.series('channel', 'ms', bare);
  report.ratio('SDK to channel', own, bare, EXEC_AIM);
  report.series('p99: SDK', 'ms', [percentile(own, 99)]);
  report.series('p99: channel', 'ms', [percentile(bare, 99)]);
  report.print();
}

async function measureFiles(sandbox: Sandbox, vm: BareVm): Promise<void> {
  const path = '/bench-file';
  const { files } = vm.agent;
  for (const { name, bytes, rounds, large } of FILES) {
    const times = {
      in: [] as number[],
      bareIn: [] as number[],
      out: [] as number[],
      bareOut: [] as number[],
    };
    const warmUp = large ? 0 : 2;
    for (let round = -warmUp; round < rounds; round++) {
      const took = {
        in: await timed(() => sandbox.fs().write(path, contentOf(bytes))),
        bareIn: await timed(() => files.write(path, contentOf(bytes), { mode: 0o644 })),
        out: await timed(async () => countBytes(await sandbox.fs().readStream(path), bytes)),
        bareOut: await timed(async () => {
          const content = await files.read(path);
          await countBytes(content, bytes);
          await finished(content).catch(() => {});
        }),
      };
      if (round < 0) continue;
      for (const key of ['in', 'bareIn', 'out', 'bareOut'] as const) times[key].push(took[key]);
    }
    const report = new Report(`SDK: files of ${name}`);
    // Of small files the time counts, of large ones the speed.
    const unit = large ? 'MiB/s' : 'ms';
    const shown = (ms: readonly number[]) => (large ? ms.map((each) => bytes / MIB / (each / 1000)) : ms);
    const aim = large ? LARGE_FILE_AIM : undefined;
    for (const [way, own, bare] of [
      ['in', shown(times.in), shown(times.bareIn)],
      ['out', shown(times.out), shown(times.bareOut)],
    ] as const) {
      report.series(`${way}: SDK`, unit, own);
      report.series(`${way}: channel`, unit, bare);
      report.ratio(`${way}: SDK to channel`, own, bare, aim);
    }
    report.print();
  }
}

/** A small project, file by file and together. */
async function measureManyFiles(sandbox: Sandbox): Promise<void> {
  const fs = sandbox.fs();
  const made = Array.from({ length: MANY_FILES }, (_, index) => ({
    ...{ path: `/bench-many-${index}`, data: Buffer.alloc(KIB, `${index}`) },
  }));
  const paths = made.map(({ path }) => path);
  const times = { in: [] as number[], inMany: [] as number[], out: [] as number[], outMany: [] as number[] };
  for (let round = -1; round < MANY_ROUNDS; round++) {
    const took = {
      in: await timed(async () => {
        for (const { path, data } of made) await fs.write(path, data);
      }),
      inMany: await timed(() => fs.writeMany(made)),
      out: await timed(async () => {
        for (const path of paths) assert.equal((await fs.read(path)).length, KIB);
      }),
      outMany: await timed(async () => {
        assert.equal((await fs.readMany(paths)).length, MANY_FILES);
      }),
    };
    if (round < 0) continue;
    for (const key of ['in', 'inMany', 'out', 'outMany'] as const) times[key].push(took[key]);
  }
  const report = new Report(`SDK: ${MANY_FILES} files of 1 KiB`);
  for (const [way, one, many] of [
    ['in', times.in, times.inMany],
    ['out', times.out, times.outMany],
  ] as const) {
    report.series(`${way}: one by one`, 'ms', one);
    report.series(`${way}: together`, 'ms', many);
    report.ratio(`${way}: together to one by one`, many, one);
  }
  report.print();
}

await using daemon = await TestDaemon.start();
process.env.BULKHEAD_SOCKET = daemon.socket;
const sandbox = await Sandbox.createDetached({ image: BUILTIN_IMAGE, name: 'bench', ...SIZE });
const vms = await BareVms.open(daemon);
try {
  await measureStarts(vms);
  const vm = await vms.start('bare', SIZE);
  try {
    await measureExec(sandbox, vm);
    await measureManyFiles(sandbox);
    await measureFiles(sandbox, vm);
  } finally {
    await vm.end();
  }
} finally {
  await vms.close();
}
