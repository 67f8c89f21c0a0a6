import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../../controller/testing/fake-clock.ts';
import { AddressNames } from './address-names.ts';
import { DnsCache } from './cache.ts';
import {
  ADDRESSES_MAX,
  CACHE_BYTES_MAX,
  CACHE_ENTRIES_MAX,
  NAMES_PER_ADDRESS_MAX,
  QUERY_BYTES_MAX,
} from './limits.ts';
import { DnsFrames, frame } from './tcp-frames.ts';

test('addresses and names of each are bounded; the ones used longest ago go', () => {
  const names = new AddressNames(new FakeClock());
  for (let count = 0; count < ADDRESSES_MAX + 10; count += 1)
    names.record(`8.${(count >> 16) & 255}.${(count >> 8) & 255}.${count & 255}`, 'a.example', 60);
  assert.equal(names.size, ADDRESSES_MAX);
  assert.deepEqual(names.namesOf('8.0.0.0'), []);
  assert.deepEqual(names.namesOf('8.0.0.200'), ['a.example']);
  for (let count = 0; count < NAMES_PER_ADDRESS_MAX + 5; count += 1)
    names.record('9.9.9.9', `${count}.example`, 60);
  const kept = names.namesOf('9.9.9.9');
  assert.equal(kept.length, NAMES_PER_ADDRESS_MAX);
  assert.ok(!kept.includes('0.example'));
});

test('a name that is told again lives as long as the longest answer', async () => {
  const clock = new FakeClock();
  const names = new AddressNames(clock);
  names.record('8.8.8.8', 'a.example', 300);
  names.record('8.8.8.8', 'a.example', 1);
  await clock.advance(300_000);
  assert.deepEqual(names.namesOf('8.8.8.8'), ['a.example']);
});

test('a cache is bounded in entries and in bytes', () => {
  const reply = { rcode: 'NOERROR', answers: [], authorities: [], ttl: 60 } as const;
  const many = new DnsCache(new FakeClock());
  for (let count = 0; count < CACHE_ENTRIES_MAX + 1; count += 1) many.set(`${count}.example`, 'A', reply, 10);
  assert.equal(many.size, CACHE_ENTRIES_MAX);
  assert.equal(many.get('0.example', 'A'), undefined);
  const large = new DnsCache(new FakeClock());
  for (let count = 0; count < 5; count += 1) large.set(`${count}.example`, 'A', reply, CACHE_BYTES_MAX / 4);
  assert.equal(large.size, 4);
  large.set('1.example', 'A', { ...reply, ttl: 0 }, 10);
  assert.ok(large.get('1.example', 'A'));
});

test('messages are cut out of a stream wherever it is split, and one that cannot be DNS ends it', () => {
  const messages = [Buffer.from('first'), Buffer.from('second one')];
  const stream = Buffer.concat(messages.map(frame));
  for (let size = 1; size <= stream.length; size += 1) {
    const frames = new DnsFrames();
    const found: Buffer[] = [];
    for (let at = 0; at < stream.length; at += size)
      found.push(...(frames.push(stream.subarray(at, at + size)) ?? []));
    assert.deepEqual(found, messages);
  }
  assert.equal(new DnsFrames().push(Buffer.from([0, 0])), undefined);
  assert.equal(new DnsFrames().push(Buffer.from([(QUERY_BYTES_MAX + 1) >> 8, 1])), undefined);
});
