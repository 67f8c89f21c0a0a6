// What the libkrun driver alone has: guests with many processors, and a TAP that is not there.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { InheritedFds } from '../../src/vmm/launch-config.ts';
import { krunArguments, krunBinds } from '../../src/vmm/libkrun/command-line.ts';
import { findLibrary, openLibkrunHost } from '../../src/vmm/libkrun/host.ts';
import { launchVm, releaseVm } from '../../src/vmm/vm-launch.ts';
import { onlyWith } from './test-driver.ts';
import { BUILD_DIR, connect, run, VmmBench } from './vmm-support.ts';

const MIB = 1024 * 1024;

describe('the libkrun driver', onlyWith('libkrun', 'these are properties of libkrun'), () => {
  let bench: VmmBench;
  before(async () => {
    bench = await VmmBench.open();
  });
  after(() => bench.close());

  test('a guest with eight processors has eight, and its kernel nothing against its initramfs', async () => {
    const vm = await bench.start(bench.config({ cpus: 8, memoryBytes: 256 * MIB }));
    const agent = await connect(vm);
    const { output } = await run(agent, 'grep -c ^processor /proc/cpuinfo');
    assert.equal(output.trim(), '8');
    const { output: log } = await run(agent, '/bin/busybox dmesg');
    assert.match(log, /Freeing initrd memory/);
    assert.doesNotMatch(log, /free_init_pages/);
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
});
