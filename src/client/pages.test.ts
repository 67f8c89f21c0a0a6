// Lists in parts, against a server that a test speaks for.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { SANDBOX_KIND } from '../api/kinds.ts';
import { BulkheadClient } from './client.ts';

interface Asked {
  limit: string | null;
  continue: string | null;
  labelSelector: string | null;
}

const EXPIRED = {
  apiVersion: 'v1',
  kind: 'Status',
  status: 'Failure',
  reason: 'Expired',
  code: 410,
  message: 'gone',
};

/** Serves objects named by number, `total` of them; a continuation fails as often as `forgetful` says. */
async function serve(total: number, forgetful: number) {
  const asked: Asked[] = [];
  let failures = forgetful;
  const server = createServer((request, response) => {
    const { searchParams } = new URL(request.url ?? '', 'http://localhost');
    const of = (name: keyof Asked) => searchParams.get(name);
    asked.push({ limit: of('limit'), continue: of('continue'), labelSelector: of('labelSelector') });
    response.setHeader('content-type', 'application/json');
    const from = Number(of('continue') ?? 0);
    if (from > 0 && failures > 0) {
      failures--;
      response.writeHead(410).end(JSON.stringify(EXPIRED));
      return;
    }
    const to = Math.min(total, from + Number(of('limit') ?? total));
    const items = Array.from({ length: to - from }, (_, i) => ({ metadata: { name: String(from + i) } }));
    const metadata = { resourceVersion: '7', ...(to < total ? { continue: String(to) } : {}) };
    response.end(JSON.stringify({ apiVersion: 'v1', kind: 'SandboxList', metadata, items }));
  });
  const dir = await mkdtemp(join(tmpdir(), 'bulkhead-pages-'));
  const socketPath = join(dir, 's');
  server.listen(socketPath);
  await once(server, 'listening');
  const client = new BulkheadClient({ socketPath });
  return {
    asked,
    client,
    [Symbol.asyncDispose]: async () => {
      client.close();
      server.close();
      await rm(dir, { recursive: true });
    },
  };
}

const names = (count: number) => Array.from({ length: count }, (_, i) => String(i));

test('a list is asked for in pages of 500 with the same parameters, and comes whole', async () => {
  await using server = await serve(1_201, 0);
  const { items, metadata } = await server.client.list(SANDBOX_KIND, { labelSelector: 'a=b' });
  assert.deepEqual(
    items.map((object) => object.metadata.name),
    names(1_201),
  );
  assert.equal(metadata.resourceVersion, '7');
  assert.deepEqual(server.asked, [
    { limit: '500', continue: null, labelSelector: 'a=b' },
    { limit: '500', continue: '500', labelSelector: 'a=b' },
    { limit: '500', continue: '1000', labelSelector: 'a=b' },
  ]);
});

test('a list that was forgotten between two pages is begun anew, without what came before', async () => {
  await using server = await serve(700, 1);
  const { items } = await server.client.list(SANDBOX_KIND);
  assert.deepEqual(
    items.map((object) => object.metadata.name),
    names(700),
  );
});

test('a list that is forgotten again and again is asked for whole in the end', async () => {
  await using server = await serve(700, Number.POSITIVE_INFINITY);
  assert.equal((await server.client.list(SANDBOX_KIND)).items.length, 700);
  assert.deepEqual(server.asked.at(-1), { limit: null, continue: null, labelSelector: null });
});

test('pages that nobody keeps say that they are gone', async () => {
  await using server = await serve(700, 1);
  const seen: number[] = [];
  await assert.rejects(
    async () => {
      for await (const { items } of server.client.pages(SANDBOX_KIND)) seen.push(items.length);
    },
    { code: 'EXPIRED' },
  );
  assert.deepEqual(seen, [500]);
});
