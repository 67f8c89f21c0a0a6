// The round trip of one small command: through the daemon's socket, and on the bare agent channel. Alternating, same run.
// Usage: node bench/exec.ts [ROUNDS] [--json]. Needs root.
//
// An agent serves one host at a time and the daemon's connection is that host, so the bare channel leads to a second VM:
// same driver, image disk, memory and disk size, warm as the first. A round trip counts from the call until output and
// exit code are there; the guest forgets the session outside of it, on both sides.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { BulkheadClient } from '../src/client/client.ts';
import type { GuestAgent } from '../src/guest/agent.ts';
import { openSoftwareDriver } from '../src/vmm/software/driver.ts';
import { sandboxYaml, TestDaemon } from '../test/e2e/daemon-harness.ts';
import { BUILD_DIR, connect } from '../test/e2e/vmm-support.ts';
import { countArgument, Report } from './report.ts';

const ROUNDS = countArgument(100);
/** The first commands of a guest fill its page and translation caches. */
const WARM_UP_ROUNDS = 20;
/** What the project wants to reach. */
const AIM = { max: 2 };
const MIB = 1024 * 1024;
const COMMAND = ['/bin/busybox', 'echo', 'done'];
const SANDBOX = 'bench';

async function overSocket(client: BulkheadClient): Promise<number> {
  const start = performance.now();
  const stream = await client.exec('default', SANDBOX, {
    ...{ command: COMMAND, stdin: false, stdout: true, stderr: true, tty: false },
  });
  const output = await text(stream.stdout);
  const { exitCode } = await stream.exited;
  const elapsed = performance.now() - start;
  assert.deepEqual([output, exitCode], ['done\n', 0]);
  return elapsed;
}

let sessions = 0;
async function overChannel(agent: GuestAgent): Promise<number> {
  const start = performance.now();
  sessions += 1;
  const process = await agent.exec({
    ...{ sessionId: `bench-${sessions}`, argv: COMMAND, env: [], stdin: false, overflow: 'block' },
  });
  const output = await text(process.stdout);
  const { exitCode } = await process.exited;
  const elapsed = performance.now() - start;
  assert.deepEqual([output, exitCode], ['done\n', 0]);
  await process.release();
  return elapsed;
}

/** The image disk that the daemon built. */
function imageDisk(stateDir: string): string {
  const disks = readdirSync(stateDir, { recursive: true, encoding: 'utf8' }).filter((path) =>
    path.endsWith('.erofs'),
  );
  assert.equal(disks.length, 1, `one image disk under ${stateDir}: ${disks.join(' ')}`);
  return join(stateDir, disks[0] ?? '');
}

await using daemon = await TestDaemon.start();
await daemon.write('bench.yaml', sandboxYaml(SANDBOX));
await daemon.waitReady(SANDBOX);

const driver = await openSoftwareDriver({ stateDir: join(daemon.root, 'bare'), buildDir: BUILD_DIR });
const dir = join(daemon.root, 'bare', 'sandboxes', 'bare');
await mkdir(dir, { recursive: true, mode: 0o700 });
const vm = await driver.start(
  {
    ...{ id: 'bare', dir, cpus: 1, memoryBytes: 128 * MIB },
    image: { path: imageDisk(daemon.stateDir), digest: 'sha256:bench' },
    upper: { path: join(dir, 'upper.img'), sizeBytes: 256 * MIB },
  },
  AbortSignal.timeout(120_000),
);
const client = new BulkheadClient({ socketPath: daemon.socket });
try {
  const agent = await connect(vm);
  const socket: number[] = [];
  const channel: number[] = [];
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
    const [own, bare] = [await overSocket(client), await overChannel(agent)];
    if (round < 0) continue;
    socket.push(own);
    channel.push(bare);
  }
  await agent.close();
  const report = new Report('exec round trip');
  report.series("over the daemon's socket", 'ms', socket);
  report.series('bare agent channel', 'ms', channel);
  report.ratio('socket to channel', socket, channel, AIM);
  report.print();
} finally {
  client.close();
  await vm.kill();
  await driver.release(dir);
  await driver.close();
}
