// A host whose KVM is not what it looks like: the trial fails in the jail, says so, and sandboxes run all the same. The
// device stands in for KVM's, which this test never opens.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openLibkrunDriver } from '../../src/vmm/libkrun/driver.ts';
import { HostDrivers } from '../../src/vmm/select.ts';
import { openSoftwareDriver } from '../../src/vmm/software/driver.ts';
import { BUILD_DIR } from './vmm-support.ts';

test('a device that runs no guests: a verdict in words, the software driver in its place, and nothing left of the trial', {
  skip: existsSync(join(BUILD_DIR, 'libvmm/libkrun.so')) ? false : 'this build has no libkrun',
}, async () => {
  const stateDir = mkdtempSync(join(tmpdir(), 'bulkhead-verdict-'));
  const warnings: string[] = [];
  const options = {
    stateDir,
    buildDir: BUILD_DIR,
    onWarning: (message: string) => void warnings.push(message),
  };
  const drivers = new HostDrivers(
    {
      libkrun: await openLibkrunDriver({ ...options, kvmDevice: '/dev/null' }),
      software: await openSoftwareDriver(options),
    },
    'auto',
  );
  const signal = AbortSignal.timeout(120_000);
  try {
    const { driver, reason } = await drivers.select('Auto', signal);
    assert.equal(driver.name, 'software');
    assert.match(
      reason,
      /^libkrun made no VM of it: .*sandboxes run with the software driver meanwhile\. QEMU /s,
    );
    await assert.rejects(drivers.select('Libkrun', signal), {
      code: 'DRIVER_UNAVAILABLE',
      message: /Or use driver Software or Auto/,
    });
    assert.deepEqual(readdirSync(join(stateDir, 'trials')), []);
    assert.deepEqual(warnings, []);
  } finally {
    await drivers.close();
    rmSync(stateDir, { recursive: true, force: true });
  }
});
