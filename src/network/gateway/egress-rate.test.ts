import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../../controller/testing/fake-clock.ts';
import { EgressRate } from './egress-rate.ts';

const settle = () => new Promise((resolve) => setImmediate(resolve));

/** Bytes that came through so far. */
function counted(rate: EgressRate): { write: (bytes: number) => void; passed: () => number } {
  const stream = rate.stream();
  let passed = 0;
  stream.on('data', (chunk: Buffer) => {
    passed += chunk.length;
  });
  return { write: (bytes) => void stream.write(Buffer.alloc(bytes)), passed: () => passed };
}

test('all connections together send no faster than the rate, after a short burst', async () => {
  const clock = new FakeClock();
  const rate = new EgressRate(clock);
  rate.set(1_000);
  const [a, b] = [counted(rate), counted(rate)];
  for (let round = 0; round < 20; round += 1) {
    a.write(100);
    b.write(100);
  }
  let last = 0;
  for (let second = 1; second <= 3; second += 1) {
    for (let step = 0; step < 20; step += 1) {
      await clock.advance(50);
      await settle();
    }
    last = a.passed() + b.passed();
    assert.ok(last <= 1_000 * second + 250, `${last} after ${second} s`);
  }
  assert.ok(last >= 2_500, `${last} after 3 s`);
});

test('without a rate everything passes at once, and what waits goes at the new rate', async () => {
  const clock = new FakeClock();
  const rate = new EgressRate(clock);
  const flow = counted(rate);
  flow.write(1_000_000);
  await settle();
  assert.equal(flow.passed(), 1_000_000);
  rate.set(1_000);
  flow.write(2_000);
  await settle();
  assert.equal(flow.passed(), 1_000_000);
  await clock.advance(2_000);
  await settle();
  assert.equal(flow.passed(), 1_002_000);
});
