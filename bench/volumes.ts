// Volumes: making, attaching and copying them, and the input and output of a guest beside a file of the host.
// Usage: node bench/volumes.ts [ROUNDS] [--json]; ROUNDS counts the runs of input and output. Needs root.
//
// The program on the host runs in QEMU's user emulation, so that both sides are emulated and the disk makes the difference.
// The host serves its reads from memory on both sides: what is compared is the way to it.
import { execFileSync } from 'node:child_process';
import { closeSync, createReadStream, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { GuestVolume } from '../src/guest/agent.ts';
import { loadHostLibrary } from '../src/vmm/ffi.ts';
import { openVolumes } from '../src/volumes/open-volumes.ts';
import { BUILD_DIR, connect, run, VmmBench } from '../test/e2e/vmm-support.ts';
import { countArgument, Report } from './report.ts';

const ROUNDS = countArgument(5);
const CREATIONS = 20;
const ATTACHMENTS = 5;
const COPIES = 5;
/** O_PATH, which Node does not name. */
const O_PATH = 0o10000000;
const MIB = 1024 * 1024;
const CAPACITY = 1024 * MIB;
/** What is on a volume that is copied, MiB. */
const CONTENTS = [0, 64, 512] as const;
/** What the project wants to reach. */
const AIM = { createMs: 20, attachMs: 100, sequential: 1.5, random: 4, copyToCp: 1.5 };
const PATTERNS = [
  { name: 'sequential-write', aim: AIM.sequential },
  { name: 'sequential-read', aim: AIM.sequential },
  { name: 'random-write', aim: AIM.random },
  { name: 'random-read', aim: AIM.random },
  { name: 'synced-write', aim: AIM.random },
] as const;

const report = new Report('volumes: 1 GiB disks, files of 64 MiB, blocks of 4 KiB where at random');
const dir = mkdtempSync(join(tmpdir(), 'bulkhead-bench-'));
const library = loadHostLibrary(BUILD_DIR);
const volumes = await openVolumes({
  dir: join(dir, 'volumes'),
  sparseCopy: (source, target) => library.sparseCopy(source, target),
});
const bench = await VmmBench.open(join(dir, 'vmm'));

async function timed(work: () => Promise<unknown> | unknown): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

async function create(): Promise<string> {
  const uid = crypto.randomUUID();
  await volumes.create({ uid, namespace: 'bench', name: uid }, CAPACITY, 'ReadWriteOnce');
  return uid;
}

/** Claims a volume for a guest that starts, as a sandbox does. A `directory` of the host is at /shared. */
async function attach(uid: string, directory?: string) {
  let disk = { diskPath: '', sizeBytes: 0, readOnly: false };
  const owner = { uid: crypto.randomUUID(), name: 'bench/bench' };
  const claim = await timed(async () => {
    disk = await volumes.claim(uid, owner, 'ReadWrite');
  });
  const fds = directory === undefined ? [] : [openSync(directory, O_PATH)];
  const config = bench.config({ shares: fds.map((fd) => ({ fd, readOnly: false })) });
  const vm = await bench.start({
    ...config,
    volumes: [{ path: disk.diskPath, sizeBytes: disk.sizeBytes, readOnly: false }],
  });
  for (const fd of fds) closeSync(fd);
  const agent = await connect(vm);
  const shares = fds.map((_, entry): GuestVolume => {
    return { name: 'shared', source: { kind: 'share', entry, readOnly: false } };
  });
  const mount = await timed(() =>
    agent.mountVolumes(
      [{ name: 'data', source: { kind: 'disk', device: 'vdc', readOnly: false } }, ...shares],
      [
        { volume: 'data', mountPath: '/data', readOnly: false },
        ...shares.map(({ name }) => ({ volume: name, mountPath: '/shared', readOnly: false })),
      ],
    ),
  );
  const detach = async (): Promise<void> => {
    await agent.shutdown({ graceMs: 1_000 });
    await vm.exited;
    await agent.close();
    await bench.driver.release(config.dir);
    await volumes.release(uid, owner.uid);
  };
  return { agent, attachMs: claim + mount, detach };
}

async function creations(): Promise<void> {
  report.series('create, the first of its size', 'ms', [await timed(create)]);
  const later: number[] = [];
  for (let i = 0; i < CREATIONS; i++) later.push(await timed(create));
  report.series('create', 'ms', later, { max: AIM.createMs });
}

async function attachments(): Promise<void> {
  const uid = await create();
  const times: number[] = [];
  for (let i = 0; i < ATTACHMENTS; i++) {
    const { attachMs, detach } = await attach(uid);
    times.push(attachMs);
    await detach();
  }
  report.series('attach: claim, and mount in the guest', 'ms', times, { max: AIM.attachMs });
}

/** Microseconds by pattern. */
function timesIn(output: string): Map<string, number> {
  return new Map(
    [...output.matchAll(/^(\S+) (\d+)$/gm)].map(([, name = '', value]) => [name, Number(value) / 1_000]),
  );
}

async function inputAndOutput(): Promise<void> {
  const program = join(dir, 'volume-io');
  const source = join(import.meta.dirname, 'volume-io.c');
  execFileSync('gcc', ['-std=c11', '-D_GNU_SOURCE', '-O2', '-static', '-o', program, source]);
  const directory = join(dir, 'shared');
  mkdirSync(directory);
  const { agent, detach } = await attach(await create(), directory);
  await agent.files.write('/volume-io', createReadStream(program), { mode: 0o755 });
  const onHost = (): string =>
    execFileSync('qemu-x86_64', [program, join(dir, 'host-file')], { encoding: 'utf8' });
  const inGuest = async (path: string): Promise<string> =>
    (await run(agent, `/volume-io ${path} forget`)).output;
  const sides = {
    volume: new Map<string, number[]>(),
    directory: new Map<string, number[]>(),
    root: new Map<string, number[]>(),
    host: new Map<string, number[]>(),
  };
  const note = (side: Map<string, number[]>, output: string): void => {
    for (const [name, value] of timesIn(output)) side.set(name, [...(side.get(name) ?? []), value]);
  };
  for (let round = 0; round < ROUNDS; round++) {
    note(sides.host, onHost());
    note(sides.volume, await inGuest('/data/file'));
    note(sides.directory, await inGuest('/shared/file'));
    note(sides.root, await inGuest('/file'));
  }
  await detach();
  for (const { name, aim } of PATTERNS) {
    const of = (side: keyof typeof sides): number[] => sides[side].get(name) ?? [];
    const [volume, host] = [of('volume'), of('host')];
    report.series(`${name}: volume`, 'ms', volume);
    report.series(`${name}: directory of the host`, 'ms', of('directory'));
    report.series(`${name}: root of the sandbox`, 'ms', of('root'));
    report.series(`${name}: file of the host`, 'ms', host);
    report.ratio(`${name}: volume to host`, volume, host, { max: aim });
    report.ratio(`${name}: volume to directory`, volume, of('directory'));
  }
}

async function copies(): Promise<void> {
  for (const content of CONTENTS) {
    const uid = await create();
    const disk = join(dir, 'volumes', uid, 'disk.img');
    if (content > 0) {
      const file = join(dir, 'content');
      const fd = openSync(file, 'w');
      for (let i = 0; i < content; i++) writeSync(fd, Buffer.alloc(MIB, i + 1));
      closeSync(fd);
      execFileSync('debugfs', ['-w', '-R', `write ${file} content`, disk], { stdio: 'pipe' });
      rmSync(file);
    }
    const [ours, cp]: [number[], number[]] = [[], []];
    for (let i = 0; i < COPIES; i++) {
      const name = `copy-${content}-${i}`;
      ours.push(await timed(() => volumes.copy(uid, { namespace: 'bench', name }, 'ReadOnlyMany')));
      await volumes.remove(volumes.findRetained('bench', name) ?? '');
      const target = join(dir, 'cp');
      cp.push(
        await timed(() => {
          execFileSync('cp', ['--sparse=always', '--reflink=auto', disk, target]);
          execFileSync('sync', [target]);
        }),
      );
      rmSync(target);
    }
    report.series(`snapshot or clone with ${content} MiB`, 'ms', ours);
    report.series(`cp and sync of the same with ${content} MiB`, 'ms', cp);
    report.ratio(`ours to cp, ${content} MiB`, ours, cp, { max: AIM.copyToCp });
    await volumes.remove(uid);
  }
}

try {
  await creations();
  await attachments();
  await inputAndOutput();
  await copies();
  report.print();
} finally {
  await bench.close();
  await volumes.close();
  rmSync(dir, { recursive: true, force: true });
}
