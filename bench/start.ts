// Cold and warm starts against bare QEMU with the same kernel, disks and command line, alternating in one run.
// Usage: node bench/start.ts [ROUNDS]. Needs root. A start counts until the agent's hello.
//
// "bare" has no jail, cgroups or supervisor, of namespaces only one for its TAP (about 2 ms): QEMU run by hand, memory in a file, disks by path.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, copyFileSync, mkdirSync, mkdtempSync, openSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectGuest } from '../src/guest/client.ts';
import { dialUnix } from '../src/vmm/dial.ts';
import { HostError, loadHostLibrary } from '../src/vmm/ffi.ts';
import { kernelArguments } from '../src/vmm/software/command-line.ts';
import { restoreState } from '../src/vmm/software/migration.ts';
import { QmpClient } from '../src/vmm/software/qmp.ts';
import { BUILD_DIR, VmmBench } from '../test/e2e/vmm-support.ts';

const ROUNDS = Number(process.argv[2] ?? 10);
/** What the project wants to reach. */
const AIM = { coldToBare: 1.15, warmToCold: 0.2 };
const MEMORY = '128M';
const STATE_FD = 3;

const library = loadHostLibrary(BUILD_DIR);
const signal = new AbortController().signal;
const bench = await VmmBench.open(mkdtempSync(join(tmpdir(), 'bulkhead-bench-')));
const tscKhz = await library.tscKhz();

/** Dials a socket that QEMU has yet to make. */
async function dialSoon(path: string) {
  for (;;) {
    try {
      return await dialUnix(library, path, signal);
    } catch (error) {
      if (!(error instanceof HostError)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}

function bareQemu(
  dir: string,
  disks: { image: string; upper: string },
  memory: string,
  source: string[],
  fds: number[],
): ChildProcess {
  const args = [
    ...[
      '-M',
      'microvm,acpi=off,pic=on,pit=on,rtc=on,memory-backend=m0',
      '-accel',
      'tcg,thread=multi,tb-size=64',
    ],
    ...['-cpu', 'max', '-m', MEMORY, '-smp', '1', '-object', memory],
    ...[
      '-global',
      'virtio-mmio.force-legacy=false',
      '-nodefaults',
      '-no-user-config',
      '-display',
      'none',
      '-no-reboot',
    ],
    ...source,
    ...[
      '-device',
      'virtio-serial-device',
      '-chardev',
      'null,id=console',
      '-device',
      'virtconsole,chardev=console',
    ],
    ...['-chardev', `socket,id=agent,path=${dir}/agent,server=on,wait=off`],
    ...[
      '-device',
      'virtserialport,chardev=agent,name=bulkhead.agent',
      '-qmp',
      `unix:${dir}/qmp,server=on,wait=off`,
    ],
    ...['-drive', `if=none,id=image,file=${disks.image},format=raw,readonly=on,file.locking=off`],
    ...['-device', 'virtio-blk-device,drive=image,id=vda,serial=image'],
    ...[
      '-drive',
      `if=none,id=upper,file=${disks.upper},format=raw,cache=writeback,discard=unmap,file.locking=off`,
    ],
    ...['-device', 'virtio-blk-device,drive=upper,id=vdb,serial=upper'],
    ...[
      '-netdev',
      'tap,id=net,ifname=tap0,script=no,downscript=no',
      '-device',
      'virtio-net-device,netdev=net,mac=02:62:68:00:00:01',
    ],
    ...['-device', 'virtio-rng-device'],
  ];
  return spawn('unshare', ['-n', '/usr/bin/qemu-system-x86_64', ...args], {
    stdio: ['ignore', 'ignore', 'inherit', ...fds],
  });
}

/** From `begin` to the hello; the guest is ended. */
async function bare(begin: (dir: string) => Promise<ChildProcess>): Promise<number> {
  const dir = mkdtempSync(join(tmpdir(), 'bulkhead-bare-'));
  const start = performance.now();
  const qemu = await begin(dir);
  const agent = await connectGuest(async () => (await dialSoon(join(dir, 'agent'))).socket, { signal });
  const elapsed = performance.now() - start;
  await agent.close();
  const gone = once(qemu, 'exit');
  qemu.kill('SIGKILL');
  await gone;
  rmSync(dir, { recursive: true });
  return elapsed;
}

async function bareBoot(dir: string): Promise<ChildProcess> {
  const kernel = [
    '-kernel',
    join(BUILD_DIR, 'guest/vmlinux'),
    '-initrd',
    join(BUILD_DIR, 'guest/initramfs.cpio'),
  ];
  await library.sparseCopy(emptyUpper, join(dir, 'upper'));
  return bareQemu(
    dir,
    { image: bench.image, upper: join(dir, 'upper') },
    `memory-backend-ram,id=m0,size=${MEMORY}`,
    [...kernel, '-append', kernelArguments(tscKhz)],
    [],
  );
}

async function bareRestore(dir: string): Promise<ChildProcess> {
  await library.sparseCopy(join(template, 'upper'), join(dir, 'upper'));
  const stateFd = openSync(join(template, 'state'), 'r');
  const memory = `memory-backend-file,id=m0,size=${MEMORY},mem-path=${template}/ram,share=off`;
  const qemu = bareQemu(
    dir,
    { image: bench.image, upper: join(dir, 'upper') },
    memory,
    ['-incoming', 'defer'],
    [stateFd],
  );
  closeSync(stateFd);
  const qmp = await QmpClient.connect(library, await dialSoon(join(dir, 'qmp')), signal);
  await restoreState(qmp, STATE_FD, signal);
  qmp.close();
  return qemu;
}

const stages = new Map<string, number[]>();
function note(name: string, value: number): number {
  stages.set(name, [...(stages.get(name) ?? []), value]);
  return value;
}

async function ours(kind: 'cold' | 'warm'): Promise<void> {
  const config = bench.config({ coldBoot: kind === 'cold' });
  const start = performance.now();
  const vm = await bench.start(config);
  const started = performance.now();
  const agent = await connectGuest((dialSignal) => vm.dialAgent(dialSignal), { signal });
  note(`${kind}: to the agent's hello`, performance.now() - start);
  note(`${kind}:   hello after the start returned`, performance.now() - started);
  for (const [stage, value] of Object.entries(vm.stages)) note(`${kind}:   ${stage}`, value);
  if (vm.launch !== kind)
    throw new Error(`asked for a ${kind} start, got a ${vm.launch} one: ${vm.coldReason}`);
  await agent.close();
  await vm.kill();
  await bench.driver.release(config.dir);
}

const median = (values: number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

// The first warm start makes the template; its upper disk is used by the bare restores, an unused one by the bare boots.
const first = bench.config();
const maker = await bench.start(first);
await maker.kill();
await bench.driver.release(first.dir);
const template = join(bench.dir, 'templates', readdirSync(join(bench.dir, 'templates'))[0] ?? '');
mkdirSync(join(bench.dir, 'bare'), { recursive: true });
const emptyUpper = join(bench.dir, 'bare/upper');
const disks = readdirSync(join(bench.dir, 'disk-templates'));
copyFileSync(join(bench.dir, 'disk-templates', disks[0] ?? ''), emptyUpper);

try {
  for (let round = 0; round < ROUNDS; round++) {
    note("bare boot: to the agent's hello", await bare(bareBoot));
    await ours('cold');
    note("bare restore: to the agent's hello", await bare(bareRestore));
    await ours('warm');
  }
  process.stdout.write(`${'milliseconds'.padEnd(44)} min / median / max (n=${ROUNDS})\n`);
  for (const [name, values] of [...stages].sort())
    process.stdout.write(
      `${name.padEnd(44)} ${Math.min(...values).toFixed(1)} / ${median(values).toFixed(1)} / ${Math.max(...values).toFixed(1)}\n`,
    );
  const of = (name: string) => median(stages.get(`${name}: to the agent's hello`) ?? []);
  process.stdout.write(
    `cold to bare boot ${(of('cold') / of('bare boot')).toFixed(2)} (aim: at most ${AIM.coldToBare})\n` +
      `warm to cold ${(of('warm') / of('cold')).toFixed(2)} (aim: at most ${AIM.warmToCold})\n` +
      `warm to bare restore ${(of('warm') / of('bare restore')).toFixed(2)}\n`,
  );
} finally {
  await bench.close();
}
