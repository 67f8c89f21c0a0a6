// What is said of a host that lacks something.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { checkNetwork, checkNetworkOnce } from './vm-host.ts';

/** A launcher that fails its check with these words, or passes it. */
async function check(failure?: string): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'launcher-'));
  const launcher = join(dir, 'launcher');
  const end = failure === undefined ? 'exit 0' : `echo "${failure}" >&2; exit 1`;
  writeFileSync(launcher, `#!/bin/sh\n[ "$*" = --check-network ] || exit 3\n${end}\n`, { mode: 0o755 });
  try {
    await checkNetwork(launcher);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

test('a host that can close the network of a VM passes', () => check());

test('a kernel without nftables is named, with what to do', () =>
  assert.rejects(check("nftables rule that drops the guest's frames: Protocol not supported"), {
    code: 'DRIVER_UNAVAILABLE',
    message: /closed network: nftables rule .*Protocol not supported\. Load the kernel module nf_tables/,
  }));

test('a kernel without TAP devices or network namespaces is named, with what to do', () =>
  assert.rejects(check('TAP: Invalid argument'), {
    code: 'DRIVER_UNAVAILABLE',
    message: /closed network: TAP: Invalid argument\. .*CONFIG_NET_NS.*CONFIG_TUN/,
  }));

test('a host that passed is not tried again, one that failed is', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'launcher-'));
  const [launcherPath, mended, tried] = ['launcher', 'mended', 'tried'].map((name) => join(dir, name)) as [
    string,
    string,
    string,
  ];
  writeFileSync(launcherPath, `#!/bin/sh\ntouch ${tried}\n[ -e ${mended} ]\n`, { mode: 0o755 });
  const host = { launcherPath };
  try {
    await assert.rejects(checkNetworkOnce(host), { code: 'DRIVER_UNAVAILABLE' });
    writeFileSync(mended, '');
    await checkNetworkOnce(host);
    rmSync(tried);
    await checkNetworkOnce(host);
    assert.equal(existsSync(tried), false);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
