// What the libkrun driver alone has: guests with many processors, a TAP that is not there, traffic under its allow-list.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { InheritedFds } from '../../src/vmm/launch-config.ts';
import { krunArguments, krunBinds } from '../../src/vmm/libkrun/command-line.ts';
import { findLibrary, openLibkrunHost } from '../../src/vmm/libkrun/host.ts';
import { readRunningRecord } from '../../src/vmm/records.ts';
import { launchVm, releaseVm } from '../../src/vmm/vm-launch.ts';
import { onlyWith } from './test-driver.ts';
import { BUILD_DIR, connect, run, VmmBench } from './vmm-support.ts';

const MIB = 1024 * 1024;
/** Each direction; far above what fits the queues of the device. */
const PACKETS = 4000;
const PACKET_BYTES = 1400;
const GUEST_ADDRESS = '10.77.0.2';
const HOST_ADDRESS = '10.77.0.1';
/** The file behind the guest's interface has the address that the driver gives each machine. */
const MAC = '02:62:68:00:00:01';

describe('the libkrun driver', onlyWith('libkrun', 'these are properties of libkrun'), () => {
  let bench: VmmBench;
  before(async () => {
    bench = await VmmBench.open();
  });
  after(() => bench.close());

  test('a guest with eight processors has eight', async () => {
    const vm = await bench.start(bench.config({ cpus: 8, memoryBytes: 256 * MIB }));
    const agent = await connect(vm);
    const { output } = await run(agent, 'grep -c ^processor /proc/cpuinfo');
    assert.equal(output.trim(), '8');
    await agent.close();
    await vm.kill();
  });

  test('a TAP that is missing ends the VMM, and its reason names it', async () => {
    const host = await openLibkrunHost({ stateDir: join(bench.dir, 'no-tap'), buildDir: BUILD_DIR });
    const library = await findLibrary(host);
    assert.ok(library !== undefined);
    const id = `no-tap-${process.pid}`;
    const dir = join(bench.dir, 'no-tap', id);
    mkdirSync(dir, { mode: 0o700 });
    const machine = { cpus: 1, memoryMib: 128, network: true };
    const inherited = new InheritedFds();
    const { consoleFd } = inherited.launcherMade();
    try {
      const vm = await launchVm(
        host,
        {
          ...{ driver: 'libkrun', id, dir, cpus: 1, uid: await host.users.claim(id, dir), inherited },
          // The machine asks for a device that its network namespace does not have.
          ...{ tap: 'none', launch: 'cold', argv: krunArguments(machine, consoleFd) },
          binds: krunBinds(host, library, machine),
          ...{ memoryLimitBytes: 512 * MIB, addressSpaceBytes: 8192 * MIB },
        },
        AbortSignal.timeout(60_000),
      );
      const exit = await vm.exited;
      assert.equal(exit.kind, 'crashed', exit.message);
      assert.match(exit.message, /did not get its TAP/);
    } finally {
      await releaseVm(host, id);
      await host.watcher.close();
    }
  });

  test('thousands of packets go through its TAP both ways under the allow-list', async () => {
    const config = bench.config({ memoryBytes: 256 * MIB });
    const vm = await bench.start(config);
    const agent = await connect(vm);
    const setUp = [
      `busybox ip address add ${GUEST_ADDRESS}/24 dev eth0`,
      'busybox ip link set eth0 up',
      // Nobody answers what a guest asks: its frames are dropped behind the TAP.
      `busybox ip neigh replace ${HOST_ADDRESS} lladdr 02:62:68:00:00:02 dev eth0`,
    ].join(' && ');
    const ready = await run(agent, setUp);
    assert.equal(ready.exit.exitCode, 0, ready.output);

    const supervisor = (await readRunningRecord(config.dir))?.supervisor.pid;
    const inside = (...command: string[]) =>
      execFileSync('nsenter', ['-t', String(supervisor), '-n', ...command], { encoding: 'utf8' });
    inside('ip', 'neigh', 'replace', GUEST_ADDRESS, 'lladdr', MAC, 'dev', 'tap0');
    const sender = resolve(import.meta.dirname, '../fixtures/udp-sender.ts');
    inside(process.execPath, sender, GUEST_ADDRESS, String(PACKETS), String(PACKET_BYTES));

    const counter = async (name: string) =>
      Number((await run(agent, `cat /sys/class/net/eth0/statistics/${name}`)).output);
    assert.ok((await counter('rx_packets')) > PACKETS / 2, 'a full queue may drop some, never most');
    const sent = await run(
      agent,
      `busybox dd if=/dev/zero bs=${PACKET_BYTES} count=${PACKETS} 2>/dev/null | busybox nc -u -w 1 ${HOST_ADDRESS} 9`,
    );
    assert.ok((await counter('tx_packets')) >= PACKETS / 2, sent.output);
    assert.ok((await vm.stats()).networkTransmitPackets > PACKETS / 2, 'the host counts them as well');
    assert.equal((await run(agent, 'echo alive')).output, 'alive\n');
    await agent.close();
    await vm.kill();
  });
});
