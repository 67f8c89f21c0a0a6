// Secrets that a node follows one by one; the cluster's store is played by an embedded one, which has the same contract.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { BulkheadError } from '../../api/errors.ts';
import { EmbeddedStore } from '../embedded/embedded-store.ts';
import { temporaryDirectory } from '../embedded/testing.ts';
import type { Store } from '../store.ts';
import { FollowedObjects } from './followed-objects.ts';

const KEY = { kind: 'Secret', namespace: 'default', name: 'keys' };

let dir: Awaited<ReturnType<typeof temporaryDirectory>>;
let cluster: EmbeddedStore;
let isAllowed: boolean;
let now: number;
let lists: string[];
let followed: FollowedObjects;

beforeEach(async () => {
  dir = await temporaryDirectory();
  cluster = EmbeddedStore.open({ path: `${dir.path}/store.db` });
  isAllowed = true;
  now = 0;
  lists = [];
  const source: Pick<Store, 'list' | 'watch'> = {
    async list(kind, options) {
      lists.push(`${options?.namespace} ${options?.fieldSelector}`);
      if (!isAllowed) throw new BulkheadError('FORBIDDEN', 'not yours');
      return cluster.list(kind, options);
    },
    watch: (kind, options) => cluster.watch(kind, options),
  };
  followed = new FollowedObjects({ source, now: () => now, unusedAfterMs: 1_000 });
});

afterEach(async () => {
  followed.close();
  await cluster.close();
  await dir[Symbol.asyncDispose]();
});

function secret(value: string, name = KEY.name) {
  return {
    ...{ apiVersion: 'v1', kind: 'Secret', metadata: { namespace: 'default', name } },
    ...{ spec: undefined, data: { value: Buffer.from(value).toString('base64') } },
  };
}

async function untilValue(value: string | undefined): Promise<void> {
  const wanted = value === undefined ? undefined : Buffer.from(value).toString('base64');
  while ((await followed.get(KEY))?.data?.value !== wanted) await new Promise(setImmediate);
}

test('an object is read by its name once, then told from memory as it changes', async () => {
  await cluster.create(secret('one'));
  await untilValue('one');
  await cluster.update(secret('two'));
  await untilValue('two');
  await cluster.delete(KEY);
  await untilValue(undefined);
  assert.deepEqual(lists, ['default metadata.name=keys']);
});

test('what is made after it was asked for is found', async () => {
  assert.equal(await followed.get(KEY), undefined);
  await cluster.create(secret('one'));
  await untilValue('one');
});

test('what may not be read fails, and is read as soon as it is asked for once it may', async () => {
  await cluster.create(secret('one'));
  isAllowed = false;
  await assert.rejects(followed.get(KEY), { code: 'FORBIDDEN' });
  isAllowed = true;
  // The first attempt may have been under way already.
  await followed.get(KEY).catch(() => undefined);
  await untilValue('one');
});

test('a watch tells what is followed, each change, and what is followed no more; and nothing else', async () => {
  await cluster.create(secret('one'));
  await cluster.create(secret('unasked', 'other'));
  await untilValue('one');
  const stop = new AbortController();
  const seen: string[] = [];
  const steps = [
    () => cluster.update(secret('two')),
    async () => {
      now = 1_000;
      await cluster.update(secret('three'));
    },
    async () => undefined,
    async () => stop.abort(),
  ];
  for await (const event of followed.watch('Secret', stop.signal)) {
    seen.push(event.type === 'BOOKMARK' ? event.type : `${event.type} ${event.object.metadata.name}`);
    await steps[seen.length - 1]?.();
  }
  assert.deepEqual(seen, ['MODIFIED keys', 'MODIFIED keys', 'MODIFIED keys', 'DELETED keys']);
});
