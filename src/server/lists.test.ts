// Lists in pages and as tables, as Kubernetes' clients ask for them.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { SANDBOX_KIND } from '../api/kinds.ts';
import type { StoredObject } from '../api/meta.ts';
import { LISTS_KEPT_MAX, LISTS_KEPT_MS } from './limits.ts';
import { type Page, Pages } from './pages.ts';
import type { Table } from './table.ts';
import { type Harness, sandboxDocument, startHarness } from './testing/harness.ts';

const COLLECTION = '/apis/bulkhead.dev/v1alpha1/namespaces/default/sandboxes';
/** What kubectl sends. */
const TABLE =
  'application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json';

interface Answer<T> {
  status: number;
  body: T;
}

async function get<T>(harness: Harness, path: string, accept = 'application/json'): Promise<Answer<T>> {
  const sent = request({ socketPath: harness.socketPath, path, headers: { accept, host: 'localhost' } });
  sent.end();
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  return { status: response.statusCode ?? 0, body: JSON.parse(await text(response)) as T };
}

interface List {
  metadata: { resourceVersion: string; continue?: string; remainingItemCount?: number };
  items: StoredObject[];
}

async function create(harness: Harness, names: string): Promise<void> {
  for (const name of names) await harness.client.create(SANDBOX_KIND, 'default', sandboxDocument(name));
}

const namesOf = ({ items }: List): string => items.map(({ metadata }) => metadata.name).join('');

test('the pages of a list are those of its beginning, whatever changes meanwhile', async () => {
  await using harness = await startHarness();
  await create(harness, 'abcde');
  const { body: first } = await get<List>(harness, `${COLLECTION}?limit=2`);
  assert.equal(namesOf(first), 'ab');
  assert.equal(first.metadata.remainingItemCount, 3);
  await harness.client.delete(SANDBOX_KIND, 'default', 'c');
  await create(harness, 'f');
  const { body: second } = await get<List>(
    harness,
    `${COLLECTION}?limit=2&continue=${first.metadata.continue}`,
  );
  assert.equal(namesOf(second), 'cd');
  assert.equal(second.metadata.resourceVersion, first.metadata.resourceVersion);
  const { body: last } = await get<List>(harness, `${COLLECTION}?continue=${second.metadata.continue}`);
  assert.equal(namesOf(last), 'e');
  assert.equal(last.metadata.continue, undefined);
  assert.equal(namesOf((await get<List>(harness, `${COLLECTION}?limit=5`)).body), 'abdef');
});

test('a token of another list, or none at all, is refused', async () => {
  await using harness = await startHarness();
  await create(harness, 'ab');
  const { metadata } = (await get<List>(harness, `${COLLECTION}?limit=1`)).body;
  const other = `${COLLECTION}?limit=1&labelSelector=a%3Db&continue=${metadata.continue}`;
  assert.equal((await get(harness, other)).status, 400);
  for (const [token, status] of [
    ['x', 400],
    ['x'.repeat(10_000), 400],
    [`${'0'.repeat(8)}-0000-0000-0000-${'0'.repeat(12)}.1`, 410],
  ] as const) {
    assert.equal((await get(harness, `${COLLECTION}?continue=${token}`)).status, status);
  }
});

test('lists are kept for a while and in a number that have their limits', () => {
  let now = 0;
  const pages = new Pages(() => now);
  const items = ['a', 'b'].map((name) => ({ metadata: { name } }) as StoredObject);
  const begin = (): string => pages.first({ items, resourceVersion: '1' }, 'q', 1).continue ?? '';
  const next = (token: string): Page => pages.next(token, 'q', 1);
  const token = begin();
  now += LISTS_KEPT_MS - 1;
  assert.equal(next(token).items.length, 1);
  now += LISTS_KEPT_MS;
  assert.throws(() => next(token), { code: 'EXPIRED' });
  const tokens = Array.from({ length: LISTS_KEPT_MAX + 1 }, begin);
  assert.throws(() => next(tokens[0] ?? ''), { code: 'EXPIRED' });
  assert.equal(next(tokens[1] ?? '').items.length, 1);
});

test('a table has the columns of the kind, and rows with the metadata of their objects', async () => {
  await using harness = await startHarness();
  await create(harness, 'ab');
  const { body } = await get<Table>(harness, `${COLLECTION}?limit=1`, TABLE);
  assert.equal(body.kind, 'Table');
  assert.equal(body.apiVersion, 'meta.k8s.io/v1');
  const shown = body.columnDefinitions.filter(({ priority }) => priority === 0).map(({ name }) => name);
  assert.deepEqual(shown, ['Name', 'Ready', 'Status', 'Image', 'Node', 'Age']);
  const [row] = body.rows;
  assert.equal(body.rows.length, 1);
  assert.equal(row?.cells.length, body.columnDefinitions.length);
  assert.deepEqual(row?.cells.slice(0, 5), ['a', '', '', 'docker.io/library/busybox:1.36', '']);
  assert.match(String(row?.cells[5]), /^\d+s$/);
  const object = row?.object as { kind: string; metadata: { name: string }; spec?: unknown };
  assert.deepEqual(
    [object.kind, object.metadata.name, object.spec],
    ['PartialObjectMetadata', 'a', undefined],
  );
  assert.equal(body.metadata.remainingItemCount, 1);
  const { body: next } = await get<Table>(harness, `${COLLECTION}?continue=${body.metadata.continue}`, TABLE);
  assert.equal(next.rows[0]?.cells[0], 'b');
});

test('one object is a table too, with as much of itself as is asked for', async () => {
  await using harness = await startHarness();
  await create(harness, 'a');
  const table = async (include: string) =>
    (await get<Table>(harness, `${COLLECTION}/a?includeObject=${include}`, TABLE)).body.rows[0]?.object;
  assert.equal(await table('None'), undefined);
  assert.equal(((await table('Object')) as StoredObject).kind, 'Sandbox');
  assert.equal((await get(harness, `${COLLECTION}/a?includeObject=All`, TABLE)).status, 400);
  assert.equal(
    (await get<StoredObject>(harness, `${COLLECTION}/a`, 'application/json, */*')).body.kind,
    'Sandbox',
  );
});

test('a watch that asks for tables gets each change as one', async () => {
  await using harness = await startHarness();
  await create(harness, 'a');
  const path = `${COLLECTION}?watch=1`;
  const sent = request({
    socketPath: harness.socketPath,
    path,
    headers: { accept: TABLE, host: 'localhost' },
  });
  sent.end();
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  const [chunk] = (await once(response, 'data')) as [Buffer];
  const { type, object } = JSON.parse(chunk.toString().split('\n')[0] ?? '') as {
    type: string;
    object: Table;
  };
  assert.deepEqual([type, object.kind, object.rows[0]?.cells[0]], ['ADDED', 'Table', 'a']);
  response.destroy();
});
