import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SharedScrape } from './shared-scrape.ts';

interface Scrape {
  body: string;
}

/** Readings that end when the test says so. */
function reader() {
  const readings: PromiseWithResolvers<Scrape>[] = [];
  const read = () => {
    const reading = Promise.withResolvers<Scrape>();
    readings.push(reading);
    return reading.promise;
  };
  const end = (index: number) => readings[index]?.resolve({ body: `${index}` });
  return { readings, read, end };
}

test('thousands who ask at once cost one reading, and who asks later gets a new one', async () => {
  const { readings, read, end } = reader();
  let now = 0;
  const scrape = new SharedScrape(read, () => now);
  const asked = Array.from({ length: 5_000 }, () => scrape.get());
  now = 60_000;
  asked.push(scrape.get());
  assert.equal(readings.length, 1, 'a slow reading is shared for as long as it takes');
  end(0);
  assert.deepEqual([...new Set((await Promise.all(asked)).map(({ body }) => body))], ['0']);
  now += 100;
  assert.equal((await scrape.get()).body, '0');
  now += 1_000;
  const later = scrape.get();
  end(1);
  assert.equal((await later).body, '1');
});

test('a reading that failed is told to all who share it and made again for the next', async () => {
  const { readings, read, end } = reader();
  const scrape = new SharedScrape(read, () => 0);
  const asked = [scrape.get(), scrape.get()];
  readings[0]?.reject(new Error('no figures'));
  for (const { status } of await Promise.allSettled(asked)) assert.equal(status, 'rejected');
  const again = scrape.get();
  end(1);
  assert.equal((await again).body, '1');
});
