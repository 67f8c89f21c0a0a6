// Files of a real guest: looking, changing, and what a hostile tree can do to it.
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { after, before, test } from 'node:test';
import type { GuestFile, GuestFiles, NewFile } from '../../src/guest/agent.ts';
import { TestGuest, text } from './guest-harness.ts';

let guest: TestGuest;
let files: GuestFiles;

before(async () => {
  guest = await TestGuest.start('files');
  files = guest.agent.files;
});
after(async () => {
  await guest?.[Symbol.asyncDispose]();
});

const sh = (script: string): Promise<string> => guest.sh(script);

async function listed(path: string): Promise<GuestFile[]> {
  const all: GuestFile[] = [];
  for await (const file of files.list(path)) all.push(file);
  return all.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

const put = (path: string, content: string | Buffer, mode = 0o644) =>
  files.write(path, Readable.from([Buffer.from(content)]), { mode });

test('stat says what is there: kind, size, mode, owner, times, target', async () => {
  await sh(
    'mkdir /st; printf 12345 >/st/f; chown 12:34 /st/f; chmod 4751 /st/f; ln -s f /st/l; mkfifo /st/p',
  );
  const file = await files.stat('/st/f');
  assert.deepEqual(
    [file.name, file.kind, file.sizeBytes, file.mode, file.uid, file.gid],
    ['f', 'file', 5, 0o4751, 12, 34],
  );
  const now = Number(await sh('date +%s')) * 1000;
  assert.ok(Math.abs(file.modifiedMs - now) < 60_000, `${file.modifiedMs} against ${now}`);
  assert.deepEqual([(await files.stat('/st/l')).kind, (await files.stat('/st/l')).target], ['symlink', 'f']);
  assert.equal((await files.stat('/st/l', { follow: true })).kind, 'file');
  assert.equal((await files.stat('/st/p')).kind, 'other');
  assert.equal((await files.stat('/st/')).kind, 'directory');
  assert.deepEqual([(await files.stat('/')).kind, (await files.stat('/')).name], ['directory', '']);
  await assert.rejects(files.stat('/st/none'), { code: 'NOT_FOUND' });
  await assert.rejects(files.stat('/st/f/x'), { code: 'NOT_FOUND' });
  await assert.rejects(files.stat('relative'), { code: 'INVALID' });
});

test('a list has every name, odd ones too, and no limit on how many', async () => {
  await sh(
    `mkdir /ls; cd /ls; touch "$(printf 'a\\nb')" ' x' -- -n "$(printf '\\303\\274')"; ln -s nowhere dangling`,
  );
  assert.deepEqual(
    (await listed('/ls')).map(({ name }) => name),
    [' x', '-n', 'a\nb', 'dangling', 'ü'],
  );
  await sh('mkdir /many; cd /many; i=0; while [ $i -lt 3000 ]; do : >"name-$i"; i=$((i+1)); done');
  assert.equal((await listed('/many')).length, 3000);
  assert.deepEqual(
    await listed('/proc/self/fdinfo/none').catch((error: Error) => error.name),
    'BulkheadError',
  );
  await assert.rejects(listed('/st/f'), { code: 'NOT_FOUND' });
  // A reader that leaves early ends the work in the guest.
  for await (const _ of files.list('/many')) break;
  assert.equal((await listed('/many')).length, 3000);
});

test('directories are made with their mode, one or all above', async () => {
  await files.makeDirectory('/md', { mode: 0o1777, parents: false });
  assert.equal((await files.stat('/md')).mode, 0o1777);
  await assert.rejects(files.makeDirectory('/md', { mode: 0o755, parents: false }), {
    code: 'ALREADY_EXISTS',
  });
  await files.makeDirectory('/md', { mode: 0o755, parents: true });
  await assert.rejects(files.makeDirectory('/md/a/b', { mode: 0o755, parents: false }), {
    code: 'NOT_FOUND',
  });
  await files.makeDirectory('/md/a/b/c/', { mode: 0o700, parents: true });
  assert.equal((await files.stat('/md/a/b/c')).mode, 0o700);
  await sh('ln -s a /md/link');
  await files.makeDirectory('/md/link/through', { mode: 0o755, parents: true });
  assert.equal((await files.stat('/md/a/through')).kind, 'directory');
  await put('/md/file', '');
  await assert.rejects(files.makeDirectory('/md/file/x', { mode: 0o755, parents: true }), {
    code: 'NOT_FOUND',
  });
});

test('removal takes what was meant and nothing else', async () => {
  await sh(
    'mkdir -p /rm/d/e /rm/empty; touch /rm/d/e/f /rm/keep; ln -s /rm/keep /rm/d/out; ln -s /st /rm/d/tree',
  );
  await assert.rejects(files.remove('/rm/d', 'file'), { code: 'INVALID' });
  await assert.rejects(files.remove('/rm/d', 'empty-directory'), { code: 'INVALID' });
  await files.remove('/rm/empty', 'empty-directory');
  await files.remove('/rm/d', 'tree');
  assert.deepEqual(
    (await listed('/rm')).map(({ name }) => name),
    ['keep'],
  );
  assert.equal((await files.stat('/st/f')).sizeBytes, 5);
  await assert.rejects(files.remove('/rm/none', 'tree'), { code: 'NOT_FOUND' });
  await assert.rejects(files.remove('/', 'tree'), { code: 'INVALID' });
  await assert.rejects(files.remove('/rm/..', 'tree'), { code: 'INVALID' });
});

test('renames replace, copies keep mode and owner', async () => {
  await put('/mv-a', 'one', 0o640);
  await put('/mv-b', 'two');
  await files.rename('/mv-a', '/mv-b');
  assert.equal(await text(await files.read('/mv-b')), 'one');
  await assert.rejects(files.stat('/mv-a'), { code: 'NOT_FOUND' });
  await assert.rejects(files.rename('/mv-b', '/none/x'), { code: 'NOT_FOUND' });
  await sh('chown 7:8 /mv-b');
  await files.copy('/mv-b', '/mv-c');
  const { mode, uid, gid } = await files.stat('/mv-c');
  assert.deepEqual([mode, uid, gid, await text(await files.read('/mv-c'))], [0o640, 7, 8, 'one']);
  await assert.rejects(files.copy('/st', '/mv-d'), { code: 'INVALID' });
  await assert.rejects(files.copy('/mv-b', '/proc/x'), { code: 'FILE_FAILED' });
});

test('a part of a file is read by offset and length', async () => {
  const data = Buffer.alloc(300_000, 'abcdefghij');
  await put('/part', data);
  const part = async (options: { offset?: number; length?: number }) =>
    text(await files.read('/part', options));
  assert.equal(await part({ offset: 100_003, length: 4 }), 'defg');
  assert.equal((await part({ offset: 299_995 })).length, 5);
  assert.equal(await part({ offset: 300_000 }), '');
  assert.equal((await part({ length: 250_000 })).length, 250_000);
});

test('a link that climbs stays beneath the root, a full disk is told in its own words', async () => {
  await sh('mkdir /esc; ln -s ../../../../../../etc /esc/up');
  assert.equal((await files.stat('/esc/up/passwd', { follow: true })).kind, 'file');
  await sh('mkdir /small; mount -t tmpfs -o size=64k none /small 2>/dev/null || true');
  const isMounted = (await sh('grep -c " /small tmpfs " /proc/mounts || true')).trim() === '1';
  assert.ok(isMounted, 'root of the guest can mount a small tmpfs');
  await assert.rejects(put('/small/big', Buffer.alloc(1024 * 1024)), {
    code: 'FILE_FAILED',
    message: /No space left/,
  });
  assert.deepEqual(await listed('/small'), []);
});

test('many files are made in one session: modes, owners, links, odd names, and in place of what was there', async () => {
  await sh('mkdir /many-in; printf 12345 >/many-kept; echo old >/many-in/0; ln -s /many-kept /many-in/1');
  const made = Array.from({ length: 300 }, (_, index): NewFile => {
    const content = Buffer.alloc(index === 7 ? 1024 * 1024 : index, `${index}`);
    return { kind: 'file', path: `/many-in/${index}`, mode: 0o640, content };
  });
  await files.writeMany(
    [
      { kind: 'directory', path: '/many-in/deep/er', mode: 0o750 },
      ...made,
      { kind: 'file', path: '/many-in/deep/er/odd \n name', mode: 0o4755, content: Buffer.from('odd') },
      { kind: 'symlink', path: '/many-in/link', target: '../many-kept' },
    ],
    { user: '77:88' },
  );
  assert.equal((await listed('/many-in')).length, 302);
  assert.equal(await text(await files.read('/many-in/299')), '299'.repeat(100).slice(0, 299));
  assert.equal((await files.stat('/many-in/7')).sizeBytes, 1024 * 1024);
  const { mode, uid, gid, kind } = await files.stat('/many-in/1');
  assert.deepEqual([mode, uid, gid, kind], [0o640, 77, 88, 'file'], 'the link was replaced');
  assert.equal((await files.stat('/many-kept')).sizeBytes, 5, 'and not written through');
  assert.equal((await files.stat('/many-in/deep/er/odd \n name')).mode, 0o4755);
  assert.deepEqual((await files.stat('/many-in/link')).target, '../many-kept');
  const read: string[] = [];
  for await (const { file, content } of files.readMany(['/many-in/5', '/many-in/7', '/many-in/link'], {
    contentMax: 1000,
  }))
    read.push(`${file.name} ${content ?? file.sizeBytes}`);
  assert.deepEqual(read, ['5 55555', '7 1048576', 'link 12345']);
});

test('the first of many that cannot be made or read ends it, with its own reason; a reader that leaves ends the work', async () => {
  await sh('mkdir /many-bad; mkfifo /many-bad/pipe; mkdir /tiny; mount -t tmpfs -o size=64k none /tiny');
  const file = (path: string, content: Uint8Array = Buffer.from('x')): NewFile => ({
    ...{ kind: 'file', path, mode: 0o644, content },
  });
  for (const [bad, failure] of [
    [file('/none/x'), { code: 'NOT_FOUND', message: /^\/none: No such file/ }],
    [file('/many-bad/..'), { code: 'INVALID' }],
    [file('/tiny/big', Buffer.alloc(200 * 1024)), { code: 'FILE_FAILED', message: /No space left/ }],
  ] as const) {
    await sh('rm -f /many-bad/before /many-bad/after');
    await assert.rejects(files.writeMany([file('/many-bad/before'), bad, file('/many-bad/after')]), failure);
    assert.deepEqual(
      (await listed('/many-bad')).map(({ name }) => name),
      ['before', 'pipe'],
      'nothing after it, and nothing half',
    );
  }
  assert.deepEqual(await listed('/tiny'), []);
  const read = async (paths: string[]) => {
    for await (const _ of files.readMany(paths, { contentMax: 1024 * 1024 })) return;
  };
  await assert.rejects(read(['/many-bad/before', '/many-bad/none']), { code: 'NOT_FOUND' });
  await assert.rejects(read(['/many-bad/pipe']), { code: 'INVALID' });
  await assert.rejects(read(Array(257).fill('/many-bad/before')), { code: 'TOO_LARGE' });
  await sh('dd if=/dev/zero of=/many-bad/large bs=1M count=1 2>/dev/null');
  await read(Array(256).fill('/many-bad/large'));
  assert.equal((await files.stat('/many-bad/large')).sizeBytes, 1024 * 1024);
});
