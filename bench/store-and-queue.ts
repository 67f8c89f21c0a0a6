// How fast the object store and the controller runtime are on this machine. Prints, asserts nothing.
//   node_modules/.bin/node bench/store-and-queue.ts
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ObjectManifest } from '../src/api/meta.ts';
import { systemClock } from '../src/controller/clock.ts';
import { Controller } from '../src/controller/controller.ts';
import { Informer } from '../src/controller/informer.ts';
import { silentLog } from '../src/controller/log.ts';
import { WorkQueue } from '../src/controller/work-queue.ts';
import { EmbeddedStore } from '../src/store/embedded/embedded-store.ts';

const OBJECTS = 10_000;
const ROUNDS = 5;

/** About 3 KB as JSON, as a Sandbox with status is. */
function manifest(name: string): ObjectManifest {
  return {
    apiVersion: 'bulkhead.dev/v1alpha1',
    kind: 'Sandbox',
    metadata: { name, labels: { team: 'bench' } },
    spec: {
      image: 'busybox',
      env: Array.from({ length: 40 }, (_, i) => ({ name: `V${i}`, value: 'x'.repeat(40) })),
    },
  };
}

/** Runs `body` ROUNDS times and prints how many operations it did each second. */
async function measure(
  what: string,
  operations: number,
  body: (round: number) => Promise<void>,
): Promise<void> {
  const rates: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const began = performance.now();
    await body(round);
    rates.push(operations / ((performance.now() - began) / 1000));
  }
  rates.sort((a, b) => a - b);
  const [least, median, most] = [rates[0], rates[ROUNDS >> 1], rates.at(-1)].map((rate) =>
    Math.round(rate ?? 0).toLocaleString('en'),
  );
  console.log(`${what.padEnd(52)} ${least} / ${median} / ${most} per second (min/median/max, n=${ROUNDS})`);
}

const directory = mkdtempSync(join(tmpdir(), 'bulkhead-bench-'));
const store = EmbeddedStore.open({ path: join(directory, 'store.db') });
const key = (name: string): { kind: string; namespace: string; name: string } => ({
  kind: 'Sandbox',
  namespace: 'default',
  name,
});
const names = Array.from({ length: OBJECTS }, (_, i) => `s${i}`);

await store.create(manifest('alone'));
await measure('status writes, one after another', 1000, async (round) => {
  for (let i = 0; i < 1000; i += 1) await store.updateStatus(key('alone'), { round, i });
});
await measure('creates, 100 at once', 2000, async (round) => {
  for (let i = 0; i < 2000; i += 100) {
    await Promise.all(
      Array.from({ length: 100 }, (_, n) =>
        store.create({ ...manifest(`r${round}-${i + n}`), kind: 'Other' }),
      ),
    );
  }
});
await Promise.all(names.map((name) => store.create(manifest(name))));
await measure(`get, with ${OBJECTS.toLocaleString('en')} objects`, OBJECTS, async () => {
  for (const name of names) await store.get(key(name));
});
await measure('objects listed through a label selector', OBJECTS, async () => {
  await store.list('Sandbox', { labelSelector: 'team in (bench)' });
});

await measure('queue: keys added, taken and finished', OBJECTS, async () => {
  const queue = new WorkQueue({ clock: systemClock });
  for (const name of names) queue.add(name);
  for (let i = 0; i < OBJECTS; i += 1) queue.done((await queue.get())?.key ?? '');
});
await measure('queue: keys delayed, brought forward and taken', OBJECTS, async () => {
  const queue = new WorkQueue({ clock: systemClock });
  for (const [i, name] of names.entries()) queue.addAfter(name, 60_000 + i);
  for (const name of names) queue.add(name);
  for (let i = 0; i < OBJECTS; i += 1) queue.done((await queue.get())?.key ?? '');
  await queue.shutDown();
});

await measure('informer and controller: keys listed and reconciled', OBJECTS, async () => {
  const finished = Promise.withResolvers<void>();
  let left = OBJECTS;
  const controller = new Controller({
    reconciler: {
      name: 'bench',
      kind: 'Sandbox',
      async reconcile() {
        left -= 1;
        if (left === 0) finished.resolve();
        return { type: 'done' };
      },
    },
    clock: systemClock,
    log: silentLog,
  });
  const informer = new Informer({ store, kind: 'Sandbox', clock: systemClock, log: silentLog });
  controller.watch(informer);
  await informer.start();
  await controller.start();
  await finished.promise;
  await controller.stop();
  await informer.stop();
});

console.log(`resident memory at the end: ${Math.round(process.memoryUsage.rss() / 2 ** 20)} MiB`);
await store.close();
const began = performance.now();
await EmbeddedStore.open({ path: join(directory, 'store.db') }).close();
console.log(
  `opening the store with its ${(OBJECTS * 2 + 1).toLocaleString('en')} objects: ${Math.round(performance.now() - began)} ms (n=1)`,
);
rmSync(directory, { recursive: true });
