import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VmFigures } from '../api/wire.ts';
import { type Measured, VmSamples } from './vm-samples.ts';

const figures = (cpuSeconds: number): VmFigures => ({
  cpuSeconds,
  memoryBytes: 1,
  memoryLimitBytes: 2,
  diskReadBytes: 0,
  diskWriteBytes: 0,
  networkReceiveBytes: 0,
  networkTransmitBytes: 0,
  networkReceivePackets: 0,
  networkTransmitPackets: 0,
});
const vm = (uid: string, stats: () => Promise<VmFigures>): Measured => ({ uid, handle: { stats } });

test('a VM whose files cannot be read keeps its figures, and one that is gone has none', async () => {
  const samples = new VmSamples();
  let answer = (): Promise<VmFigures> => Promise.resolve(figures(100));
  const all = [vm('a', () => answer()), vm('b', async () => figures(7))];
  await samples.read(all);
  assert.equal(samples.get('a')?.cpuSeconds, 100);
  answer = () => Promise.reject(new Error('EMFILE'));
  await samples.read(all);
  assert.equal(samples.get('a')?.cpuSeconds, 100);
  await samples.read([all[1] as Measured]);
  assert.equal(samples.get('a'), undefined);
  assert.equal(samples.get('b')?.cpuSeconds, 7);
});

test('where not all can be read in time, those that were left out come first in the next scrape', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const samples = new VmSamples();
  const read: string[] = [];
  let held: PromiseWithResolvers<void> | undefined;
  const all = Array.from({ length: 40 }, (_, index) =>
    vm(`vm-${index}`, async () => {
      read.push(`vm-${index}`);
      await held?.promise;
      return figures(index);
    }),
  );
  await samples.read(all);
  held = Promise.withResolvers();
  read.length = 0;
  const second = samples.read(all);
  await new Promise((resolve) => setImmediate(resolve));
  const first = [...read];
  assert.ok(first.length < all.length);
  t.mock.timers.tick(1_000);
  await second;
  held.resolve();
  await new Promise((resolve) => setImmediate(resolve));
  held = undefined;
  read.length = 0;
  await samples.read(all);
  assert.deepEqual(read.slice(-first.length).sort(), first.sort());
});

test('VMs that hang hold up neither the others nor the scrape, and are asked once', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const samples = new VmSamples();
  const release = Promise.withResolvers<VmFigures>();
  let asked = 0;
  const hung = Array.from({ length: 5 }, (_, index) =>
    vm(`hung-${index}`, () => {
      asked += 1;
      return release.promise;
    }),
  );
  const prompt = Array.from({ length: 100 }, (_, index) => vm(`prompt-${index}`, async () => figures(index)));
  const first = samples.read([...prompt, ...hung]);
  while (samples.get('prompt-0') === undefined) await new Promise((resolve) => setImmediate(resolve));
  t.mock.timers.tick(1_000);
  await first;
  assert.equal(samples.get('prompt-99')?.cpuSeconds, 99);
  await samples.read([...prompt, ...hung]);
  assert.equal(asked, 5);
  release.resolve(figures(3));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(samples.get('hung-0')?.cpuSeconds, 3, 'a late answer counts at the next scrape');
});
