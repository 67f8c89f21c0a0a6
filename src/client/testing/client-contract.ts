// What holds for the client wherever its requests go: run against a daemon, and against what stands for a cluster.
import assert from 'node:assert/strict';
import { Duplex, Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { test } from 'node:test';
import { SANDBOX_KIND, SECRET_KIND } from '../../api/kinds.ts';
import type { FakeSandboxes } from '../../server/testing/harness.ts';
import { sandboxDocument } from '../../server/testing/harness.ts';
import type { BulkheadClient } from '../client.ts';
import { followObjects } from '../follow.ts';

export interface Place extends AsyncDisposable {
  client: BulkheadClient;
}

export interface ClientUnderTest extends Place {
  sandboxes: FakeSandboxes;
}

const AT = { namespace: 'default', name: 'a' };
const ID = '0f9d1c5e-7f25-4a0b-9a54-3a8f3b1c2d4e';

/** What needs no sandbox that runs. */
export function describeObjects(what: string, start: () => Promise<Place>): void {
  test(`${what}: objects are made, applied, patched, listed, watched and deleted`, async () => {
    await using place = await start();
    const { client } = place;
    const made = await client.create(SANDBOX_KIND, 'default', sandboxDocument('a', {}, { team: 'x' }));
    const again = client.create(SANDBOX_KIND, 'default', sandboxDocument('a'));
    await assert.rejects(again, { code: 'ALREADY_EXISTS' });
    const apply = (spec: object, dryRun = false) =>
      client.apply(SANDBOX_KIND, 'default', sandboxDocument('b', { ...spec }), {
        dryRun,
        fieldManager: 'test',
      });
    assert.equal((await apply({}, true)).created, true);
    await assert.rejects(client.get(SANDBOX_KIND, 'default', 'b'), { code: 'NOT_FOUND' });
    assert.equal((await apply({})).created, true);
    assert.equal((await apply({ hostname: 'h' })).created, false);
    const patched = await client.patch(SANDBOX_KIND, 'default', 'b', { metadata: { labels: { team: 'y' } } });
    assert.deepEqual(patched.metadata.labels, { team: 'y' });
    const wrong = client.create(SANDBOX_KIND, 'default', sandboxDocument('c', { imagee: 'x' }));
    await assert.rejects(wrong, (error) => {
      assert.ok(error instanceof Error && 'causes' in error && Array.isArray(error.causes));
      assert.equal(error.causes[0].field, 'spec.imagee');
      return true;
    });
    const names = async (query: object) =>
      (await client.list(SANDBOX_KIND, query)).items.map(({ metadata }) => metadata.name);
    assert.deepEqual(await names({}), ['a', 'b']);
    assert.deepEqual(await names({ namespace: 'default', labelSelector: 'team=x' }), ['a']);
    assert.deepEqual(await names({ fieldSelector: 'metadata.name=b' }), ['b']);

    const leave = new AbortController();
    const changes: string[] = [];
    for await (const change of followObjects(client, SANDBOX_KIND, { namespace: 'default' }, leave.signal)) {
      if (change.type === 'SYNCED') {
        const other = { preconditions: { uid: 'another' } };
        await assert.rejects(client.delete(SANDBOX_KIND, 'default', 'a', other), { code: 'CONFLICT' });
        const request = { preconditions: { uid: made.metadata.uid }, gracePeriodSeconds: 3 };
        await client.delete(SANDBOX_KIND, 'default', 'a', request);
        continue;
      }
      const { spec, metadata } = change.object;
      changes.push(
        `${change.type} ${metadata.name} ${(spec as Record<string, unknown>).terminationGracePeriodSeconds}`,
      );
      if (change.type === 'DELETED') leave.abort();
    }
    assert.deepEqual(changes, ['MODIFIED a 3', 'DELETED a 3']);
    await client.create(SECRET_KIND, 'default', {
      ...{ apiVersion: 'v1', kind: 'Secret', metadata: { name: 's' }, data: { key: 'dmFsdWU=' } },
    });
    const secrets = await client.list(SECRET_KIND, { namespace: 'default' });
    assert.deepEqual(
      secrets.items.map(({ kind, data }) => [kind, data]),
      [['Secret', { key: 'dmFsdWU=' }]],
    );
    assert.deepEqual(await client.events({ namespace: 'default' }), []);
    assert.match((await client.version()).gitVersion, /^v\d/);
  });
}

export function describeClient(what: string, start: () => Promise<ClientUnderTest>): void {
  describeObjects(what, start);

  test(`${what}: commands run, take input, end with their codes and are taken up again`, async () => {
    await using place = await started(start);
    const { client } = place;
    const flags = { stdin: false, stdout: true, stderr: true, tty: false };
    const failing = await client.exec('default', 'a', { ...flags, command: ['fail'] });
    assert.equal(await text(failing.stdout), 'to stdout\n');
    assert.equal(await text(failing.stderr), 'to stderr\n');
    assert.equal((await failing.exited).exitCode, 3);

    const cat = await client.execResumable('default', 'a', {
      ...{ ...flags, stdin: true, command: ['cat'], id: ID, resumeSeconds: 10 },
    });
    const input = Buffer.alloc(700_000, 'ab');
    cat.stdin.end(input);
    assert.deepEqual(await buffer(cat.stdout), input);
    assert.equal((await cat.exited).exitCode, 0);

    const main = await client.attach('default', 'a', { stdin: true, stdout: true, stderr: true });
    main.stdin.end('hello main');
    assert.equal(await text(main.stdout), 'hello main');

    const lost = client.exec('default', 'nobody', { ...flags, command: ['fail'] });
    await assert.rejects(lost, { code: 'NOT_FOUND' });
    place.sandboxes.stopped.add('a');
    const stopped = client.exec('default', 'a', { ...flags, command: ['fail'] });
    await assert.rejects(stopped, { code: 'SANDBOX_NOT_RUNNING' });
  });

  test(`${what}: files, log, figures, ports, flows, the policy in force and the hold`, async () => {
    await using place = await started(start);
    const { client, sandboxes } = place;
    const content = Buffer.alloc(300_000, 'x');
    await client.files.write(AT, '/f', Readable.from([content], { objectMode: false }), { mode: 0o600 });
    const pieces: Buffer[] = [];
    for await (const piece of await client.files.read(AT, '/f', { offset: 1 })) pieces.push(piece);
    assert.equal(Buffer.concat(pieces).length, content.length - 1);
    assert.equal((await client.files.stat(AT, '/f')).sizeBytes, content.length);
    const names: string[] = [];
    for await (const { name } of client.files.list(AT, '/')) names.push(name);
    assert.ok(
      names.some((name) => name.endsWith('f')),
      names.join(),
    );
    await client.files.change(AT, 'rename', { path: '/f', to: '/g' });
    await assert.rejects(client.files.stat(AT, '/f'), (error) => {
      assert.ok(error instanceof Error && 'code' in error && error.code !== 'INTERNAL');
      return true;
    });

    sandboxes.logs.set('a', [
      { time: new Date(0), stream: 'stdout', data: Buffer.from('one line\n'), lostBytes: 0 },
    ]);
    assert.equal(await text(await client.logs('default', 'a', { tailLines: 1 })), 'one line\n');
    assert.equal((await client.stats('default', 'a')).vm.cpuSeconds, 1.5);
    assert.deepEqual((await client.flows('default', 'a')).items, []);
    assert.equal(typeof (await client.effectivePolicy('default', 'a')), 'object');

    sandboxes.dial = async () => echo();
    const port = await client.portForward('default', 'a', 80);
    port.end('there and back');
    assert.equal(await text(port), 'there and back');

    const leave = new AbortController();
    await client.hold('default', 'a', leave.signal, () => assert.fail('it was let go'));
    assert.equal(sandboxes.held.length, 1);
    leave.abort();
    while (sandboxes.held.length > 0) await new Promise(setImmediate);
  });
}

async function started(start: () => Promise<ClientUnderTest>): Promise<ClientUnderTest> {
  const place = await start();
  await place.client.create(SANDBOX_KIND, 'default', sandboxDocument('a'));
  return place;
}

/** What is written comes back. */
function echo(): Duplex {
  const stream: Duplex = new Duplex({
    write: (chunk, _encoding, done) => {
      stream.push(chunk);
      done();
    },
    final: (done) => {
      stream.push(null);
      done();
    },
    read() {},
  });
  return stream;
}
