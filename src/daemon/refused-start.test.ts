import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { BulkheadError, type ErrorCode } from '../api/errors.ts';
import { type DaemonOptions, runDaemon } from './daemon.ts';

/** Starts a daemon that must refuse, and looks at what it said and left. */
async function refused(
  code: ErrorCode,
  message: RegExp,
  change: (dir: string) => Promise<Partial<DaemonOptions>>,
) {
  const dir = await mkdtemp(join(tmpdir(), 'bulkhead-refused-'));
  try {
    const stateDir = join(dir, 'state');
    const socketPath = join(dir, 'api.sock');
    const options = {
      stateDir,
      volumeDir: join(stateDir, 'volumes'),
      socketPath,
      driver: 'software' as const,
    };
    const run = runDaemon(
      { ...options, logLevel: 'fatal', memoryOvercommit: 1, ...(await change(dir)) },
      AbortSignal.abort(),
    );
    await assert.rejects(run, (error) => {
      assert.ok(error instanceof BulkheadError);
      assert.equal(error.code, code);
      assert.match(error.message, message);
      return true;
    });
    assert.equal(existsSync(stateDir), false, 'a refused start leaves no state directory');
  } finally {
    await rm(dir, { recursive: true });
  }
}

async function listening(where: string | number) {
  const server = createServer().listen(where);
  await once(server, 'listening');
  return { address: server.address(), [Symbol.dispose]: () => void server.close() };
}

test('a socket path that is too long is refused before anything is made', () =>
  refused('BAD_REQUEST', /--socket/, async (dir) => ({ socketPath: join(dir, 'x'.repeat(120)) })));

test('a socket that another daemon serves is refused before anything is made', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'bulkhead-taken-'));
  const socketPath = join(dir, 'taken.sock');
  {
    using _other = await listening(socketPath);
    await refused('ADDRESS_IN_USE', /another daemon already serves/, async () => ({ socketPath }));
  }
  await rm(dir, { recursive: true });
});

test('a metrics port that is taken is refused before anything is made', async () => {
  using other = await listening(0);
  const { port } = other.address as AddressInfo;
  await refused('ADDRESS_IN_USE', /already listens/, async () => ({ metricsAddress: `:${port}` }));
});

test('a state directory that cannot be made is named', () =>
  refused('STATE_DIR_UNUSABLE', /state directory .*cannot be made/, async (dir) => {
    await writeFile(join(dir, 'file'), '');
    return { stateDir: join(dir, 'file', 'state') };
  }));
