// Clients that mean no good, or too much at once, against a real daemon: it answers others meanwhile, gives back what they
// took when they are gone, and obeys SIGTERM in the middle of it.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer, type NetConnectOpts, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { asBulkheadError } from '../../src/api/errors.ts';
import { BulkheadClient } from '../../src/client/client.ts';
import type { StreamConnection } from '../../src/client/stream.ts';
import { openFilesOf, sandboxYaml, TestDaemon } from './daemon-harness.ts';
import { eventually } from './daemon-observations.ts';

const SOAK = process.env.BULKHEAD_SOAK === '1';
const SILENT = 100;
const HALF_REQUESTS = 100;
const PIPELINING = 100;
/** 20,000 scrapes in all: far more than the kernel's buffers hold of the answers. */
const SCRAPES_EACH = 200;
const HALF_BODIES = 50;
const GARBAGE = 20;
const ATTACKS = SOAK ? 20 : 2;
const FOLLOWERS = SOAK ? 500 : 100;
const EXECS = 100;
/** What the server takes for one sandbox; src/server/limits.ts says why. */
const EXECS_ADMITTED = 64;
/** Far more than SIGTERM takes on a loaded machine: a daemon that hangs fails by this. */
const TEST_TIMEOUT_MS = 600_000;
/** Connections of requests that have just ended, and files that a background task of the daemon has open for a moment. */
const PASSING_FILES = 10;
/** Answers under way are bounded to 256 MiB on the socket and 64 MiB on TCP; what else a daemon holds is small. */
const MEMORY_MAX_KIB = 900 * 1024;

const SCRAPE = 'GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n';
const HALF_REQUEST = 'GET /metrics HTTP/1.1\r\nhost: loc';
const HALF_BODY =
  'POST /apis/bulkhead.dev/v1alpha1/namespaces/default/sandboxes HTTP/1.1\r\nhost: localhost\r\n' +
  'content-type: application/json\r\ncontent-length: 1000000\r\n\r\n{"kind":';
const NO_HTTP = Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 7919) & 0xff));
const COUNTER = { command: ['sh', '-c', 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done'] };

let daemon: TestDaemon;
let port: number;

before(async () => {
  port = await freePort();
  daemon = await TestDaemon.start({ extraArgs: ['--metrics-address', `127.0.0.1:${port}`] });
  await daemon.write('box.yaml', sandboxYaml('box', { main: COUNTER }));
  await daemon.waitReady('box');
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  assert.ok(typeof address === 'object' && address !== null);
  return address.port;
}

/** Connections that send what they are told and read nothing; they vanish when disposed. */
class Clients {
  readonly #sockets: Socket[] = [];

  async open(count: number, to: NetConnectOpts, bytes: string | Buffer): Promise<void> {
    const opened = Array.from({ length: count }, () => {
      const socket = connect(to);
      // Being thrown out is what some came for.
      socket.on('error', () => {});
      socket.pause();
      if (bytes.length > 0) socket.write(bytes);
      return socket;
    });
    this.#sockets.push(...opened);
    await Promise.all(opened.map((socket) => Promise.race([once(socket, 'connect'), once(socket, 'close')])));
  }

  async attack(to: NetConnectOpts): Promise<void> {
    await this.open(SILENT, to, '');
    await this.open(HALF_REQUESTS, to, HALF_REQUEST);
    await this.open(PIPELINING, to, SCRAPE.repeat(SCRAPES_EACH));
    await this.open(HALF_BODIES, to, HALF_BODY);
    await this.open(GARBAGE, to, NO_HTTP);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const open = this.#sockets.filter((socket) => !socket.closed);
    const closed = open.map((socket) => once(socket, 'close'));
    for (const socket of open) socket.destroy();
    await Promise.all(closed);
  }
}

const listeners = (): NetConnectOpts[] => [{ path: daemon.socket }, { host: '127.0.0.1', port }];
const openFiles = (): number => openFilesOf(String(daemon.pid)).length;

function residentKiB(): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${daemon.pid}/status`, 'utf8'))?.[1]);
}

async function untilFilesReturn(before: number): Promise<void> {
  await eventually(
    `no more than ${before + PASSING_FILES} open files`,
    async () => (openFiles() <= before + PASSING_FILES ? true : undefined),
    () => openFilesOf(String(daemon.pid)).sort().join('\n'),
  );
}

async function scrape(): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${port}/metrics`);
  await answer.arrayBuffer();
  return answer.status;
}

test(`${SILENT + HALF_REQUESTS + PIPELINING + HALF_BODIES + GARBAGE} hostile clients on each listener keep nobody out and leave nothing`, {
  timeout: TEST_TIMEOUT_MS,
}, async (t) => {
  await daemon.ok('get', 'sandboxes');
  assert.equal(await scrape(), 200);
  const before = openFiles();
  let most = 0;
  let memory = 0;
  for (let round = 0; round < ATTACKS; round++) {
    await using clients = new Clients();
    await Promise.all(listeners().map((to) => clients.attack(to)));
    for (const _ of [1, 2, 3]) {
      assert.match(await daemon.ok('get', 'sandboxes'), /box/);
      most = Math.max(most, openFiles());
      memory = Math.max(memory, residentKiB());
    }
    assert.equal(await daemon.ok('exec', 'box', '--', 'echo', 'here'), 'here\n');
    assert.equal(await scrape(), 200);
  }
  t.diagnostic(
    `open files: ${before} before, at most ${most} in ${ATTACKS} attacks; at most ${memory >> 10} MiB`,
  );
  assert.ok(memory < MEMORY_MAX_KIB, `${memory} KiB in the attack`);
  await untilFilesReturn(before);
  assert.match(await daemon.ok('get', 'sandboxes'), /box/);
});

test('SIGTERM in the middle of an attack ends the daemon, and the next one finds the VM as it was', {
  timeout: TEST_TIMEOUT_MS,
}, async () => {
  const { status } = await daemon.get('box');
  {
    await using clients = new Clients();
    await Promise.all(listeners().map((to) => clients.attack(to)));
    await daemon.stop();
  }
  await daemon.launch(['--metrics-address', `127.0.0.1:${port}`]);
  await daemon.waitReady('box');
  assert.equal((await daemon.get('box')).status.vm?.pid, status.vm?.pid);
});

test(`${FOLLOWERS} followers of a log that vanish, reading or not, give everything back`, {
  timeout: TEST_TIMEOUT_MS,
}, async () => {
  const follow =
    'GET /apis/bulkhead.dev/v1alpha1/namespaces/default/sandboxes/box/log?follow=true HTTP/1.1\r\nhost: localhost\r\n\r\n';
  await daemon.ok('get', 'sandboxes');
  const before = openFiles();
  {
    await using clients = new Clients();
    await clients.open(FOLLOWERS, { path: daemon.socket }, follow);
    const commands = [1, 2, 3].map(() => daemon.spawnCli('logs', '-f', 'box'));
    for (const command of commands) {
      assert.ok(command.stdout);
      await once(command.stdout, 'readable');
      const exited = once(command, 'exit');
      command.kill('SIGKILL');
      await exited;
    }
    assert.match(await daemon.ok('get', 'sandboxes'), /box/);
    assert.ok(openFiles() >= before + FOLLOWERS, 'the others follow still');
  }
  await untilFilesReturn(before);
  assert.match(await daemon.ok('logs', '--tail', '1', 'box'), /^\d+\n$/);
});

test(`of ${EXECS} execs at once ${EXECS_ADMITTED} run, and the others are told to come again`, {
  timeout: TEST_TIMEOUT_MS,
}, async () => {
  const client = new BulkheadClient({ socketPath: daemon.socket });
  const before = openFiles();
  const exec = (): Promise<StreamConnection> =>
    client.exec('default', 'box', {
      command: ['sh', '-c', 'read word; echo got $word'],
      stdin: true,
      stdout: true,
      stderr: true,
      tty: false,
    });
  const outcomes = await Promise.allSettled(Array.from({ length: EXECS }, exec));
  const open = outcomes.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  const refused = outcomes.flatMap((each) =>
    each.status === 'rejected' ? [asBulkheadError(each.reason)] : [],
  );
  assert.equal(open.length, EXECS_ADMITTED, refused[0]?.message);
  for (const { code, message } of refused) {
    assert.equal(code, 'TOO_MANY_REQUESTS', message);
    assert.match(message, /at most 64 per sandbox/);
  }
  const told = await daemon.cli('exec', 'box', '--', 'true');
  assert.equal(told.code, 125);
  assert.match(told.stderr, /at most 64 per sandbox\nTry again when some of the open requests have ended/);

  for (const [index, { stdin }] of open.entries()) stdin.end(`word${index}\n`);
  const outputs = await Promise.all(open.map(({ stdout }) => stdout.toArray()));
  const exits = await Promise.all(open.map(({ exited }) => exited));
  outputs.forEach((chunks, index) => {
    assert.equal(Buffer.concat(chunks as Buffer[]).toString(), `got word${index}\n`);
    assert.equal(exits[index]?.exitCode, 0);
  });
  await untilFilesReturn(before);
  assert.equal(await daemon.ok('exec', 'box', '--', 'echo', 'again'), 'again\n');
});
