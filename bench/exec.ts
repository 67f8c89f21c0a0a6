// The round trip of one small command: through the daemon's socket, and on the bare agent channel. Alternating, same run.
// Usage: node bench/exec.ts [ROUNDS] [--json]. Needs root.
//
// A round trip counts from the call until output and exit code are there; the guest forgets the session outside of it, on
// both sides.
import assert from 'node:assert/strict';
import { text } from 'node:stream/consumers';
import { BulkheadClient } from '../src/client/client.ts';
import { sandboxYaml, TestDaemon } from '../test/e2e/daemon-harness.ts';
import { BareVms } from './bare-vm.ts';
import { countArgument, Report } from './report.ts';

const ROUNDS = countArgument(100);
/** The first commands of a guest fill its page and translation caches. */
const WARM_UP_ROUNDS = 20;
/** What the project wants to reach. */
const AIM = { max: 2 };
const COMMAND = ['/bin/busybox', 'echo', 'done'];
const OUTPUT = 'done\n';
const SANDBOX = 'bench';

async function overSocket(client: BulkheadClient): Promise<number> {
  const start = performance.now();
  const stream = await client.exec('default', SANDBOX, {
    ...{ command: COMMAND, stdin: false, stdout: true, stderr: true, tty: false },
  });
  const output = await text(stream.stdout);
  const { exitCode } = await stream.exited;
  const elapsed = performance.now() - start;
  assert.deepEqual([output, exitCode], [OUTPUT, 0]);
  return elapsed;
}

await using daemon = await TestDaemon.start();
await daemon.write('bench.yaml', sandboxYaml(SANDBOX));
await daemon.waitReady(SANDBOX);
const vms = await BareVms.open(daemon);
const vm = await vms.start('bare', { memoryMib: 128, diskMib: 256 });
const client = new BulkheadClient({ socketPath: daemon.socket });
try {
  const socket: number[] = [];
  const channel: number[] = [];
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
    const [own, bare] = [await overSocket(client), await vm.exec(COMMAND, OUTPUT)];
    if (round < 0) continue;
    socket.push(own);
    channel.push(bare);
  }
  const report = new Report('exec round trip');
  report.series("over the daemon's socket", 'ms', socket);
  report.series('bare agent channel', 'ms', channel);
  report.ratio('socket to channel', socket, channel, AIM);
  report.print();
} finally {
  client.close();
  await vm.end();
  await vms.close();
}
