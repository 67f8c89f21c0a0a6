// A bare VM for the tests of the guest agent: QEMU without jail or driver, disks of a busybox tree.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmod, cp, mkdir, mkdtemp, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { GuestAgent, GuestProcess } from '../../src/guest/agent.ts';
import { type ConnectOptions, connectGuest } from '../../src/guest/client.ts';

const BUILD = fileURLToPath(new URL('../../build/guest/', import.meta.url));
const TCG_CLOCK = 'no_timer_check nolapic_timer noreplace-smp';
const UPPER_BYTES = 512 * 1024 * 1024;
const BOOT_LIMIT_MS = 120_000;

export interface TestImageOptions {
  /** Host programs that go into the image with their libraries. */
  programs?: string[];
  /** Host files and directories that go into the image where they are on the host. */
  paths?: string[];
  /** More files of the image: path in the image to path on the host. */
  files?: Record<string, string>;
}

export interface TestDisks {
  dir: string;
  image: string;
  upper: string;
  remove(): Promise<void>;
}

/** An image disk of a busybox tree with users, groups and a few odd files, and an empty upper disk. */
export async function makeDisks(options: TestImageOptions = {}): Promise<TestDisks> {
  const dir = await mkdtemp(join(tmpdir(), 'bulkhead-guest-'));
  const tree = join(dir, 'tree');
  for (const path of [
    'bin',
    'etc',
    'tmp',
    'root',
    'home/dev',
    'srv',
    'usr/bin',
    'proc',
    'sys',
    'dev',
    'run',
  ]) {
    await mkdir(join(tree, path), { recursive: true });
  }
  await chmod(join(tree, 'tmp'), 0o1777);
  await cp('/bin/busybox', join(tree, 'bin/busybox'));
  for (const applet of execFileSync('/bin/busybox', ['--list'], { encoding: 'utf8' }).trim().split('\n')) {
    if (applet !== 'busybox') await symlink('busybox', join(tree, 'bin', applet));
  }
  await writeFile(
    join(tree, 'etc/passwd'),
    'root:x:0:0:root:/root:/bin/sh\ndev:x:1000:1000:Dev:/home/dev:/bin/sh\nodd line\nshort:x:7\n',
  );
  await writeFile(
    join(tree, 'etc/group'),
    'root:x:0:\ntty:x:5:\ndev:x:1000:\nwheel:x:10:root,dev\nvideo:x:44:dev\n',
  );
  // Links that would lead a careless writer out of the container.
  await symlink('/../../../../../../../../../../tmp/escaped', join(tree, 'etc/resolv.conf'));
  await symlink('/../../../../etc', join(tree, 'srv/climb'));
  await writeFile(join(tree, 'bin/noexec'), 'just text\n');
  await chmod(join(tree, 'bin/noexec'), 0o644);
  await writeFile(join(tree, 'bin/noformat'), 'neither script nor program\n');
  await chmod(join(tree, 'bin/noformat'), 0o755);
  await writeFile(join(tree, 'bin/lostinterp'), '#!/nowhere/interpreter\n');
  await chmod(join(tree, 'bin/lostinterp'), 0o755);
  for (const program of options.programs ?? []) await copyProgram(tree, program);
  for (const path of options.paths ?? []) await copyHost(path, join(tree, path));
  for (const [target, source] of Object.entries(options.files ?? {}))
    await copyHost(source, join(tree, target));
  const image = join(dir, 'image.erofs');
  const upper = join(dir, 'upper.ext4');
  execFileSync('mkfs.erofs', [image, tree], { stdio: 'pipe' });
  await writeFile(upper, '');
  await truncate(upper, UPPER_BYTES);
  execFileSync('mkfs.ext4', ['-q', '-F', upper], { stdio: 'pipe' });
  await rm(tree, { recursive: true });
  return { dir, image, upper, remove: () => rm(dir, { recursive: true, force: true }) };
}

async function copyProgram(tree: string, program: string): Promise<void> {
  const libraries = execFileSync('ldd', [program], { encoding: 'utf8' });
  const paths = [program, ...(libraries.match(/\/[^\s()]+/g) ?? [])];
  for (const path of paths) await copyHost(path, join(tree, path));
}

function copyHost(source: string, target: string): Promise<void> {
  return cp(source, target, { dereference: true, recursive: true, force: true });
}

export interface TestVmOptions {
  memoryMiB?: number;
  cpus?: number;
  network?: boolean;
  extraArguments?: string[];
}

export class TestVm {
  readonly #process: ChildProcess;
  readonly #socket: string;
  readonly exited: Promise<number | null>;
  console = '';
  /** Connections of the last `agent`, so that a test can cut them. */
  readonly links: Duplex[] = [];

  constructor(disks: TestDisks, options: TestVmOptions = {}) {
    this.#socket = join(disks.dir, 'agent.sock');
    const memory = options.memoryMiB ?? 256;
    const commandLine = `console=hvc0 quiet loglevel=4 reboot=t panic=-1 ${clockOptions()}`;
    const drive = (id: string, path: string, more: string): string[] => [
      ...['-drive', `if=none,id=${id},file=${path},format=raw,${more}`],
      ...['-device', `virtio-blk-device,drive=${id}`],
    ];
    this.#process = spawn(
      'qemu-system-x86_64',
      [
        ...[
          '-M',
          'microvm,acpi=off,pic=on,pit=on,rtc=on',
          '-accel',
          'tcg,thread=multi,tb-size=256',
          '-cpu',
          'max',
        ],
        ...[
          '-m',
          String(memory),
          '-smp',
          String(options.cpus ?? 1),
          '-global',
          'virtio-mmio.force-legacy=false',
        ],
        ...[
          '-kernel',
          join(BUILD, 'vmlinux'),
          '-initrd',
          join(BUILD, 'initramfs.cpio'),
          '-append',
          commandLine,
        ],
        ...[
          '-nodefaults',
          '-no-user-config',
          '-display',
          'none',
          '-no-reboot',
          '-device',
          'virtio-serial-device',
        ],
        ...['-chardev', 'stdio,id=console,signal=off', '-device', 'virtconsole,chardev=console'],
        ...['-chardev', `socket,id=agent,path=${this.#socket},server=on,wait=off`],
        ...['-device', 'virtserialport,chardev=agent,name=bulkhead.agent'],
        ...drive('image', disks.image, 'readonly=on'),
        ...drive('upper', disks.upper, 'cache=writeback,discard=unmap'),
        ...(options.network
          ? ['-netdev', 'user,id=net,restrict=on', '-device', 'virtio-net-device,netdev=net']
          : []),
        ...['-device', 'virtio-rng-device'],
        ...(options.extraArguments ?? []),
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.console = (this.console + text).slice(-65536);
      });
    }
    this.exited = new Promise((resolve) => this.#process.on('exit', (code) => resolve(code)));
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  dial(signal: AbortSignal): Promise<Duplex> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.#socket);
      signal.addEventListener('abort', () => socket.destroy());
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        this.links.push(socket);
        resolve(socket);
      });
    });
  }

  async agent(options: ConnectOptions = {}): Promise<GuestAgent> {
    const limit = AbortSignal.timeout(BOOT_LIMIT_MS);
    const given = new AbortController();
    const onLimit = (): void => given.abort();
    limit.addEventListener('abort', onLimit);
    void this.exited.then(() => given.abort());
    try {
      return await connectGuest((signal) => this.dial(signal), { signal: given.signal, ...options });
    } catch (error) {
      throw new Error(`the guest did not answer; its console:\n${this.console}`, { cause: error });
    } finally {
      limit.removeEventListener('abort', onLimit);
    }
  }

  /** Processor seconds of the whole VM process so far. */
  async cpuSeconds(): Promise<number> {
    const fields = (await readFile(`/proc/${this.pid}/stat`, 'utf8')).split(') ')[1]?.split(' ') ?? [];
    return (Number(fields[11]) + Number(fields[12])) / 100;
  }

  async kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.exited;
  }
}

/** A bare VM whose root is mounted, without a network. Disposing it removes everything. */
export class TestGuest {
  readonly #disks: TestDisks;
  readonly #vm: TestVm;
  #agent: GuestAgent;
  #count = 0;

  private constructor(disks: TestDisks, vm: TestVm, agent: GuestAgent) {
    this.#disks = disks;
    this.#vm = vm;
    this.#agent = agent;
  }

  static async start(hostname: string): Promise<TestGuest> {
    const disks = await makeDisks();
    const vm = new TestVm(disks, { network: false });
    const guest = new TestGuest(disks, vm, await vm.agent());
    await guest.agent.mountRoot({ imageDevice: 'vda', upperDevice: 'vdb' });
    const nothing = { nameservers: [], searchDomains: [], extraHosts: [] };
    await guest.agent.personalize({ hostname, entropy: new Uint8Array(32), ...nothing });
    return guest;
  }

  get agent(): GuestAgent {
    return this.#agent;
  }

  /** Goes away as a daemon does, and comes back as another one. */
  async dialAnew(): Promise<void> {
    await this.#agent.close();
    this.#agent = await this.#vm.agent();
  }

  start(script: string): Promise<GuestProcess> {
    const sessionId = `sh-${++this.#count}`;
    return this.#agent.exec({
      ...{ sessionId, argv: ['sh', '-c', script], env: [], stdin: false, overflow: 'block' },
    });
  }

  /** Its output; the script must succeed. */
  async sh(script: string): Promise<string> {
    const process = await this.start(script);
    const [out, err, exit] = await Promise.all([text(process.stdout), text(process.stderr), process.exited]);
    await process.release();
    assert.equal(exit.exitCode, 0, err);
    return out;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.close();
    await this.#vm.kill();
    await this.#disks.remove();
  }
}

/** TCG cannot calibrate the guest's clock by itself; it passes the host's counter through. */
function clockOptions(): string {
  const mhz = /^cpu MHz\s*: ([\d.]+)/m.exec(
    execFileSync('cat', ['/proc/cpuinfo'], { encoding: 'utf8' }),
  )?.[1];
  return mhz ? `tsc_early_khz=${Math.round(Number(mhz) * 1000)} tsc=reliable ${TCG_CLOCK}` : TCG_CLOCK;
}

/** All of a stream as text. */
export async function text(stream: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts).toString('utf8');
}
