import assert from 'node:assert/strict';
import type { NetworkInterfaceInfo } from 'node:os';
import { test } from 'node:test';
import { FakeClock } from '../../controller/testing/fake-clock.ts';
import { hostAddresses } from './host-addresses.ts';
import { HOST_ADDRESSES_MS } from './limits.ts';

test('addresses of the host are known in every form, and looked up anew after a moment', async () => {
  const clock = new FakeClock();
  const has = ['192.0.2.1', 'fd00::1'];
  let asked = 0;
  const isHost = hostAddresses(clock, () => {
    asked += 1;
    return { eth0: has.map((address) => ({ address }) as NetworkInterfaceInfo) };
  });
  assert.deepEqual(['192.0.2.1', 'fd00:0::1', '192.0.2.2', 'none'].map(isHost), [true, true, false, false]);
  assert.equal(asked, 1);
  has.push('192.0.2.2');
  await clock.advance(HOST_ADDRESSES_MS);
  assert.equal(isHost('192.0.2.2'), true);
  assert.equal(asked, 2);
});
