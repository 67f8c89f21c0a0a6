// What every driver must do, as tests that run against each implementation.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BulkheadError, type ErrorCode } from '../api/errors.ts';
import type { VmConfig, VmmDriver } from './driver.ts';

/** One driver for all tests of a run, and what belongs to it. */
export interface DriverFixture {
  driver: VmmDriver;
  /** The configuration of a new VM of its own; its directory exists. */
  config(): Promise<VmConfig>;
  /** Another driver over the same state, as the next daemon has it. */
  reopen(): Promise<VmmDriver>;
}

/** A cold boot under emulation on a crowded machine takes tens of seconds. */
const START_TIMEOUT_MS = 120_000;

const withCode =
  (...codes: ErrorCode[]) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof BulkheadError, `not a BulkheadError: ${String(error)}`);
    assert.ok(codes.includes(error.code), `${error.code}: ${error.message}`);
    return true;
  };

/** Registers the tests; `fixture` is called when the first of them runs. */
export function testDriverContract(name: string, fixture: () => DriverFixture): void {
  const signal = (): AbortSignal => AbortSignal.timeout(START_TIMEOUT_MS);

  test(`${name}: a directory without a VM has nothing to adopt and no exit, and its release is safe`, async () => {
    const { driver, config } = fixture();
    const { dir } = await config();
    assert.equal(await driver.adopt(dir), undefined);
    assert.equal(await driver.lastExit(dir), undefined);
    await driver.release(dir);
    await driver.release(dir);
  });

  test(`${name}: a start that is cancelled before it begins fails and leaves nothing`, async () => {
    const { driver, config } = fixture();
    const vm = await config();
    await assert.rejects(driver.start(vm, AbortSignal.abort()));
    assert.equal(await driver.adopt(vm.dir), undefined);
    await driver.release(vm.dir);
  });

  test(`${name}: one VM is started once, found by the next driver, killed, and released`, async () => {
    const { driver, config, reopen } = fixture();
    const vm = await config();
    const handle = await driver.start(vm, signal());
    const next = await reopen();
    try {
      assert.equal(handle.id, vm.id);
      assert.equal(handle.driver, driver.name);
      assert.ok(handle.pid > 0);
      assert.ok((await handle.stats()).memoryLimitBytes > 0);
      (await handle.dialAgent(signal())).destroy();
      assert.equal(handle.stall, undefined, 'a host with room holds no VM');
      handle.onStallChange(() => assert.fail('a VM on a host with room stood still'));

      await assert.rejects(driver.start(vm, signal()), withCode('VM_ALREADY_RUNNING'));
      await assert.rejects(next.start(vm, signal()), withCode('VM_ALREADY_RUNNING'));

      const found = await next.adopt(vm.dir);
      assert.ok(found !== undefined, 'a running VM is found by its directory alone');
      assert.equal(found.id, vm.id);
      assert.equal(found.pid, handle.pid);
      assert.equal(found.startedAt.getTime(), handle.startedAt.getTime());
      assert.equal(found.launch, handle.launch);
      assert.equal(found.stall, undefined);

      await found.kill();
      await found.kill();
      const exits = await Promise.all([handle.exited, found.exited]);
      for (const exit of exits) assert.equal(exit.kind, 'killed', exit.message);
      await assert.rejects(handle.dialAgent(signal()), withCode('SANDBOX_NOT_RUNNING'));

      assert.equal(await next.adopt(vm.dir), undefined);
      const last = await next.lastExit(vm.dir);
      assert.equal(last?.kind, 'killed');
      assert.ok((last?.finishedAt.getTime() ?? 0) >= handle.startedAt.getTime());

      await next.release(vm.dir);
      await next.release(vm.dir);
      assert.equal(await next.adopt(vm.dir), undefined);
    } finally {
      await handle.kill();
      await next.close();
    }
  });
}
