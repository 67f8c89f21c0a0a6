import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { appendFile, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { SNAPSHOT_LIMITS, type Snapshot, type SnapshotLimits, takeSnapshot } from './snapshot.ts';
import { nodeFs, type SnapshotFs } from './snapshot-fs.ts';
import { hookedFs, once, permissionDenied, TestFolder } from './testing/folder.ts';

interface Settings {
  fs?: SnapshotFs;
  limits?: Partial<SnapshotLimits>;
  recursive?: boolean;
}

function take(root: string, { fs = nodeFs, limits = {}, recursive = true }: Settings = {}) {
  return takeSnapshot(root, { fs, limits: { ...SNAPSHOT_LIMITS, ...limits }, recursive });
}

async function read(root: string, settings?: Settings): Promise<Snapshot> {
  const result = await take(root, settings);
  assert.equal(result.type, 'read', result.type === 'unavailable' ? result.message : '');
  return result.type === 'read' ? result.snapshot : assert.fail();
}

async function unavailable(root: string, settings?: Settings): Promise<string> {
  const result = await take(root, settings);
  return result.type === 'unavailable' ? result.message : assert.fail('the folder was read');
}

function contents(snapshot: Snapshot): Record<string, string> {
  return Object.fromEntries(snapshot.files.map(({ path, bytes }) => [path, bytes.toString()]));
}

test('reads yaml, yml and json below the root, sorted, and nothing that editors and git leave there', async () => {
  await using folder = await TestFolder.create();
  for (const path of ['b.yaml', 'a.yml', 'team/c.json', 'notes.txt', '.hidden.yaml', '.git/config.yaml']) {
    await folder.write(path, path);
  }
  for (const path of ['b.yaml~', '.b.yaml.swp', 'b.yaml.bak', '..data/x.yaml', '#b.yaml#']) {
    await folder.write(path, 'scratch');
  }
  assert.deepEqual(contents(await read(folder.root)), {
    'a.yml': 'a.yml',
    'b.yaml': 'b.yaml',
    'team/c.json': 'team/c.json',
  });
  assert.deepEqual(Object.keys(contents(await read(folder.root, { recursive: false }))), ['a.yml', 'b.yaml']);
});

test('the digest moves with every path and byte, and with nothing else', async () => {
  await using folder = await TestFolder.create();
  await folder.write('a.yaml', 'one');
  const first = (await read(folder.root)).digest;
  await folder.write('a.yaml', 'one');
  await folder.write('ignored.txt', 'x');
  assert.equal((await read(folder.root)).digest, first);
  await rename(join(folder.root, 'a.yaml'), join(folder.root, 'b.yaml'));
  const renamed = (await read(folder.root)).digest;
  assert.notEqual(renamed, first);
  await folder.write('b.yaml', 'One');
  assert.notEqual((await read(folder.root)).digest, renamed);
});

test('a missing root, a file as root and a root without permission are unavailable, never empty', async () => {
  await using folder = await TestFolder.create();
  await folder.write('a.yaml', 'x');
  assert.match(await unavailable(join(folder.root, 'absent')), /does not exist/);
  assert.match(await unavailable(join(folder.root, 'a.yaml')), /not a directory/);
  const denied = hookedFs((call, path) => {
    if (call === 'names') throw permissionDenied(path);
  });
  assert.match(await unavailable(folder.root, { fs: denied }), /permission denied/);
});

test('an unreadable directory or file is a failure of its own, and the rest is read', async () => {
  await using folder = await TestFolder.create();
  for (const path of ['a.yaml', 'secret/b.yaml', 'c.yaml']) await folder.write(path, path);
  const fs = hookedFs((call, path) => {
    if (call === 'names' && path.endsWith('/secret')) throw permissionDenied(path);
    if (call === 'read' && path.endsWith('/c.yaml')) throw permissionDenied(path);
  });
  const snapshot = await read(folder.root, { fs });
  assert.deepEqual(Object.keys(contents(snapshot)), ['a.yaml']);
  assert.deepEqual(
    snapshot.failures.map(({ path, kind }) => [path, kind]),
    [
      ['c.yaml', 'unreadable'],
      ['secret', 'unreadable'],
    ],
  );
});

test('a root link that flips during the read never mixes two versions', async () => {
  await using folder = await TestFolder.create();
  const link = join(folder.base, 'current');
  for (const version of ['v1', 'v2']) {
    await mkdir(join(folder.base, version));
    for (const name of ['a.yaml', 'b.yaml']) await writeFile(join(folder.base, version, name), version);
  }
  await symlink('v1', link);
  const flip = async (): Promise<void> => {
    await symlink('v2', `${link}.new`);
    await rename(`${link}.new`, link);
  };
  const fs = hookedFs(once((call, path) => call === 'read' && path.endsWith('b.yaml'), flip));
  const snapshot = await read(link, { fs });
  assert.deepEqual(contents(snapshot), { 'a.yaml': 'v2', 'b.yaml': 'v2' });
  assert.equal(snapshot.realRoot, join(folder.base, 'v2'));
});

test('a ..data link that flips during the read never mixes two versions', async () => {
  await using folder = await TestFolder.create();
  for (const version of ['v1', 'v2']) {
    for (const name of ['a.yaml', 'b.yaml']) await folder.write(`..${version}/${name}`, version);
  }
  await symlink('..v1', join(folder.root, '..data'));
  for (const name of ['a.yaml', 'b.yaml']) await symlink(`..data/${name}`, join(folder.root, name));
  assert.deepEqual(contents(await read(folder.root)), { 'a.yaml': 'v1', 'b.yaml': 'v1' });

  const flip = async (): Promise<void> => {
    await symlink('..v2', join(folder.root, '..data_tmp'));
    await rename(join(folder.root, '..data_tmp'), join(folder.root, '..data'));
    await folder.remove('..v1');
  };
  const fs = hookedFs(once((call) => call === 'read', flip));
  assert.deepEqual(contents(await read(folder.root, { fs })), { 'a.yaml': 'v2', 'b.yaml': 'v2' });
});

test('a file moved between directories during the read is in one of them', async () => {
  await using folder = await TestFolder.create();
  await folder.write('a/keep.yaml', 'keep');
  await folder.write('b/moved.yaml', 'moved');
  // After a is listed and before b is.
  const move = (): Promise<void> =>
    rename(join(folder.root, 'b/moved.yaml'), join(folder.root, 'a/moved.yaml'));
  const fs = hookedFs(once((call, path) => call === 'names' && path.endsWith('/b'), move));
  assert.deepEqual(Object.keys(contents(await read(folder.root, { fs }))), ['a/keep.yaml', 'a/moved.yaml']);
});

test('a file that vanishes or is replaced during the read starts it again', async () => {
  await using folder = await TestFolder.create();
  await folder.write('a.yaml', 'old');
  await folder.write('b.yaml', 'b');
  const fs = hookedFs(
    once(
      (call) => call === 'read',
      async () => {
        await folder.remove('b.yaml');
        await folder.write('a.yaml', 'new');
      },
    ),
  );
  assert.deepEqual(contents(await read(folder.root, { fs })), { 'a.yaml': 'new' });
});

test('a folder that never stays still is read, and what moves counts as unreadable', async () => {
  await using folder = await TestFolder.create();
  await folder.write('a.yaml', 'a');
  let count = 0;
  const fs = hookedFs(async (call) => {
    if (call === 'read') await folder.write(`new-${count++}.yaml`, 'n');
  });
  const { files, failures } = await read(folder.root, { fs });
  assert.equal(files[0]?.path, 'a.yaml');
  assert.deepEqual(
    failures.map(({ path, kind }) => [path, kind]),
    [['', 'unreadable']],
  );
});

test('links are followed inside the folder and refused where they lead out, nowhere or in a circle', async () => {
  await using folder = await TestFolder.create();
  await writeFile(join(folder.base, 'outside.yaml'), 'secret');
  await mkdir(join(folder.base, 'manifests-of-others'));
  await folder.write('real/a.yaml', 'a');
  await symlink('real/a.yaml', join(folder.root, 'inside.yaml'));
  await symlink('../outside.yaml', join(folder.root, 'file-out.yaml'));
  await symlink('../manifests-of-others', join(folder.root, 'dir-out'));
  await symlink('absent.yaml', join(folder.root, 'dangling.yaml'));
  await symlink('..', join(folder.root, 'real/loop'));
  const snapshot = await read(folder.root);
  assert.deepEqual(contents(snapshot), { 'inside.yaml': 'a', 'real/a.yaml': 'a' });
  assert.deepEqual(
    snapshot.failures.map(({ path, kind, message }) => [path, kind, message]),
    [
      ['dangling.yaml', 'refused', 'the link leads nowhere'],
      ['dir-out', 'refused', 'the link leads out of the folder'],
      ['file-out.yaml', 'refused', 'the link leads out of the folder'],
      ['real/loop', 'refused', 'the link leads back to a directory above it'],
    ],
  );
});

test('a directory that becomes a link out of the folder between look and open is not followed', async () => {
  await using folder = await TestFolder.create();
  await mkdir(join(folder.base, 'elsewhere'));
  await writeFile(join(folder.base, 'elsewhere/a.yaml'), 'secret');
  await folder.write('team/a.yaml', 'mine');
  const swap = async (): Promise<void> => {
    await rm(join(folder.root, 'team'), { recursive: true });
    await symlink('../elsewhere', join(folder.root, 'team'));
  };
  const fs = hookedFs(once((call) => call === 'read', swap));
  const snapshot = await read(folder.root, { fs });
  assert.deepEqual(contents(snapshot), {});
  assert.deepEqual(
    snapshot.failures.map(({ path, message }) => [path, message]),
    [['team', 'the link leads out of the folder']],
  );
});

test('a FIFO named like a manifest is refused and never opened', async () => {
  await using folder = await TestFolder.create();
  execFileSync('mkfifo', [join(folder.root, 'pipe.yaml')]);
  const { failures } = await read(folder.root);
  assert.deepEqual(failures, [{ path: 'pipe.yaml', kind: 'refused', message: 'not a regular file' }]);
});

test('size, count, total and depth are bounded', async () => {
  await using folder = await TestFolder.create();
  await folder.write('big.yaml', 'x'.repeat(101));
  await folder.write('d/d/d/deep.yaml', 'x');
  const { files, failures } = await read(folder.root, { limits: { maxFileBytes: 100, maxDepth: 2 } });
  assert.deepEqual(files, []);
  assert.deepEqual(failures, [
    { path: 'big.yaml', kind: 'refused', message: 'the file is larger than 100 bytes' },
    { path: 'd/d/d', kind: 'unreadable', message: 'deeper than 2 levels' },
  ]);
  assert.match(
    await unavailable(folder.root, { limits: { maxTotalBytes: 50 } }),
    /more than 50 bytes in all/,
  );
  assert.match(await unavailable(folder.root, { limits: { maxFiles: 1 } }), /more than 1 manifest files/);
  assert.match(await unavailable(folder.root, { limits: { maxEntries: 3 } }), /more than 3 entries/);
});

test('a file that grows while it is read is read again', async () => {
  await using folder = await TestFolder.create();
  await folder.write('a.yaml', 'one');
  let reads = 0;
  const fs: SnapshotFs = {
    ...nodeFs,
    async read(path, maxBytes) {
      const bytes = await nodeFs.read(path, maxBytes);
      if (++reads === 1) {
        await appendFile(path, ' two');
        // What nodeFs.read does when the write falls between its own two looks.
        throw Object.assign(new Error('gone'), { code: 'ENOENT' });
      }
      return bytes;
    },
  };
  assert.deepEqual(contents(await read(folder.root, { fs })), { 'a.yaml': 'one two' });
});
