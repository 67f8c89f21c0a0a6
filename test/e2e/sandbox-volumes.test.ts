// Volumes in sandboxes, with a real daemon and real VMs: who has a disk, what is on it, and what a full or a torn one does.
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { READY_TIMEOUT, TestDaemon } from './daemon-harness.ts';
import { condition, eventually, until, untilEvent } from './daemon-observations.ts';
import { TEST_DRIVER } from './test-driver.ts';
import { cutPower, untilVolume, volumeOf, volumeYaml, withVolumes } from './volume-harness.ts';

const MIB = 1024 * 1024;
/** Long enough for a volume that is filled to be full in its status too: guests are asked four times a minute. */
const WAIT = ['--timeout', READY_TIMEOUT] as const;

const shell = (daemon: TestDaemon, name: string, line: string) =>
  daemon.ok('exec', name, '--', 'sh', '-c', line);

/** Asks for another run in the manifest, and waits for its guest. */
async function restart(daemon: TestDaemon, name: string): Promise<void> {
  const file = join(daemon.manifests, `${name}.yaml`);
  const { metadata, ...rest } = JSON.parse(await readFile(file, 'utf8')) as { metadata: object };
  const { startedAt, pid } = (await daemon.get(name)).status.vm ?? {};
  const annotations = { 'bulkhead.dev/restartedAt': `${Date.now()}` };
  await daemon.write(
    `${name}.yaml`,
    `${JSON.stringify({ ...rest, metadata: { ...metadata, annotations } })}\n`,
  );
  await until(daemon, name, ({ vm, conditions }) => {
    const next = vm !== undefined && (vm.startedAt !== startedAt || vm.pid !== pid);
    return next && condition(conditions, 'Ready')?.status === 'True';
  });
}

async function remove(daemon: TestDaemon, name: string): Promise<void> {
  await daemon.remove(`${name}.yaml`);
  await daemon.waitGone(name);
}

test('what is on a volume lasts, its capacity is a wall, and its mounts are where the manifest says', async (t) => {
  await using daemon = await TestDaemon.start();
  await daemon.write('data.yaml', volumeYaml('data', { capacity: '128Mi' }));
  await daemon.write('beside.yaml', volumeYaml('beside'));
  await daemon.write('tiny.yaml', volumeYaml('tiny'));
  await daemon.write('a.yaml', withVolumes('a', ['data', 'beside', 'tiny']));
  await daemon.waitReady('a');

  await t.test('it is mounted and said to be, on both sides', async () => {
    const { conditions } = (await daemon.get('a')).status;
    assert.equal(condition(conditions, 'VolumesReady')?.reason, 'VolumesMounted');
    assert.match(await shell(daemon, 'a', 'mount'), / on \/data type ext4 \(rw,nodev/);
    const status = await untilVolume(daemon, 'data', ({ mountedBy }) => mountedBy !== undefined);
    assert.deepEqual(status.mountedBy, ['default/a']);
    assert.equal(condition(status.conditions, 'InUse')?.reason, 'VolumeInUse');
    await shell(daemon, 'a', 'echo first > /data/kept; echo neighbour > /beside/kept');
  });

  await t.test('df and free tell the truth', async () => {
    const said = await shell(daemon, 'a', 'df -m / /data | sed 1d; free -m | grep Mem');
    const [root, data, memory] = said.split('\n').map((line) => Number(line.trim().split(/ +/)[1]));
    const within = (value: number | undefined, least: number, most: number) =>
      assert.ok(value !== undefined && value >= least && value <= most, `${value} in\n${said}`);
    within(root, 180, 256);
    within(data, 96, 128);
    within(memory, 90, 128);
  });

  await t.test('a guest that fills it gets ENOSPC; neighbours, root and host are unharmed', async () => {
    const disk = join(daemon.stateDir, 'volumes', (await volumeOf(daemon, 'data')).metadata.uid, 'disk.img');
    const said = await shell(
      daemon,
      'a',
      'mkdir /data/many; dd if=/dev/zero of=/data/fill bs=1M 2>&1; i=0; while echo x > /data/many/$i; do i=$((i+1)); done 2>&1 | tail -n 1; ' +
        'truncate -s 1T /data/sparse; dd if=/dev/zero of=/data/sparse bs=1M seek=500 conv=notrunc count=8 2>&1; ' +
        'echo still > /beside/still && cat /beside/still /beside/kept /data/kept; echo root > /root/file && cat /root/file',
    );
    assert.equal(said.match(/No space left on device/g)?.length, 3, said);
    assert.match(said, /still\nneighbour\nfirst\nroot\n$/);
    assert.equal(statSync(disk).size, 128 * MIB);
    const full = await untilVolume(daemon, 'data', ({ conditions }) =>
      conditions.some(({ type }) => type === 'QuotaExceeded'),
    );
    assert.equal(full.availableBytes, 0);
    assert.ok((full.usedBytes ?? 0) > 100 * MIB, `${full.usedBytes}`);
    await untilEvent(daemon, /"QuotaExceeded"/);
    assert.equal(condition((await daemon.get('a')).status.conditions, 'Ready')?.status, 'True');
    await shell(daemon, 'a', 'rm -r /data/fill /data/many /data/sparse');
    await untilVolume(daemon, 'data', ({ availableBytes = 0 }) => availableBytes > 100 * MIB);
  });

  await t.test('space that is only reserved counts, and inodes end as space does', async () => {
    const said = await shell(
      daemon,
      'a',
      'fallocate -l 1G /data/reserved 2>&1; rm -f /data/reserved; cd /tiny; ' +
        // One process: a shell that makes files one by one takes minutes where the machine is emulated.
        'seq 20000 | xargs touch 2>&1 | tail -n 1; df -i /tiny | tail -n 1; ' +
        'echo still > /beside/still && cat /beside/still /data/kept',
    );
    assert.equal(said.match(/No space left on device/g)?.length, 2, said);
    assert.match(said, /100% \/tiny\nstill\nfirst\n$/);
    await untilVolume(daemon, 'tiny', ({ conditions }) =>
      conditions.some(({ type }) => type === 'QuotaExceeded'),
    );
    await shell(daemon, 'a', 'cd /tiny; ls | xargs rm -rf; echo again > /tiny/file');
  });

  await t.test('it grows with its capacity, without a restart where the driver can', async () => {
    await daemon.write('data.yaml', volumeYaml('data', { capacity: '512Mi' }));
    if (TEST_DRIVER === 'libkrun') {
      await untilVolume(daemon, 'data', ({ conditions }) =>
        conditions.some(({ reason }) => reason === 'WaitsForDetach'),
      );
      await restart(daemon, 'a');
    }
    await untilVolume(daemon, 'data', ({ capacity }) => capacity === '512Mi');
    await daemon.waitReady('a');
    const size = Number((await shell(daemon, 'a', 'df -m /data | tail -n 1')).trim().split(/ +/)[1]);
    assert.ok(size > 440, `${size} MiB`);
    assert.equal(await shell(daemon, 'a', 'cat /data/kept'), 'first\n');
  });

  await t.test('it lasts over a restart of the sandbox, and over the sandbox', async () => {
    await shell(daemon, 'a', 'echo second >> /data/kept');
    await restart(daemon, 'a');
    assert.equal(await shell(daemon, 'a', 'cat /data/kept'), 'first\nsecond\n');
    await remove(daemon, 'a');
    const status = await untilVolume(daemon, 'data', ({ mountedBy }) => mountedBy === undefined);
    assert.equal(condition(status.conditions, 'Healthy')?.reason, 'NeverChecked', 'it was left in order');
    await daemon.write(
      'b.yaml',
      withVolumes('b', ['data'], {
        volumes: [
          { name: 'data', volume: { name: 'data' } },
          { name: 'scratch', tmpfs: { size: '16Mi' } },
        ],
        volumeMounts: [
          { name: 'data', mountPath: '/srv/whole', readOnly: true },
          { name: 'data', mountPath: '/srv/part', subPath: 'new/part' },
          { name: 'data', mountPath: '/srv/part/inner/file', subPath: 'kept' },
          { name: 'scratch', mountPath: '/var/run/scratch' },
        ],
      }),
    );
    await daemon.waitReady('b');
    const said = await shell(
      daemon,
      'b',
      'cat /srv/whole/kept; echo x > /srv/whole/x; echo part > /srv/part/file; cat /srv/whole/new/part/file; ' +
        'cat /srv/part/inner/file; df -k /var/run/scratch | tail -n 1; dd if=/dev/zero of=/var/run/scratch/fill bs=1M 2>&1; true',
    );
    assert.match(said, /^first\nsecond\n/);
    assert.match(said, /part\nfirst\nsecond\n/);
    assert.match(said, / 16384 .*\/run\/scratch\n/);
    assert.match(said, /No space left on device/);
    assert.match(await shell(daemon, 'b', 'ls /srv/whole'), /^kept\nlost\+found\nnew\n$/);
    await remove(daemon, 'b');
  });
});

test('two sandboxes, one volume: the second waits and starts by itself when the first ends, however it ends', async (t) => {
  await using daemon = await TestDaemon.start();
  await daemon.write('shared.yaml', volumeYaml('shared'));
  await daemon.write('one.yaml', withVolumes('one', ['shared']));
  await daemon.waitReady('one');
  const waits = (name: string) =>
    until(daemon, name, ({ conditions }) => condition(conditions, 'Ready')?.reason === 'VolumeInUse');

  await t.test('it says whom it waits for, and is given the disk of one that is deleted', async () => {
    await shell(daemon, 'one', 'echo one > /shared/log');
    await daemon.write('two.yaml', withVolumes('two', ['shared']));
    const { conditions, vm } = await waits('two');
    assert.match(
      condition(conditions, 'VolumesReady')?.message ?? '',
      /shared.*in use by sandbox default\/one/,
    );
    assert.equal(condition(conditions, 'Stalled'), undefined);
    assert.equal(vm, undefined);
    await remove(daemon, 'one');
    await daemon.waitReady('two');
    assert.equal(await shell(daemon, 'two', 'cat /shared/log'), 'one\n');
  });

  await t.test('of one whose VMM was killed, after a check', async () => {
    await shell(daemon, 'two', 'echo two >> /shared/log; sync; echo lost > /shared/unsynced');
    await daemon.write('three.yaml', withVolumes('three', ['shared']));
    await waits('three');
    await cutPower(daemon, 'two');
    await daemon.waitReady('three');
    assert.equal(await shell(daemon, 'three', 'cat /shared/log'), 'one\ntwo\n');
    assert.equal((await daemon.get('two')).status.phase, 'Failed');
    const { status } = await volumeOf(daemon, 'shared');
    assert.equal(condition(status.conditions, 'Healthy')?.reason, 'FileSystemRecovered');
    await remove(daemon, 'two');
  });

  await t.test('of one that ends while no daemon runs, and never of one that goes on', async () => {
    await daemon.write('four.yaml', withVolumes('four', ['shared']));
    await waits('four');
    await daemon.crash();
    await daemon.launch();
    await daemon.waitReady('three');
    await waits('four');
    await shell(daemon, 'three', 'echo three >> /shared/log; sync');
    const { vm } = (await daemon.get('three')).status;
    await daemon.crash();
    process.kill(vm?.pid ?? 0, 'SIGKILL');
    await daemon.launch();
    await daemon.waitReady('four');
    assert.equal(await shell(daemon, 'four', 'cat /shared/log'), 'one\ntwo\nthree\n');
    await remove(daemon, 'three');
  });

  await t.test('one that restarts by its policy keeps it, checked, while others wait', async () => {
    await remove(daemon, 'four');
    await daemon.write('keeper.yaml', withVolumes('keeper', ['shared'], { restartPolicy: 'Always' }));
    await daemon.waitReady('keeper');
    await daemon.write('five.yaml', withVolumes('five', ['shared']));
    await waits('five');
    await cutPower(daemon, 'keeper');
    await until(daemon, 'keeper', ({ restarts = 0 }) => restarts > 0);
    await daemon.waitReady('keeper');
    await waits('five');
    await shell(daemon, 'keeper', 'echo keeper >> /shared/log');
    await remove(daemon, 'keeper');
    await daemon.waitReady('five');
    assert.match(await shell(daemon, 'five', 'cat /shared/log'), /three\nkeeper\n$/);
  });

  await t.test('a volume that is deleted goes when its user has gone', async () => {
    await daemon.remove('shared.yaml');
    await untilVolume(daemon, 'shared', ({ conditions }) =>
      conditions.some(({ reason, message }) => reason === 'Terminating' && message.includes('default/five')),
    );
    await remove(daemon, 'five');
    await daemon.ok('wait', 'volume/shared', '--for=delete', ...WAIT);
  });
});

test('any number of sandboxes read one volume, and none that asks to write gets it', async () => {
  await using daemon = await TestDaemon.start();
  await daemon.write('library.yaml', volumeYaml('library'));
  await daemon.write('author.yaml', withVolumes('author', ['library']));
  await daemon.waitReady('author');
  await shell(daemon, 'author', 'echo text > /library/book');
  await remove(daemon, 'author');
  await daemon.write('library.yaml', volumeYaml('library', { accessMode: 'ReadOnlyMany' }));
  const readOnly = { volumeMounts: [{ name: 'library', mountPath: '/library', readOnly: true }] };
  for (const name of ['r1', 'r2'])
    await daemon.write(`${name}.yaml`, withVolumes(name, ['library'], readOnly));
  for (const name of ['r1', 'r2']) {
    await daemon.waitReady(name);
    assert.equal(await shell(daemon, name, 'cat /library/book'), 'text\n');
  }
  await daemon.write('w.yaml', withVolumes('w', ['library']));
  const { conditions } = await until(daemon, 'w', (status) =>
    status.conditions.some(({ type }) => type === 'Stalled'),
  );
  assert.match(condition(conditions, 'Stalled')?.message ?? '', /ReadOnlyMany/);
});

const keys = (kind: 'ConfigMap' | 'Secret', name: string, data: Record<string, string>) =>
  `${JSON.stringify({
    ...{ apiVersion: 'v1', kind, metadata: { name } },
    ...(kind === 'Secret' ? { stringData: data } : { data }),
  })}\n`;

test('ConfigMaps and Secrets are files that follow their changes, all at once, among twenty mounts', async (t) => {
  await using daemon = await TestDaemon.start();
  const memory = Array.from({ length: 16 }, (_, index) => `m${index}`);
  await daemon.write('data.yaml', volumeYaml('data'));
  await daemon.write(
    'app.yaml',
    withVolumes('app', ['data'], {
      volumes: [
        { name: 'data', volume: { name: 'data' } },
        { name: 'config', configMap: { name: 'config' } },
        {
          name: 'keys',
          secret: { name: 'keys', defaultMode: '0400', items: [{ key: 'k', path: 'tls/key', mode: '0440' }] },
        },
        { name: 'absent', configMap: { name: 'absent', optional: true } },
        ...memory.map((name) => ({ name, tmpfs: { size: '1Mi' } })),
      ],
      volumeMounts: [
        { name: 'data', mountPath: '/data' },
        { name: 'config', mountPath: '/etc/app' },
        { name: 'config', mountPath: '/etc/one.conf', subPath: 'a' },
        { name: 'keys', mountPath: '/data/keys' },
        { name: 'absent', mountPath: '/absent' },
        ...memory.map((name) => ({ name, mountPath: `/memory/${name}` })),
      ],
    }),
  );

  await t.test('what they name is waited for', async () => {
    await daemon.write('keys.yaml', keys('Secret', 'keys', { k: 'secret', other: 'hidden' }));
    const { conditions } = await until(daemon, 'app', (status) =>
      status.conditions.some(({ reason }) => reason === 'ReferenceNotFound'),
    );
    assert.match(
      condition(conditions, 'Ready')?.message ?? '',
      /spec\.volumes\[1\]\.configMap: ConfigMap config/,
    );
    await daemon.write('config.yaml', keys('ConfigMap', 'config', { a: 'one', b: 'one', gone: 'x' }));
    await daemon.waitReady('app');
  });

  await t.test('each has its content, its mode and its place; none can be written to', async () => {
    const said = await shell(
      daemon,
      'app',
      'cat /etc/app/a /etc/one.conf /data/keys/tls/key; echo; find /data/keys/ -type f | wc -l; stat -L -c %a /data/keys/tls/key /etc/app/a; ' +
        'ls /etc/app /absent; mount | grep -c "/memory/m"; mount | grep " /etc/app "; echo x > /etc/app/a; rm /etc/app/b; true',
    );
    assert.match(
      said,
      /^oneonesecret\n1\n440\n644\n\/absent:\n\n?\/etc\/app:\na\nb\ngone\n16\n.*\(ro,|^oneonesecret\n1\n440\n644\n\/etc\/app:\na\nb\ngone\n\n\/absent:\n16\n.*\(ro,/,
    );
    assert.equal(await shell(daemon, 'app', 'cat /etc/app/a /etc/app/b'), 'oneone');
  });

  await t.test('a change arrives whole while it is read', async () => {
    const reader = shell(
      daemon,
      'app',
      'while :; do d=$(readlink /etc/app/..data); a=$(cat /etc/app/$d/a 2>/dev/null) || continue; ' +
        'b=$(cat /etc/app/$d/b 2>/dev/null) || continue; [ "$a" = "$b" ] || echo torn; [ "$a" = last ] && break; done; ls -A /etc/app | grep -v rev_; cat /etc/app/a',
    );
    const large = 'y'.repeat(400_000);
    for (const value of ['two', large, 'three', 'last'])
      await daemon.write('config.yaml', keys('ConfigMap', 'config', { a: value, b: value }));
    assert.equal(await reader, '..data\na\nb\nlast');
    assert.equal(await shell(daemon, 'app', 'ls -A /etc/app | grep -c rev_; cat /etc/one.conf'), '1\none');
    await daemon.write('keys.yaml', keys('Secret', 'keys', { k: 'changed' }));
    await eventually(
      'the new key in the guest',
      async () => ((await shell(daemon, 'app', 'cat /data/keys/tls/key')) === 'changed' ? true : undefined),
      () => daemon.log().slice(-3000),
    );
  });

  await t.test('a daemon that comes later goes on with it', async () => {
    await daemon.crash();
    await daemon.write('config.yaml', keys('ConfigMap', 'config', { a: 'later', b: 'later' }));
    await daemon.launch();
    await eventually(
      'the new file in the guest',
      async () => {
        // Until the guest was dialled anew, an exec is refused.
        const { stdout } = await daemon.cli('exec', 'app', '--', 'cat', '/etc/app/a');
        return stdout === 'later' ? true : undefined;
      },
      () => daemon.log().slice(-3000),
    );
    assert.equal((await daemon.get('app')).status.restarts ?? 0, 0);
  });
});
