// Volumes as a user sees them, with a real daemon and real disks; no VM is started.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, statSync, watch, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { get } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { TestDaemon } from './daemon-harness.ts';

const run = promisify(execFile);
const TIMEOUT = '120s';

interface VolumeView {
  metadata: { uid: string };
  status: {
    phase: string;
    capacity?: string;
    conditions: { type: string; status: string; reason: string; message: string }[];
  };
}

function volumeYaml(name: string, spec: Record<string, unknown> = {}): string {
  const metadata = { name };
  const document = { apiVersion: 'bulkhead.dev/v1alpha1', kind: 'Volume', metadata };
  return `${JSON.stringify({ ...document, spec: { capacity: '64Mi', ...spec } })}\n`;
}

async function volume(daemon: TestDaemon, name: string): Promise<VolumeView> {
  return JSON.parse(await daemon.ok('get', 'volume', name, '-o', 'json')) as VolumeView;
}

async function conditionOf(daemon: TestDaemon, name: string, type: string) {
  return (await volume(daemon, name)).status.conditions.find((each) => each.type === type);
}

const waitFor = (daemon: TestDaemon, name: string, what: string) =>
  daemon.ok('wait', `volume/${name}`, `--for=${what}`, '--timeout', TIMEOUT);
const waitReady = (daemon: TestDaemon, name: string) => waitFor(daemon, name, 'condition=Ready');

/** Writes into a disk that nobody uses, as a guest would have. */
async function putFile(daemon: TestDaemon, disk: string, name: string, content: string): Promise<void> {
  const source = join(daemon.root, 'source');
  writeFileSync(source, content);
  await run('/sbin/debugfs', ['-w', '-R', `write ${source} ${name}`, disk]);
}

async function fileIn(disk: string, name: string): Promise<string> {
  return (await run('/sbin/debugfs', ['-R', `cat ${name}`, disk])).stdout;
}

async function metrics(daemon: TestDaemon): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  get({ socketPath: daemon.socket, path: '/metrics', headers: { host: 'localhost' } }, (response) => {
    let text = '';
    response.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    response.on('end', () => resolve(text)).on('error', reject);
  }).on('error', reject);
  return promise;
}

test('a volume from a file is a disk that grows, survives, moves and goes', async (t) => {
  await using daemon = await TestDaemon.start();
  const dir = join(daemon.stateDir, 'volumes');
  const diskOf = async (name: string) => join(dir, (await volume(daemon, name)).metadata.uid, 'disk.img');

  await t.test('it is Ready, a clean ext4 of its capacity that takes next to nothing', async () => {
    await daemon.write('data.yaml', volumeYaml('data', { capacity: '1Gi' }));
    await waitFor(daemon, 'data', 'jsonpath={.status.phase}=Bound');
    await waitReady(daemon, 'data');
    const disk = await diskOf('data');
    assert.equal(statSync(disk).size, 1024 ** 3);
    assert.ok(statSync(disk).blocks * 512 < 8 * 1024 ** 2);
    await run('/sbin/e2fsck', ['-fn', disk]);
    assert.match(await daemon.ok('get', 'volumes'), /data +True +Bound +1Gi +ReadWriteOnce/);
    assert.match(await daemon.ok('describe', 'volume', 'data'), /Provisioned/);
    const text = await metrics(daemon);
    assert.match(text, /^volume_capacity_bytes\{namespace="default",name="data",[^}]*\} 1073741824$/m);
    assert.match(text, /^volume_used_bytes\{[^}]*name="data"[^}]*\} \d+$/m);
  });

  await t.test('what no disk can be is refused with field and bounds', async () => {
    const file = join(daemon.root, 'wrong.yaml');
    writeFileSync(file, volumeYaml('small', { capacity: '1Mi' }));
    const small = await daemon.cli('apply', '-f', file);
    assert.equal(small.code, 1);
    assert.match(small.stderr, /spec\.capacity.*between 64Mi and 15Ti/);
  });

  await t.test('it grows with its file; less is refused and changes nothing', async () => {
    await putFile(daemon, await diskOf('data'), 'kept', 'precious');
    await daemon.write('data.yaml', volumeYaml('data', { capacity: '3Gi' }));
    await waitFor(daemon, 'data', 'jsonpath={.status.capacity}=3Gi');
    await waitReady(daemon, 'data');
    const disk = await diskOf('data');
    assert.equal(statSync(disk).size, 3 * 1024 ** 3);
    await run('/sbin/e2fsck', ['-fn', disk]);
    assert.equal(await fileIn(disk, 'kept'), 'precious');
    const file = join(daemon.root, 'shrink.yaml');
    writeFileSync(file, volumeYaml('data', { capacity: '2Gi' }));
    const shrink = await daemon.cli('apply', '-f', file);
    assert.equal(shrink.code, 1);
    assert.match(shrink.stderr, /capacity cannot shrink/);
    assert.equal((await volume(daemon, 'data')).status.capacity, '3Gi');
  });

  await t.test('snapshot, clone, export and import carry its content, sparse', async () => {
    await daemon.ok('volume', 'snapshot', 'data', 'snap');
    await daemon.ok('volume', 'clone', 'data', 'twin');
    await waitReady(daemon, 'snap');
    await waitReady(daemon, 'twin');
    assert.match(await daemon.ok('get', 'volume', 'snap'), /ReadOnlyMany/);
    for (const name of ['snap', 'twin']) {
      const disk = await diskOf(name);
      assert.equal(await fileIn(disk, 'kept'), 'precious');
      assert.ok(statSync(disk).blocks * 512 < 16 * 1024 ** 2);
    }
    const image = join(daemon.root, 'image.img');
    await daemon.ok('volume', 'export', 'data', image);
    assert.equal(statSync(image).size, 3 * 1024 ** 3);
    assert.ok(statSync(image).blocks * 512 < 16 * 1024 ** 2);
    const again = await daemon.cli('volume', 'export', 'data', image);
    assert.equal(again.code, 1);
    assert.match(again.stderr, /exists/);

    await daemon.write('fresh.yaml', volumeYaml('fresh', { capacity: '4Gi', reclaimPolicy: 'Delete' }));
    await waitFor(daemon, 'fresh', 'jsonpath={.status.phase}=Bound');
    await waitReady(daemon, 'fresh');
    await daemon.ok('volume', 'import', 'fresh', image);
    await waitReady(daemon, 'fresh');
    assert.equal(await fileIn(await diskOf('fresh'), 'kept'), 'precious');
    const unasked = await daemon.cli('volume', 'import', 'fresh', image);
    assert.equal(unasked.code, 1);
    assert.match(unasked.stderr, /holds files/);
    await daemon.ok('volume', 'import', 'fresh', image, '--overwrite');
    assert.match(await daemon.ok('volume', 'ls'), /fresh +Available/);
    assert.match(await daemon.ok('volume', 'du', 'fresh'), /fresh +4GiB/);
  });

  await t.test('what a crash left unclean is checked at the next start', async () => {
    await daemon.crash();
    const uid = readdirSync(dir).find((name) => name.startsWith('.') === false && name !== 'lock') ?? '';
    await run('/sbin/debugfs', ['-w', '-R', 'feature needs_recovery', join(dir, uid, 'disk.img')]);
    await daemon.launch();
    const { items } = JSON.parse(await daemon.ok('get', 'volumes', '-o', 'json')) as {
      items: { metadata: { uid: string; name: string } }[];
    };
    const name = items.find((each) => each.metadata.uid === uid)?.metadata.name ?? '';
    await waitFor(
      daemon,
      name,
      'jsonpath={.status.conditions[?(@.type=="Healthy")].reason}=FileSystemRecovered',
    );
    await waitReady(daemon, name);
    assert.match(await metrics(daemon), /^volume_checks_total\{result="Recovered"\} 1$/m);
  });

  await t.test('Retain keeps the disk for the next volume of its name, Delete leaves nothing', async () => {
    const fresh = (await volume(daemon, 'fresh')).metadata.uid;
    await daemon.remove('fresh.yaml');
    await waitFor(daemon, 'fresh', 'delete');
    assert.equal(existsSync(join(dir, fresh)), false);
    await daemon.remove('data.yaml');
    await waitFor(daemon, 'data', 'delete');
    assert.match(await daemon.ok('volume', 'ls', 'data'), /data +Retained/);
    await daemon.write('back.yaml', volumeYaml('data', { capacity: '3Gi', reclaimPolicy: 'Delete' }));
    await waitFor(daemon, 'data', 'jsonpath={.status.phase}=Bound');
    await waitReady(daemon, 'data');
    assert.equal(await fileIn(await diskOf('data'), 'kept'), 'precious');
    await daemon.remove('back.yaml');
    await waitFor(daemon, 'data', 'delete');
    assert.equal((await daemon.cli('volume', 'ls', 'data')).code, 1);
  });
});

test('a daemon killed in the middle of making and removing disks leaves whole disks, then none', async () => {
  await using daemon = await TestDaemon.start();
  const dir = join(daemon.stateDir, 'volumes');
  const names = Array.from({ length: 5 }, (_, index) => `v${index}`);
  /** Kills the daemon when the folder of disks has changed so many times after `act`. */
  const crashAfter = async (changes: number, act: () => Promise<void>): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    let seen = 0;
    const watcher = watch(dir, () => {
      seen += 1;
      if (seen === changes) resolve();
    });
    await act();
    await promise;
    watcher.close();
    await daemon.crash();
    await daemon.launch();
  };
  const left = () => readdirSync(dir).filter((name) => name !== 'lock' && name !== '.templates');
  for (const changes of [1, 4, 7]) {
    await crashAfter(changes, async () => {
      for (const name of names)
        await daemon.write(`${name}.yaml`, volumeYaml(name, { reclaimPolicy: 'Delete' }));
    });
    for (const name of names) {
      await waitFor(daemon, name, 'jsonpath={.status.phase}=Bound');
      await waitReady(daemon, name);
    }
    assert.equal(left().length, names.length);
    for (const uid of left()) await run('/sbin/e2fsck', ['-fn', join(dir, uid, 'disk.img')]);
    await crashAfter(changes, async () => {
      for (const name of names) await daemon.remove(`${name}.yaml`);
    });
    for (const name of names) await waitFor(daemon, name, 'delete');
    assert.deepEqual(left(), []);
  }
});

test('disks lie where the operator says, and a full disk there is said and overcome', async () => {
  await using daemon = await TestDaemon.start();
  await daemon.stop();
  const dir = join(daemon.root, 'elsewhere');
  await mkdir(dir);
  await run('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=700', 'tmpfs', dir]);
  try {
    await daemon.launch(['--volume-dir', dir]);
    await daemon.write('data.yaml', volumeYaml('data'));
    await waitFor(daemon, 'data', 'jsonpath={.status.conditions[?(@.type=="Ready")].reason}=DiskFull');
    assert.equal((await conditionOf(daemon, 'data', 'Bound'))?.status, 'False');
    assert.deepEqual(
      readdirSync(dir).filter((name) => name !== 'lock' && name !== '.templates'),
      [],
      'no half disk',
    );
    await run('mount', ['-o', 'remount,size=64m', dir]);
    await waitReady(daemon, 'data');
    assert.equal(
      statSync(join(dir, (await volume(daemon, 'data')).metadata.uid, 'disk.img')).size,
      64 * 1024 ** 2,
    );

    const other = await TestDaemon.start();
    try {
      await other.stop();
      await assert.rejects(other.launch(['--volume-dir', dir]), /in use by another daemon/);
    } finally {
      await other[Symbol.asyncDispose]();
    }
  } finally {
    await daemon.stop();
    await run('umount', ['-l', dir]);
  }
});
