import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { HostUsers } from './host-users.ts';

test('300 VMs claimed at once get 300 users, keep them, and give them back', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'host-users-'));
  try {
    const users = new HostUsers(dir);
    await users.init();
    const ids = Array.from({ length: 300 }, (_, index) => `vm-${index}`);
    const claimed = await Promise.all(ids.map((id) => users.claim(id, '/vms')));
    assert.equal(new Set(claimed).size, 300);
    assert.deepEqual(await Promise.all(ids.map((id) => users.claim(id, '/vms'))), claimed);
    assert.equal(await new HostUsers(dir).claim('vm-7', '/vms/vm-7'), claimed[7], 'also after a restart');
    await users.release('vm-7');
    await users.release('vm-7');
    assert.equal(await users.claim('vm-7', '/vms/vm-7'), claimed[7]);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
