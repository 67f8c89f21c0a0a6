// A VM of the software driver whose agent channel a bench has for itself: an agent serves one host at a time, so what goes
// through the daemon is compared with a second, equal VM.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { GuestAgent } from '../src/guest/agent.ts';
import type { VmHandle } from '../src/vmm/driver.ts';
import { openSoftwareDriver } from '../src/vmm/software/driver.ts';
import type { TestDaemon } from '../test/e2e/daemon-harness.ts';
import { BUILD_DIR, connect } from '../test/e2e/vmm-support.ts';

const MIB = 1024 * 1024;
const START_TIMEOUT_MS = 120_000;

type Driver = Awaited<ReturnType<typeof openSoftwareDriver>>;

/** The image disk that the daemon built. */
function imageDisk(stateDir: string): string {
  const disks = readdirSync(stateDir, { recursive: true, encoding: 'utf8' }).filter((path) =>
    path.endsWith('.erofs'),
  );
  assert.equal(disks.length, 1, `one image disk under ${stateDir}: ${disks.join(' ')}`);
  return join(stateDir, disks[0] ?? '');
}

/** Starts VMs with the image of a daemon and none of its other parts. */
export class BareVms {
  readonly #driver: Driver;
  readonly #daemon: TestDaemon;

  private constructor(driver: Driver, daemon: TestDaemon) {
    this.#driver = driver;
    this.#daemon = daemon;
  }

  static async open(daemon: TestDaemon): Promise<BareVms> {
    const stateDir = join(daemon.root, 'bare');
    return new BareVms(await openSoftwareDriver({ stateDir, buildDir: BUILD_DIR }), daemon);
  }

  /** Resolves when its agent answers. */
  async start(name: string, { memoryMib, diskMib }: { memoryMib: number; diskMib: number }): Promise<BareVm> {
    // Control groups are the whole host's.
    const id = `${name}-${process.pid}`;
    const dir = join(this.#daemon.root, 'bare', 'sandboxes', id);
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const vm = await this.#driver.start(
      {
        ...{ id, dir, cpus: 1, memoryBytes: memoryMib * MIB },
        image: { path: imageDisk(this.#daemon.stateDir), digest: 'sha256:bench' },
        upper: { path: join(dir, 'upper.img'), sizeBytes: diskMib * MIB },
      },
      AbortSignal.timeout(START_TIMEOUT_MS),
    );
    return new BareVm(this.#driver, vm, dir, await connect(vm));
  }

  close(): Promise<void> {
    return this.#driver.close();
  }
}

export class BareVm {
  readonly agent: GuestAgent;
  readonly #driver: Driver;
  readonly #vm: VmHandle;
  readonly #dir: string;
  #sessions = 0;

  constructor(driver: Driver, vm: VmHandle, dir: string, agent: GuestAgent) {
    this.#driver = driver;
    this.#vm = vm;
    this.#dir = dir;
    this.agent = agent;
  }

  /** Milliseconds from the call until output and exit code are there; the guest forgets the session outside of it. */
  async exec(argv: readonly string[], expected: string): Promise<number> {
    const start = performance.now();
    this.#sessions += 1;
    const process = await this.agent.exec({
      ...{ sessionId: `bench-${this.#sessions}`, argv: [...argv], env: [], stdin: false, overflow: 'block' },
    });
    const output = await text(process.stdout);
    const { exitCode } = await process.exited;
    const elapsed = performance.now() - start;
    assert.deepEqual([output, exitCode], [expected, 0]);
    await process.release();
    return elapsed;
  }

  async end(): Promise<void> {
    await this.agent.close();
    await this.#vm.kill();
    await this.#vm.exited;
    await this.#driver.release(this.#dir);
  }
}
