// What the tests of VMs share: a state directory of their own, a small image, starts and clean-up.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { GuestAgent, ProcessExit } from '../../src/guest/agent.ts';
import { connectGuest } from '../../src/guest/client.ts';
import type { VmConfig, VmHandle, VmmDriver } from '../../src/vmm/driver.ts';
import { openTestDriver } from './test-driver.ts';

export const BUILD_DIR = resolve(import.meta.dirname, '../../build');
const MIB = 1024 * 1024;

/** An EROFS image with busybox from Debian's busybox-static. */
export function makeBusyboxImage(dir: string): string {
  const root = join(dir, 'image-root');
  for (const name of ['bin', 'dev', 'etc', 'proc', 'sys', 'tmp'])
    mkdirSync(join(root, name), { recursive: true });
  copyFileSync('/bin/busybox', join(root, 'bin/busybox'));
  for (const name of ['sh', 'cat', 'sleep', 'sync', 'hostname', 'ping', 'grep', 'true'])
    symlinkSync('busybox', join(root, 'bin', name));
  const image = join(dir, 'image.erofs');
  execFileSync('mkfs.erofs', [image, root], { stdio: 'pipe' });
  rmSync(root, { recursive: true });
  return image;
}

/** One driver with a state directory that goes with it. */
export class VmmBench {
  readonly dir: string;
  readonly image: string;
  warnings: string[] = [];
  driver: VmmDriver;
  #ids = 0;

  private constructor(dir: string, image: string, driver: VmmDriver) {
    this.dir = dir;
    this.image = image;
    this.driver = driver;
  }

  /** `openDriver`: for tests of one driver alone; the driver under test when absent. */
  static async open(
    dir: string = mkdtempSync(join(tmpdir(), 'bulkhead-vmm-')),
    openDriver = openTestDriver,
  ): Promise<VmmBench> {
    const warnings: string[] = [];
    const driver = await openDriver({
      stateDir: dir,
      buildDir: BUILD_DIR,
      onWarning: (message) => warnings.push(message),
    });
    const bench = new VmmBench(dir, makeBusyboxImage(dir), driver);
    bench.warnings = warnings;
    return bench;
  }

  /** The configuration of a new VM; its directory exists. */
  config(overrides: Partial<VmConfig> = {}): VmConfig {
    const id = overrides.id ?? `vm-${process.pid}-${++this.#ids}`;
    const dir = join(this.dir, 'sandboxes', id);
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    return {
      ...{ id, dir, cpus: 1, memoryBytes: 128 * MIB },
      image: { path: this.image, digest: 'sha256:test' },
      upper: { path: join(dir, 'upper.img'), sizeBytes: 128 * MIB },
      ...overrides,
    };
  }

  start(config: VmConfig): Promise<VmHandle> {
    return this.driver.start(config, AbortSignal.timeout(120_000));
  }

  async close(): Promise<void> {
    await this.driver.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Connects and, where the VM booted cold, mounts the root. */
export async function connect(vm: VmHandle): Promise<GuestAgent> {
  const agent = await connectGuest((signal) => vm.dialAgent(signal), {
    signal: AbortSignal.timeout(120_000),
  });
  if (!agent.hello.rootMounted) await agent.mountRoot({ imageDevice: 'vda', upperDevice: 'vdb' });
  return agent;
}

/** Runs a shell line in the guest. */
export async function run(agent: GuestAgent, line: string): Promise<{ exit: ProcessExit; output: string }> {
  const guest = await agent.exec({
    ...{ sessionId: `run-${crypto.randomUUID()}`, argv: ['/bin/sh', '-c', line], env: [] },
    ...{ stdin: false, overflow: 'block' },
  });
  const chunks: Buffer[] = [];
  for await (const chunk of guest.output()) chunks.push(Buffer.from(chunk.data));
  const exit = await guest.exited;
  await guest.release();
  return { exit, output: Buffer.concat(chunks).toString() };
}
