import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { FakeClock } from '../../controller/testing/fake-clock.ts';
import { hostNameServers, nameServersIn } from './host-name-servers.ts';

test('addresses are taken in their order, and nothing else', () => {
  const text =
    '# ours\nsearch a.example\nnameserver 9.9.9.9\nnameserver\t2620:fe::fe # two\nnameserver none\noptions edns0\n';
  assert.deepEqual(nameServersIn(text), ['9.9.9.9', '2620:fe::fe']);
  assert.equal(nameServersIn('nameserver 9.9.9.9\n'.repeat(100)).length, 8);
});

test('a change is seen within seconds, and a file that is gone for a moment changes nothing', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'bulkhead-resolv-'));
  t.after(() => rm(dir, { recursive: true }));
  const path = join(dir, 'resolv.conf');
  const clock = new FakeClock();
  await writeFile(path, 'nameserver 9.9.9.9\n');
  const servers = hostNameServers(clock, path);
  assert.deepEqual(servers(), ['9.9.9.9']);
  await writeFile(path, 'nameserver 1.1.1.1\n');
  assert.deepEqual(servers(), ['9.9.9.9']);
  await clock.advance(5_000);
  assert.deepEqual(servers(), ['1.1.1.1']);
  await rm(path);
  await clock.advance(5_000);
  assert.deepEqual(servers(), ['1.1.1.1']);
});
