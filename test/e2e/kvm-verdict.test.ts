// A host whose KVM is not what it looks like: the trial fails in the jail, says so, and sandboxes run all the same. The
// device stands in for KVM's, which this test never opens.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
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

test('a host without the device is told what to switch on, without a trial', async () => {
  const stateDir = mkdtempSync(join(tmpdir(), 'bulkhead-verdict-'));
  const driver = await openLibkrunDriver({ stateDir, buildDir: BUILD_DIR, kvmDevice: '/dev/no-kvm' });
  try {
    const { usable, message } = await driver.probe(AbortSignal.timeout(60_000));
    assert.equal(usable, false);
    assert.match(message, /no \/dev\/kvm\. .*kvm_intel or kvm_amd.*nested virtualisation/);
    assert.equal(existsSync(join(stateDir, 'trials')), false);
  } finally {
    await driver.close();
    rmSync(stateDir, { recursive: true, force: true });
  }
});

test('a libkrun that is too old is named by what it lacks, and what to install', async () => {
  const stateDir = mkdtempSync(join(tmpdir(), 'bulkhead-verdict-'));
  const buildDir = join(stateDir, 'build');
  mkdirSync(join(buildDir, 'libvmm'), { recursive: true });
  symlinkSync(join(BUILD_DIR, 'guest'), join(buildDir, 'guest'));
  for (const name of ['libvmm.so', 'bulkhead-vmm', 'bulkhead-krun'])
    symlinkSync(join(BUILD_DIR, 'libvmm', name), join(buildDir, 'libvmm', name));
  const source = join(stateDir, 'krun.c');
  writeFileSync(source, 'int krun_create_ctx(void) { return 0; }');
  execFileSync('gcc', ['-shared', '-fPIC', '-o', join(buildDir, 'libvmm/libkrun.so'), source]);
  const driver = await openLibkrunDriver({ stateDir, buildDir, kvmDevice: '/dev/null' });
  try {
    const { usable, message } = await driver.probe(AbortSignal.timeout(60_000));
    assert.equal(usable, false);
    assert.match(
      message,
      /The installed libkrun does not fit: .*libkrun\.so has no krun_.*install libkrun 1\.19 or later/s,
    );
  } finally {
    await driver.close();
    rmSync(stateDir, { recursive: true, force: true });
  }
});
