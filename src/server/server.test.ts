import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { BulkheadError } from '../api/errors.ts';
import { DaemonEndpoint } from '../client/endpoint.ts';
import { Transport } from '../client/transport.ts';
import { SOCKET_PATH_BYTES_MAX } from './limits.ts';
import { parseAddress } from './listen.ts';
import { freePort, startHarness } from './testing/harness.ts';

test('the socket is for its owner alone and goes with the server', async () => {
  await using harness = await startHarness();
  const { mode } = await stat(harness.socketPath);
  assert.equal(mode & 0o777, 0o600);
  await harness.server.close();
  await assert.rejects(stat(harness.socketPath), { code: 'ENOENT' });
});

test('a socket that a killed daemon left is taken over, one in use is not, and no file is', async () => {
  await using harness = await startHarness();
  const listen = (socketPath: string) =>
    startHarness().then(async (other) => {
      await using _ = other;
      await other.server.close();
      const { createServer } = await import('node:http');
      const { listenOnSocket } = await import('./listen.ts');
      const server = createServer();
      await listenOnSocket(server, socketPath);
      server.close();
    });
  await assert.rejects(listen(harness.socketPath), /another daemon/);
  const stale = join(harness.dir, 'stale.sock');
  const script = `require('net').createServer().listen(${JSON.stringify(stale)}, () => process.kill(process.pid, 'SIGKILL'))`;
  await once(spawn(process.execPath, ['-e', script]), 'exit');
  assert.ok((await stat(stale)).isSocket());
  await listen(stale);
  const file = join(harness.dir, 'file');
  await writeFile(file, '');
  await assert.rejects(listen(file), /no socket/);
  await assert.rejects(listen(`/${'x'.repeat(SOCKET_PATH_BYTES_MAX)}`), /shorter/);
});

test('who asks for metrics says in which format', async () => {
  const port = await freePort();
  const asked: (string | undefined)[] = [];
  await using _harness = await startHarness({
    metricsAddress: `127.0.0.1:${port}`,
    dependencies: {
      metrics: async (accept) => {
        asked.push(accept);
        return { contentType: 'application/openmetrics-text; version=1.0.0', body: '# EOF\n' };
      },
    },
  });
  const accept = 'application/openmetrics-text';
  const response = await fetch(`http://127.0.0.1:${port}/metrics`, { headers: { accept } });
  assert.deepEqual(asked, [accept]);
  assert.equal(response.headers.get('content-type'), 'application/openmetrics-text; version=1.0.0');
  assert.equal(response.headers.get('vary'), 'accept');
});

test('metrics and health are served on TCP, the API is not', async () => {
  const port = await freePort();
  let well = true;
  await using _harness = await startHarness({
    metricsAddress: `127.0.0.1:${port}`,
    dependencies: {
      healthChecks: [
        { name: 'store', kind: 'live', check: async () => {} },
        {
          name: 'sync',
          kind: 'ready',
          check: async () => {
            if (!well) throw new Error('not synced yet');
          },
        },
      ],
    },
  });
  const get = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return {
      status: response.status,
      type: response.headers.get('content-type'),
      body: await response.text(),
    };
  };
  assert.deepEqual(await get('/metrics'), { status: 200, type: 'text/plain; version=0.0.4', body: 'up 1\n' });
  assert.equal((await get('/healthz')).body, 'ok');
  assert.equal((await get('/readyz')).status, 200);
  well = false;
  const ready = await get('/readyz');
  assert.equal(ready.status, 503);
  assert.match(ready.body, /\[-\]sync failed: not synced yet/);
  assert.equal((await get('/healthz')).status, 200);
  assert.equal((await get('/apis/bulkhead.dev/v1alpha1/sandboxes')).status, 404);
});

test('addresses are hosts and ports', () => {
  assert.deepEqual(parseAddress('127.0.0.1:9464'), { host: '127.0.0.1', port: 9464 });
  assert.deepEqual(parseAddress('[::1]:1'), { host: '::1', port: 1 });
  assert.deepEqual(parseAddress(':80'), { port: 80 });
  for (const wrong of ['9464', 'host:', 'host:70000', 'a:b:1'])
    assert.throws(() => parseAddress(wrong), BulkheadError);
});

test('a failure inside is 500 with a Status, and the server goes on', async () => {
  await using harness = await startHarness({
    dependencies: {
      doctor: async () => {
        throw new Error('boom');
      },
    },
  });
  const transport = new Transport(new DaemonEndpoint(harness.socketPath));
  await assert.rejects(transport.request('GET', '/apis/bulkhead.dev/v1alpha1/doctor'), (error) => {
    assert.ok(error instanceof BulkheadError);
    assert.equal(error.code, 'INTERNAL');
    return true;
  });
  assert.equal((await transport.request('GET', '/version')).status, 200);
  transport.close();
});
